"""The duplex core as scripts: events in, commands out."""

import pytest

from vita_duplex.engine.duplex import UNDECIDED_LIMIT, Duplex
from vita_duplex.engine.duplex_settings import DuplexConfig, Thresholds
from vita_duplex.engine.events import (
    Abort,
    Accept,
    Begin,
    CancelAsked,
    Command,
    Event,
    Finish,
    GiveFloor,
    Hold,
    Played,
    QueryTyped,
    Reject,
    ReplyEnded,
    ReplyFailed,
    Resume,
    SettingsChanged,
    SpeechEnded,
    SpeechForgotten,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
    Swap,
    VerdictReached,
    Warm,
)

DEADLINE, HOLD_LIMIT = DuplexConfig().verdict_deadline_ms / 1000, DuplexConfig().hold_limit_s


def yes(turn: int) -> VerdictReached:
    return VerdictReached(turn, 0.9, 0.1, 0.0)


def no(turn: int) -> VerdictReached:
    return VerdictReached(turn, 0.1, 0.9, 0.0)


def play(duplex: Duplex, *events: tuple[float, Event | None]) -> list[Command]:
    """Feed events at their times (None: only time passes); return the commands of the last one."""
    commands: list[Command] = []
    for now, event in events:
        commands = duplex.tick(now) if event is None else duplex.receive(event, now)
    return commands


def speaking(**config: object) -> Duplex:
    """A duplex whose turn 1 has the floor and is still being generated."""
    duplex = Duplex(DuplexConfig.model_validate(config))
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)), (1.1, yes(1)))
    assert duplex.floor
    return duplex


def overlapping(**config: object) -> Duplex:
    """The same, and the user has just said something into the reply."""
    duplex = speaking(**config)
    play(duplex, (2, SpeechStarted(2)), (2.1, SpeechSustained(2)), (3, SpeechEnded(2)))
    return duplex


# ── no reply under way ─────────────────────────────────────────────────────────────────


def test_the_first_query_is_judged_and_answered_by_the_generator_without_a_swap() -> None:
    duplex = Duplex(DuplexConfig())
    assert play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1))) == [Begin(0, 1, (1,))]
    assert play(duplex, (1.1, yes(1))) == [Accept(1, (1,)), GiveFloor(1)]
    assert play(duplex, (2, ReplyEnded(1)), (5, Played(1))) == [Finish(1, "completed")]
    assert duplex.generator == 0


def test_noise_is_rejected_and_its_request_aborted() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)))
    assert play(duplex, (1.1, no(1))) == [Abort(0, 1), Reject(1, (1,), "verdict")]
    assert duplex.floor is None


def test_the_threshold_decides_what_is_a_query() -> None:
    strict = Duplex(DuplexConfig(verdict_threshold=0.95))
    play(strict, (0, SpeechStarted(1)), (1, SpeechEnded(1)))
    assert play(strict, (1.1, yes(1))) == [Abort(0, 1), Reject(1, (1,), "verdict")]


def test_a_typed_query_is_answered_at_once_whatever_its_verdict() -> None:
    duplex = Duplex(DuplexConfig(verdict_threshold=1.0))
    assert play(duplex, (0, QueryTyped(1))) == [Begin(0, 1, (1,)), Accept(1, (1,)), GiveFloor(1)]
    assert play(duplex, (0.1, VerdictReached(1, 0, 0, 1))) == []
    assert play(duplex, (0.2, no(1))) == []


def test_the_slot_that_would_judge_is_warmed_when_speech_begins() -> None:
    duplex = Duplex(DuplexConfig())
    assert play(duplex, (0, SpeechStarted(1))) == [Warm(0)], "nobody has the floor: the generator judges"
    assert play(duplex, (1, SpeechEnded(1)), (1.1, SpeechStarted(2))) == [], "the request did it"
    assert play(speaking(), (2, SpeechStarted(2))) == [Warm(1)], "during a reply the monitor judges"


def test_the_request_starts_at_the_first_pause_and_its_verdict_waits_for_the_end() -> None:
    duplex = Duplex(DuplexConfig())
    assert play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1))) == [Begin(0, 1, (1,))]
    assert play(duplex, (1.1, yes(1))) == []
    assert play(duplex, (1.3, SpeechEnded(1))) == [Accept(1, (1,)), GiveFloor(1)]


