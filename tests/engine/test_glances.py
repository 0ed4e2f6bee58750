"""Glances: what happens to a reply while somebody still speaks into it."""

from collections.abc import AsyncGenerator

import numpy as np
import pytest

from tests.support.conversations import Conversation, conversation
from tests.support.virtual_time import run
from vita_duplex.engine.duplex import Duplex
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.events import (
    Abort,
    Accept,
    Begin,
    CancelAsked,
    Command,
    EndGlance,
    Event,
    Finish,
    GiveFloor,
    Glance,
    Glanced,
    Hold,
    Interrupt,
    QueryTyped,
    Reject,
    Resume,
    SpeechEnded,
    SpeechGrew,
    SpeechPaused,
    SpeechStarted,
    SpeechSustained,
    Swap,
    VerdictReached,
)
from vita_duplex.engine.glances import GAP_S, LIMIT_S, ROOM, ROOM_S, Glances
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import Query, Usage, Verdict
from vita_duplex.engine.notices import (
    TurnAudio,
    TurnEnded,
    TurnHeld,
    TurnResumed,
    UserStarted,
    UserStopped,
    UtteranceAccepted,
    VerdictGiven,
)
from vita_duplex.engine.pool import GLANCES, Pool
from vita_duplex.engine.ports import PartFailed

# ── the core ───────────────────────────────────────────────────────────────────────────


def play(duplex: Duplex, *events: tuple[float, Event | None]) -> list[Command]:
    """Feed events at their times (None: only time passes); return the commands of the last one."""
    commands: list[Command] = []
    for now, event in events:
        commands = duplex.tick(now) if event is None else duplex.receive(event, now)
    return commands


def glanced(**config: object) -> Duplex:
    """Utterance 2 is being spoken into the reply, which is held; glance 1 at it is under way since 2.5."""
    duplex = Duplex(DuplexConfig.model_validate(config))
    play(duplex, (0, SpeechStarted(1)), (1, SpeechEnded(1)), (1.1, VerdictReached(1, 0.9, 0.1, 0.0)))
    play(duplex, (2, SpeechStarted(2)), (2.1, SpeechSustained(2)))
    assert play(duplex, (2.5, SpeechGrew(2))) == [Glance(1, 1, 2)]
    assert duplex.held
    return duplex


def test_a_reply_goes_on_when_the_speech_is_surely_not_meant_for_it() -> None:
    duplex = glanced()
    assert play(duplex, (2.6, Glanced(1, 0.1))) == [Resume(1)]
    assert play(duplex, (5, SpeechEnded(2))) == [Begin(1, 2, (2,))]
    assert play(duplex, (5.1, VerdictReached(2, 0.1, 0.9, 0.0))) == [Abort(1, 2), Reject(2, (2,), "verdict")]


@pytest.mark.parametrize("p1", [0.4, 0.5, 0.9])
def test_it_stays_held_while_the_speech_may_be_meant_for_it(p1: float) -> None:
    duplex = glanced()
    assert play(duplex, (2.6, Glanced(1, p1))) == []
    assert duplex.held


def test_it_ends_at_once_when_the_speech_surely_is_and_the_answer_waits_for_the_end_of_it() -> None:
    duplex = glanced()
    assert play(duplex, (2.6, Glanced(1, 0.95))) == [
        Abort(0, 1), Interrupt(2), Finish(1, "cancelled", "turn_detected"), Swap(1, 0),
    ]  # fmt: skip
    assert play(duplex, (3, SpeechEnded(2))) == [Begin(1, 2, (2,))], "in the slot that has computed the dialogue"
    assert play(duplex, (3.1, VerdictReached(2, 0.9, 0.1, 0.0))) == [Accept(2, (2,)), GiveFloor(2)]


def test_a_later_glance_can_hold_it_again_and_a_doubtful_one_changes_nothing() -> None:
    duplex = glanced()
    play(duplex, (2.6, Glanced(1, 0.1)))
    assert play(duplex, (2.8, SpeechGrew(2)), (2.9, Glanced(2, 0.45))) == []
    assert play(duplex, (3.2, SpeechGrew(2)), (3.3, Glanced(3, 0.6))) == [Hold(1)]


def test_the_more_was_heard_the_less_it_takes_to_go_on() -> None:
    duplex = glanced()
    assert play(duplex, (2.6, Glanced(1, 0.4))) == []
    assert play(duplex, (2.8, SpeechGrew(2)), (2.9, Glanced(2, 0.4))) == [Resume(1)]