def test_speech_that_goes_on_withdraws_the_early_request() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1)), (1.1, yes(1)))
    assert play(duplex, (1.2, SpeechResumed(1))) == [Abort(0, 1)]
    assert play(duplex, (2, SpeechPaused(1))) == [Begin(0, 2, (1,))]
    assert play(duplex, (2.1, yes(1))) == [], "the withdrawn request's verdict is too late"
    assert play(duplex, (2.2, yes(2)), (2.3, SpeechEnded(1))) == [Accept(2, (1,)), GiveFloor(2)]


def test_what_is_said_before_the_verdict_is_judged_together_with_what_follows() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)), (1.2, SpeechStarted(2)))
    assert play(duplex, (2, SpeechPaused(2))) == [Abort(0, 1), Begin(0, 2, (1, 2))]
    assert play(duplex, (2.1, yes(2)), (2.3, SpeechEnded(2))) == [Accept(2, (1, 2)), GiveFloor(2)]


def test_what_was_said_before_is_still_judged_when_the_speech_after_it_goes_on() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)), (1.2, SpeechStarted(2)), (2, SpeechPaused(2)))
    assert play(duplex, (2.1, SpeechResumed(2))) == [Abort(0, 2), Begin(0, 3, (1,))]
    assert duplex.deadline == 2.1 + DEADLINE
    assert play(duplex, (2.2, yes(3))) == [Accept(3, (1,)), GiveFloor(3)]


def test_a_typed_query_does_not_wait_for_speech_that_goes_on() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1)))
    answered = [Abort(0, 1), Begin(0, 2, (2,)), Accept(2, (2,)), GiveFloor(2)]
    assert play(duplex, (1.1, QueryTyped(2))) == answered
    assert play(duplex, (1.2, SpeechResumed(1))) == []
    assert play(duplex, (2, SpeechEnded(1))) == [Begin(1, 3, (1,))], "what was said is judged by itself"
    assert play(duplex, (2.1, no(3))) == [Abort(1, 3), Reject(3, (1,), "verdict")]


def test_a_typed_query_does_not_make_a_query_of_the_noise_before_it() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)))
    assert play(duplex, (1.1, QueryTyped(2))) == [
        Abort(0, 1),
        Begin(0, 2, (2,)),
        Accept(2, (2,)),
        GiveFloor(2),
        Begin(1, 3, (1,)),
    ]
    assert duplex.deadline == 1.1 + DEADLINE
    assert play(duplex, (1.2, no(3))) == [Abort(1, 3), Reject(3, (1,), "verdict")]
    assert duplex.floor
    assert duplex.floor.turn == 2


def test_what_was_said_before_a_typed_query_is_answered_after_it() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)), (1.1, QueryTyped(2)))
    assert play(duplex, (1.2, yes(3))) == [
        Abort(0, 2),
        Accept(3, (1,)),
        Finish(2, "cancelled", "turn_detected"),
        Swap(generator=1, monitor=0),
        GiveFloor(3),
    ]


def test_a_typed_query_during_a_reply_stops_it_before_its_own_request_begins() -> None:
    duplex = overlapping()
    assert play(duplex, (3.1, QueryTyped(3))) == [
        Abort(1, 2),
        Abort(0, 1),
        Finish(1, "cancelled", "turn_detected"),
        Begin(0, 3, (3,)),
        Accept(3, (3,)),
        GiveFloor(3),
        Begin(1, 4, (2,)),
    ]


def test_an_early_verdict_close_to_the_threshold_does_not_decide() -> None:
    duplex = Duplex(DuplexConfig(verdict_threshold=0.6))
    play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1)), (1.1, VerdictReached(1, 0.64, 0.36, 0.0)))
    assert play(duplex, (1.3, SpeechEnded(1))) == [Abort(0, 1), Begin(0, 2, (1,), abstained=True)]
    assert duplex.deadline == 1.3 + DEADLINE
    assert play(duplex, (1.4, VerdictReached(2, 0.55, 0.45, 0.0))) == [Abort(0, 2), Reject(2, (1,), "verdict")]


def test_a_doubtful_early_verdict_that_comes_after_the_end_puts_no_deadline_off() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1)), (1.3, SpeechEnded(1)))
    assert play(duplex, (2.0, VerdictReached(1, 0.49, 0.51, 0.0))) == [Abort(0, 1), Begin(0, 2, (1,), abstained=True)]
    assert duplex.deadline == 1.3 + DEADLINE
    assert play(duplex, (2.1, VerdictReached(2, 0.51, 0.49, 0.0))) == [Accept(2, (1,)), GiveFloor(2)]