def test_there_is_one_at_a_time_and_so_many_a_second() -> None:
    duplex = glanced()
    assert play(duplex, (3, SpeechGrew(2))) == []
    play(duplex, (3.01, Glanced(1, 0.4)))
    assert play(duplex, (3.1, SpeechGrew(2))) == [Glance(1, 2, 2)]
    assert play(duplex, (3.11, Glanced(2, 0.4)), (3.1 + GAP_S / 2, SpeechGrew(2))) == []
    assert play(duplex, (3.1 + GAP_S, SpeechGrew(2))) == [Glance(1, 3, 2)]


def test_one_that_never_comes_back_is_given_up_and_harmless_when_it_does() -> None:
    duplex = glanced()
    assert duplex.deadline == 2.5 + LIMIT_S
    assert play(duplex, (2.5 + LIMIT_S, None)) == [EndGlance(1)]
    assert play(duplex, (5, Glanced(1, 0.1))) == []
    assert play(duplex, (5.1, SpeechGrew(2))) == [Glance(1, 2, 2)]


def test_one_that_was_given_up_says_nothing_while_the_next_is_under_way() -> None:
    duplex = glanced()
    assert play(duplex, (2.5 + LIMIT_S, None), (5, SpeechGrew(2)), (5.1, Glanced(1, 0.1))) == []
    assert play(duplex, (5.2, Glanced(2, 0.1))) == [Resume(1)]


def test_one_that_comes_after_a_pause_or_twice_or_for_speech_that_ended_is_stale() -> None:
    duplex = glanced()
    assert play(duplex, (2.6, SpeechPaused(2))) == [EndGlance(1), Begin(1, 2, (2,))]
    assert play(duplex, (2.7, Glanced(1, 0.95))) == []
    assert play(duplex, (3, SpeechEnded(2)), (3.1, Glanced(1, 0.1)), (3.2, SpeechGrew(2))) == []
    assert duplex.held


def test_one_that_is_under_way_when_the_reply_ends_is_given_up() -> None:
    assert play(glanced(), (2.6, CancelAsked(1)))[0] == EndGlance(1)
    assert play(glanced(), (2.6, QueryTyped(3)))[0] == EndGlance(1)


def test_nobody_is_asked_in_silence_or_while_a_verdict_is_coming_or_without_a_hold() -> None:
    duplex = Duplex(DuplexConfig())
    assert play(duplex, (0, SpeechStarted(1)), (0.1, SpeechSustained(1)), (0.5, SpeechGrew(1))) == []
    assert play(duplex, (0.6, SpeechEnded(1)), (0.7, SpeechGrew(1))) == []
    duplex = Duplex(DuplexConfig(barge_in="verdict"))
    play(duplex, (0, QueryTyped(1)), (2, SpeechStarted(2)), (2.1, SpeechSustained(2)))
    assert play(duplex, (2.5, SpeechGrew(2))) == []


# ── the room ───────────────────────────────────────────────────────────────────────────


def room(duplex: Duplex, first: int, count: int, start: float) -> float:
    """So many utterances into the reply are turned down, one a second; returns when they are over."""
    for number in range(first, first + count):
        at = start + number - first
        play(duplex, (at, SpeechStarted(number)), (at + 0.1, SpeechSustained(number)), (at + 0.5, SpeechEnded(number)))
        play(duplex, (at + 0.6, VerdictReached(duplex.turns, 0.1, 0.9, 0.0)))
    return start + count


def replying() -> Duplex:
    duplex = Duplex(DuplexConfig())
    play(duplex, (0, QueryTyped(1)))
    return duplex


def test_where_the_room_talks_a_reply_is_held_only_when_a_glance_says_so() -> None:
    duplex = replying()
    now = room(duplex, 2, ROOM, 1.0)
    assert play(duplex, (now, SpeechStarted(9)), (now + 0.1, SpeechSustained(9))) == []
    assert play(duplex, (now + 0.45, SpeechGrew(9)), (now + 0.5, Glanced(1, 0.45))) == []
    assert play(duplex, (now + 0.7, SpeechGrew(9)), (now + 0.8, Glanced(2, 0.6))) == [Hold(1)]


def test_a_glance_that_could_not_tell_leaves_it_to_the_sound() -> None:
    duplex = replying()
    now = room(duplex, 2, ROOM, 1.0)
    play(duplex, (now, SpeechStarted(9)), (now + 0.1, SpeechSustained(9)), (now + 0.45, SpeechGrew(9)))
    assert play(duplex, (now + 0.5, Glanced(1, None))) == [Hold(1)]