def test_an_early_verdict_outside_the_band_decides() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1)), (1.1, VerdictReached(1, 0.56, 0.44, 0.0)))
    assert play(duplex, (1.3, SpeechEnded(1))) == [Accept(1, (1,)), GiveFloor(1)]


def test_an_early_request_about_earlier_speech_too_has_a_deadline_for_that() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)), (1.2, SpeechStarted(2)), (2, SpeechPaused(2)))
    assert duplex.deadline == 2 + DEADLINE
    assert play(duplex, (2 + DEADLINE, None)) == [Abort(0, 2), Reject(2, (1,), "deadline")]
    assert play(duplex, (5, SpeechEnded(2))) == [Begin(0, 3, (2,))]


def test_an_early_request_about_earlier_speech_too_that_fails_leaves_that_one_judged() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)), (1.2, SpeechStarted(2)), (2, SpeechPaused(2)))
    assert play(duplex, (2.1, ReplyFailed(2))) == [Begin(0, 3, (1,))]
    assert duplex.deadline == 2.1 + DEADLINE


def test_an_early_request_whose_end_is_never_heard_of_is_withdrawn() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1)))
    assert duplex.deadline == 1 + HOLD_LIMIT
    assert play(duplex, (1 + HOLD_LIMIT, None)) == [Abort(0, 1)]
    assert duplex.deadline is None


def test_a_pause_told_twice_begins_one_request() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1)))
    assert play(duplex, (1.1, SpeechPaused(1))) == []


def test_endless_talk_without_a_verdict_is_given_up_piece_by_piece() -> None:
    duplex, given_up = Duplex(DuplexConfig()), []
    for number in range(1, 3 * UNDECIDED_LIMIT):
        play(duplex, (number, SpeechStarted(number)), (number + 0.5, SpeechPaused(number)))
        commands = play(duplex, (number + 0.6, SpeechEnded(number)))
        given_up += [command.utterances for command in commands if isinstance(command, Reject)]
        assert len(duplex.undecided) <= UNDECIDED_LIMIT
    first = tuple(range(1, UNDECIDED_LIMIT + 1))
    assert given_up == [first, tuple(number + UNDECIDED_LIMIT for number in first)]


def test_without_a_verdict_by_the_deadline_it_was_noise() -> None:
    duplex = Duplex(DuplexConfig(verdict_deadline_ms=1500))
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)))
    assert duplex.deadline == 1 + 1.5
    assert play(duplex, (2.4, None)) == []
    assert play(duplex, (2.5, None)) == [Abort(0, 1), Reject(1, (1,), "deadline")]
    assert play(duplex, (2.6, yes(1))) == [], "too late"
    assert duplex.deadline is None


def test_a_request_that_fails_before_its_verdict_rejects_the_utterance() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)))
    assert play(duplex, (1.1, ReplyFailed(1))) == [Reject(1, (1,), "failed")]


def test_a_stream_that_ends_without_a_verdict_counts_as_failed() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)))
    assert play(duplex, (1.1, ReplyEnded(1))) == [Reject(1, (1,), "failed")]


def test_an_early_request_that_fails_is_begun_again_at_the_end() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1)))
    assert play(duplex, (1.1, ReplyFailed(1))) == []
    assert play(duplex, (1.3, SpeechEnded(1))) == [Begin(0, 2, (1,))]


# ── during a reply ─────────────────────────────────────────────────────────────────────


def test_speech_during_a_reply_holds_it_and_is_judged_by_the_monitor() -> None:
    duplex = speaking()
    assert play(duplex, (2, SpeechStarted(2))) == [Warm(1)], "it may be a blip"
    assert play(duplex, (2.1, SpeechSustained(2))) == [Hold(1)]
    assert play(duplex, (3, SpeechEnded(2))) == [Begin(1, 2, (2,))]


def test_a_query_during_the_reply_aborts_it_before_telling_and_swaps_the_roles() -> None:
    duplex = overlapping()
    assert play(duplex, (3.2, yes(2))) == [
        Abort(0, 1),
        Accept(2, (2,)),
        Finish(1, "cancelled", "turn_detected"),
        Swap(generator=1, monitor=0),
        GiveFloor(2),
    ]
    assert (duplex.generator, duplex.monitor) == (1, 0)


def test_a_generated_reply_that_still_plays_needs_no_abort() -> None:
    duplex = overlapping()
    play(duplex, (3.1, ReplyEnded(1)))
    assert Abort(0, 1) not in play(duplex, (3.2, yes(2)))


def test_noise_during_the_reply_resumes_it_and_changes_nothing_else() -> None:
    duplex = overlapping()
    assert play(duplex, (3.2, no(2))) == [Abort(1, 2), Reject(2, (2,), "verdict"), Resume(1)]
    assert duplex.generator == 0
    assert play(duplex, (4, ReplyEnded(1)), (9, Played(1))) == [Finish(1, "completed")]


def glanced(p1: float) -> tuple[Duplex, list[Command]]:
    """Speech into a reply has paused, and the early request has its verdict; what that verdict brought about."""
    duplex = speaking()
    play(duplex, (2, SpeechStarted(2)), (2.1, SpeechSustained(2)), (2.6, SpeechPaused(2)))
    return duplex, play(duplex, (2.7, VerdictReached(2, p1, 1 - p1, 0.0)))


def test_a_nod_keeps_the_reply_waiting_only_until_its_verdict() -> None:
    duplex, decided = glanced(0.05)
    assert decided == [Resume(1)]
    assert play(duplex, (3.1, SpeechEnded(2))) == [Abort(1, 2), Reject(2, (2,), "verdict")]


@pytest.mark.parametrize("p1", [0.36, 0.5, 0.9])
def test_unless_it_surely_was_one(p1: float) -> None:
    duplex, decided = glanced(p1)
    assert decided == []
    assert duplex.held


def test_more_of_the_speech_can_hold_the_reply_again() -> None:
    duplex, _ = glanced(0.05)
    assert play(duplex, (2.8, SpeechResumed(2))) == [Abort(1, 2)]
    assert play(duplex, (3.5, SpeechPaused(2)), (3.6, yes(3))) == [Hold(1)]
    assert play(duplex, (4, SpeechEnded(2))) == [
        Abort(0, 1), Accept(3, (2,)), Finish(1, "cancelled", "turn_detected"), Swap(1, 0), GiveFloor(3),
    ]  # fmt: skip


def test_speech_behind_a_nod_holds_the_reply_like_any_other() -> None:
    duplex, _ = glanced(0.05)
    play(duplex, (3.1, SpeechEnded(2)))
    assert play(duplex, (4, SpeechStarted(3)), (4.2, SpeechSustained(3))) == [Hold(1)]


def test_no_verdict_during_the_reply_resumes_it_at_the_deadline() -> None:
    duplex = overlapping()
    assert play(duplex, (3 + DEADLINE, None)) == [Abort(1, 2), Reject(2, (2,), "deadline"), Resume(1)]


def test_each_situation_has_a_threshold_of_its_own() -> None:
    duplex = Duplex(DuplexConfig(threshold=Thresholds(speaking=0.8, after=0.4, idle=0.3)))

    def said(number: int, p1: float) -> list[Command]:
        at = 10.0 * number
        play(duplex, (at, SpeechStarted(number)), (at + 1, SpeechEnded(number)))
        return play(duplex, (at + 1.1, VerdictReached(duplex.turns, p1, 1 - p1, 0.0)))

    assert Reject(1, (1,), "verdict") in said(1, 0.2)
    assert Accept(2, (2,)) in said(2, 0.35)
    assert Reject(3, (3,), "verdict") in said(3, 0.7)
    assert Accept(4, (4,)) in said(4, 0.85)
    play(duplex, (49, ReplyEnded(4)), (49.5, Played(4)))
    assert Reject(5, (5,), "verdict") in said(5, 0.35)
    assert Accept(6, (6,)) in said(6, 0.45)


def test_speech_that_began_in_silence_is_judged_as_such_also_when_a_reply_began_meanwhile() -> None:
    duplex = Duplex(DuplexConfig(threshold=Thresholds(speaking=0.8, idle=0.3)))
    play(duplex, (0, SpeechStarted(1)), (0.5, QueryTyped(2)), (1, SpeechEnded(1)))
    assert Accept(2, (1,)) in play(duplex, (1.1, VerdictReached(2, 0.5, 0.5, 0.0)))