def test_the_room_is_forgotten_after_a_while_and_when_somebody_speaks_to_us() -> None:
    duplex = replying()
    now = room(duplex, 2, ROOM, 1.0) + ROOM_S
    assert play(duplex, (now, SpeechStarted(9)), (now + 0.1, SpeechSustained(9))) == [Hold(1)]
    duplex = replying()
    now = room(duplex, 2, ROOM, 1.0)
    play(duplex, (now, SpeechStarted(8)), (now + 0.5, SpeechEnded(8)))
    play(duplex, (now + 0.6, VerdictReached(duplex.turns, 0.9, 0.1, 0.0)))
    assert play(duplex, (now + 1, SpeechStarted(9)), (now + 1.1, SpeechSustained(9))) == [Hold(duplex.turns)]


def test_two_nods_are_no_room_and_one_utterance_counts_once() -> None:
    duplex = replying()
    now = room(duplex, 2, ROOM - 1, 1.0)
    assert play(duplex, (now, SpeechStarted(9)), (now + 0.1, SpeechSustained(9))) == [Hold(1)]
    glances = Glances()
    for now in range(9):
        glances.turn_down(1, now)
    assert not glances.room_talks(9)


# ── a session ──────────────────────────────────────────────────────────────────────────

STORY = ScriptedReply(p1=0.95, transcript="a story", text=" ".join(f"word{n:02}" for n in range(30)) + ".")


def reply(*glances: float, p1: float = 0.05) -> ScriptedReply:
    return ScriptedReply(p1=p1, transcript="secret words", text="The answer.", glances=glances)


async def overlapped(talk: Conversation, seconds: float) -> float:
    """Speak for so long into the first reply; returns when that began."""
    await talk.speak(0.6)
    await talk.silent_until(TurnAudio, 8)
    began = talk.session._now()
    await talk.speak(seconds)
    return began


def test_talk_of_four_seconds_pauses_the_reply_for_half_a_second_and_no_sample_is_lost() -> None:
    async def script() -> None:
        async with conversation(STORY, reply(0.05)) as talk:
            began = await overlapped(talk, 4.0)
            await talk.silent_until(TurnEnded)
            [held], [resumed] = talk.times(TurnHeld), talk.times(TurnResumed)
            assert held - began < 0.25
            assert resumed - held < 0.5
            assert talk.endings() == [(1, "completed", None)]
            assert "secret" not in repr(talk.told)
        async with conversation(STORY, reply(0.05)) as quiet:
            await quiet.speak(0.6)
            await quiet.silent_until(TurnEnded)
        assert np.array_equal(talk.audio(1), quiet.audio(1))

    run(script())


def test_what_is_surely_a_query_frees_the_engine_before_it_is_over() -> None:
    async def script() -> None:
        async with conversation(STORY, reply(0.99, p1=0.95)) as talk:
            began = await overlapped(talk, 3.0)
            [ended] = talk.times(TurnEnded)
            assert ended - began < 0.7
            assert sum(one.running for one in talk.instances) == 0, "the engine still works"
            assert talk.times(UserStarted)[1] == ended, "a stock client falls silent"
            assert len(talk.all(VerdictGiven)) == 1
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings() == [(1, "cancelled", "turn_detected"), (2, "completed", None)]
            assert [notice.utterance for notice in talk.all(UtteranceAccepted)] == [1, 2]

    run(script())


def test_a_client_that_was_told_too_soon_is_told_of_the_end() -> None:
    """A glance was sure, the verdict is not: the reply is lost, and nobody waits for more."""

    async def script() -> None:
        async with conversation(STORY, reply(0.99, p1=0.05)) as talk:
            await overlapped(talk, 2.0)
            await talk.be_silent(2.0)
            assert talk.endings() == [(1, "cancelled", "turn_detected")]
            assert [notice.accepted for notice in talk.all(VerdictGiven)] == [True, False]
            assert [notice.utterance for notice in talk.all(UserStarted)] == [1, 2]
            assert [notice.utterance for notice in talk.all(UserStopped)] == [1, 2]
            assert "secret" not in repr(talk.told)

    run(script())