def test_the_client_may_change_the_threshold_of_one_situation() -> None:
    duplex = overlapping()
    play(duplex, (3.1, SettingsChanged("hold", 0.5, speaking=0.95)))
    assert Reject(2, (2,), "verdict") in play(duplex, (3.2, yes(2)))


def test_a_third_query_swaps_the_roles_back() -> None:
    duplex = overlapping()
    play(duplex, (3.2, yes(2)), (5, SpeechStarted(3)), (5.2, SpeechSustained(3)))
    assert play(duplex, (6, SpeechEnded(3))) == [Begin(0, 3, (3,))]
    assert Swap(generator=0, monitor=1) in play(duplex, (6.1, yes(3)))


def test_a_reply_that_ends_while_the_overlap_is_judged_leaves_the_floor_to_the_monitor() -> None:
    duplex = speaking(barge_in="verdict")
    play(duplex, (2, SpeechStarted(2)), (3, SpeechEnded(2)), (3.1, ReplyEnded(1)))
    assert play(duplex, (3.2, Played(1))) == [Finish(1, "completed")]
    assert play(duplex, (3.3, yes(2))) == [Accept(2, (2,)), Swap(generator=1, monitor=0), GiveFloor(2)]


def test_speech_that_goes_on_when_an_answer_begins_holds_it_at_once() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)), (1.1, SpeechStarted(2)), (1.2, SpeechSustained(2)))
    assert play(duplex, (1.3, yes(1))) == [Accept(1, (1,)), GiveFloor(1), Hold(1)]


def test_rejected_speech_does_not_end_the_hold_while_somebody_is_speaking_again() -> None:
    duplex = overlapping()
    play(duplex, (3.1, SpeechStarted(3)), (3.2, SpeechSustained(3)))
    assert play(duplex, (3.3, no(2))) == [Abort(1, 2), Reject(2, (2,), "verdict")]
    play(duplex, (4, SpeechEnded(3)))
    assert play(duplex, (4.1, no(3))) == [Abort(1, 3), Reject(3, (3,), "verdict"), Resume(1)]


def test_barge_in_verdict_keeps_talking_until_the_verdict() -> None:
    duplex = speaking(barge_in="verdict")
    assert play(duplex, (2, SpeechStarted(2)), (2.1, SpeechSustained(2))) == []
    play(duplex, (3, SpeechEnded(2)))
    assert play(duplex, (3.1, no(2))) == [Abort(1, 2), Reject(2, (2,), "verdict")]


def test_barge_in_off_ignores_what_is_said_into_a_reply() -> None:
    duplex = speaking(barge_in="off")
    assert play(duplex, (2, SpeechStarted(2)), (2.1, SpeechSustained(2))) == []
    assert play(duplex, (2.5, SpeechPaused(2)), (3, SpeechEnded(2))) == []
    assert duplex.undecided == ()
    play(duplex, (4, ReplyEnded(1)), (5, Played(1)), (6, SpeechStarted(3)))
    assert play(duplex, (7, SpeechEnded(3))) == [Begin(0, 2, (3,))], "after the reply it listens again"


def test_a_hold_whose_end_is_never_heard_of_ends_by_itself() -> None:
    duplex = speaking()
    play(duplex, (2, SpeechStarted(2)), (2.5, SpeechSustained(2)))
    assert duplex.deadline == 2.5 + HOLD_LIMIT
    assert play(duplex, (2.5 + HOLD_LIMIT, None)) == [Resume(1)]


def test_a_hold_at_the_very_end_of_a_reply_is_taken_back_before_the_reply_completes() -> None:
    duplex = speaking()
    play(duplex, (2, ReplyEnded(1)), (3, SpeechStarted(2)), (3.1, SpeechSustained(2)))
    assert play(duplex, (3.1, Played(1))) == [Resume(1), Finish(1, "completed")]


def test_the_client_can_cancel_the_reply() -> None:
    duplex = speaking()
    assert play(duplex, (1.9, CancelAsked(0))) == [], "a reply that is over already"
    assert play(duplex, (2, CancelAsked(1))) == [Abort(0, 1), Finish(1, "cancelled", "client_cancelled")]
    assert play(duplex, (2.1, CancelAsked(1))) == []


def test_an_engine_that_fails_while_speaking_fails_the_turn_after_what_it_said() -> None:
    duplex = speaking()
    assert play(duplex, (2, ReplyFailed(1))) == []
    assert play(duplex, (4, Played(1))) == [Finish(1, "failed", "instance_failed")]


def test_repeated_and_late_events_change_nothing() -> None:
    duplex = overlapping()
    play(duplex, (3.2, yes(2)))
    for event in (yes(2), yes(1), ReplyEnded(1), Played(1), SpeechEnded(2), SpeechStarted(2), ReplyFailed(1)):
        assert play(duplex, (3.3, event)) == [], event
    assert play(duplex, (3.4, Played(2))) == [], "it is still being generated"


# ── settings changed in mid-session ────────────────────────────────────────────────────


def test_a_new_threshold_decides_about_what_is_being_judged() -> None:
    duplex = overlapping()
    assert play(duplex, (3.1, SettingsChanged("hold", 0.95))) == []
    assert play(duplex, (3.2, yes(2))) == [Abort(1, 2), Reject(2, (2,), "verdict"), Resume(1)]


def test_a_verdict_that_waits_for_the_end_of_speech_is_compared_with_the_threshold_of_then() -> None:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, SpeechStarted(1)), (1, SpeechPaused(1)), (1.1, VerdictReached(1, 0.3, 0.7, 0.0)))
    play(duplex, (1.2, SettingsChanged("hold", 0.2)))
    assert play(duplex, (1.3, SpeechEnded(1))) == [Accept(1, (1,)), GiveFloor(1)]


def test_a_hold_that_has_begun_waits_for_its_verdict_whatever_is_wanted_then() -> None:
    for barge_in in ("verdict", "off"):
        duplex = overlapping()
        assert play(duplex, (3.1, SettingsChanged(barge_in, 0.5))) == []
        assert duplex.held
        assert play(duplex, (3.2, no(2))) == [Abort(1, 2), Reject(2, (2,), "verdict"), Resume(1)]
        assert play(duplex, (4, SpeechStarted(3)), (4.2, SpeechSustained(3))) == []
        assert not duplex.held


def test_who_is_being_heard_when_barging_in_is_switched_off_is_still_judged_and_the_next_is_not() -> None:
    duplex = speaking()
    play(duplex, (2, SpeechStarted(2)), (2.1, SettingsChanged("off", 0.5)))
    assert play(duplex, (2.2, SpeechSustained(2))) == [], "no hold begins any more"
    assert play(duplex, (3, SpeechEnded(2))) == [Begin(1, 2, (2,))]
    play(duplex, (3.1, no(2)), (4, SpeechStarted(3)))
    assert play(duplex, (5, SpeechEnded(3))) == []


def test_who_was_ignored_stays_ignored_when_barging_in_is_switched_on() -> None:
    duplex = speaking(barge_in="off")
    play(duplex, (2, SpeechStarted(2)), (2.1, SettingsChanged("hold", 0.5)))
    assert play(duplex, (2.2, SpeechSustained(2)), (3, SpeechEnded(2))) == []
    assert play(duplex, (4, SpeechStarted(3)), (4.2, SpeechSustained(3))) == [Hold(1)]


# ── speech that the client forgets ─────────────────────────────────────────────────────


def test_forgotten_speech_is_never_judged_and_a_reply_held_for_it_goes_on() -> None:
    duplex = speaking()
    play(duplex, (2, SpeechStarted(2)), (2.1, SpeechSustained(2)), (2.4, SpeechPaused(2)))
    assert play(duplex, (2.5, SpeechForgotten(2))) == [Abort(1, 2), Resume(1)]
    assert play(duplex, (2.6, SpeechEnded(2)), (2.7, yes(2))) == []
    assert duplex.undecided == ()


def test_what_was_said_before_forgotten_speech_is_still_judged() -> None:
    duplex = overlapping()
    play(duplex, (3.1, SpeechStarted(3)), (3.4, SpeechPaused(3)))
    assert play(duplex, (3.5, SpeechForgotten(3))) == [Abort(1, 3), Begin(1, 4, (2,))]
    assert play(duplex, (3.6, no(4))) == [Abort(1, 4), Reject(4, (2,), "verdict"), Resume(1)]


def test_only_what_is_being_said_can_be_forgotten() -> None:
    duplex = overlapping()
    assert play(duplex, (3.1, SpeechForgotten(2)), (3.2, SpeechForgotten(9))) == []