def test_a_glance_is_shown_the_latest_of_the_speech_and_no_more_than_four_seconds() -> None:
    class Listens(ScriptedInstance):
        shown: list[int] = []  # noqa: RUF012

        async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Usage]:
            if query.unfinished:
                assert query.utterances[0].samples is not None
                self.shown.append(len(query.utterances[0].samples))
            async for item in super().answer(query):
                yield item

    async def script() -> None:
        instances = [Listens(name, (STORY, reply(0.05))) for name in "ab"]
        async with conversation(instances=instances) as talk:
            await overlapped(talk, 8.0)
            await talk.silent_until(TurnEnded)
        seconds = [count / 16_000 for count in Listens.shown]
        assert 0.45 < seconds[0] < 0.8, "with what was kept from before the speech"
        assert seconds == sorted(seconds)
        assert seconds[-1] == 4.0
        assert 7 <= len(seconds) <= 12

    run(script())


def test_a_radio_that_talks_without_end_costs_the_reply_two_seconds_in_a_minute() -> None:
    async def script() -> None:
        story = STORY.model_copy(update={"text": " ".join(f"word{n:03}" for n in range(45)) + "."})
        async with conversation(story, *[reply(0.05)] * 9) as talk:
            await talk.speak(0.6)
            await talk.silent_until(TurnAudio, 8)
            for _ in range(60):
                await talk.speak(1.0)
                assert len(talk.session._utterances._latest) <= 1
            assert talk.endings() == [(1, "completed", None)]
            holds = list(zip(talk.times(TurnHeld), talk.times(TurnResumed), strict=True))
            assert 1 <= len(holds) <= 3
            assert sum(resumed - held for held, resumed in holds) < 2.0
            await talk.be_silent(3.0)
            assert "secret" not in repr(talk.told)

    run(script())


def test_a_question_over_a_running_radio_is_found_and_answered() -> None:
    async def script() -> None:
        found = reply(*[0.05] * 7, 0.6, 0.7, p1=0.9)
        async with conversation(STORY, found) as talk:
            await overlapped(talk, 7.0)
            assert len(talk.times(TurnHeld)) == 2, "held again when the question was heard"
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings() == [(1, "cancelled", "turn_detected"), (2, "completed", None)]

    run(script())


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
def test_an_engine_in_trouble_at_glances_is_trouble_for_nobody(trouble: str) -> None:
    class Troubled(ScriptedInstance):
        async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Usage]:
            if query.unfinished and trouble == "fails":
                raise PartFailed(self.name, "scripted to fail")
            if query.unfinished:
                await talk.seat.changed.wait()
            async for item in super().answer(query):
                yield item

    async def script() -> None:
        nonlocal talk
        instances = [Troubled(name, (STORY, reply(p1=0.95))) for name in "ab"]
        async with conversation(instances=instances) as talk:
            await overlapped(talk, 3.0)
            assert talk.endings() == []
            assert len(talk.all(TurnHeld)) == 1
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings() == [(1, "cancelled", "turn_detected"), (2, "completed", None)]
            assert not talk.pool.doubted
            assert talk.pool.glances.total() == 0

    talk: Conversation
    run(script())


def test_an_instance_is_asked_for_few_glances_at_a_time_by_all_sessions() -> None:
    pool = Pool([ScriptedInstance("a"), ScriptedInstance("b")])
    seats, [instance, other] = [pool.seat() for _ in range(4)], pool.instances
    asked = [seat.glance(instance) for seat in seats]
    assert [one.__enter__() for one in asked] == [True] * GLANCES + [False] * (4 - GLANCES)
    with seats[0].glance(other) as allowed:
        assert allowed
    for one in asked:
        one.__exit__(None, None, None)
    with seats[3].glance(instance) as allowed:
        assert allowed


def test_in_a_room_that_talks_a_true_interruption_is_heard_within_nine_tenths_of_a_second() -> None:
    async def script() -> None:
        noises = [reply(0.05) for _ in range(ROOM)]
        story = STORY.model_copy(update={"text": " ".join(f"word{n:03}" for n in range(99)) + "."})
        async with conversation(story, *noises, reply(0.45, 0.7, p1=0.95)) as talk:
            await talk.speak(0.6)
            await talk.silent_until(TurnAudio, 8)
            for _ in range(ROOM):
                await talk.speak(0.9)
                await talk.be_silent(0.8)
            holds = len(talk.all(TurnHeld))
            began = talk.session._now()
            await talk.speak(2.0)
            assert len(talk.all(TurnHeld)) == holds + 1
            assert talk.times(TurnHeld)[-1] - began <= 0.9
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "cancelled", "turn_detected")]

    run(script())
