"""The eleven invariants of a duplex session, over random interleavings of everything that can happen to it.

Three machines: the pure core alone; a whole session (dialogue, ledger and speech included) with scripted ears,
engines and voice on virtual time; the pool. Each invariant is a check of its own, named for it; the machines run all
checks that their log allows, so a failure names the invariant. What is repeated, late, lost or out of order is part
of the play.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.virtual_time import VirtualLoop
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.duplex import ABSTAIN_BAND, Duplex
from vita_duplex.engine.duplex_settings import DuplexConfig, Thresholds
from vita_duplex.engine.events import (
    Abort,
    Accept,
    AnswerAsked,
    BargeIn,
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
    Played,
    QueryTyped,
    Reject,
    ReplyEnded,
    ReplyFailed,
    Resume,
    SaidInto,
    SettingsChanged,
    SpeechEnded,
    SpeechForgotten,
    SpeechGrew,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
    Swap,
    VerdictReached,
)
from vita_duplex.engine.glances import GAP_S, LIMIT_S
from vita_duplex.engine.instances.scripted import ScriptedInstance
from vita_duplex.engine.messages import AssistantMessage, Call, CallMessage, Message, Query, Verdict
from vita_duplex.engine.notices import (
    Notice,
    PartTrouble,
    Roles,
    TurnAudio,
    TurnCalled,
    TurnEnded,
    TurnHeld,
    TurnRecorded,
    TurnResumed,
    TurnStarted,
    UserStarted,
    UtteranceAccepted,
    VerdictGiven,
)
from vita_duplex.engine.pool import Pool, Seat
from vita_duplex.engine.ports import Heard, PartFailed, SpeechEvent
from vita_duplex.engine.requests import STALL_LIMIT_S
from vita_duplex.engine.session import ABORT_LIMIT_S, Session
from vita_duplex.engine.settings import Configure, ReplySettings
from vita_duplex.tts.speech import PacedSpeech, SpeechConfig

HOLD_LIMIT_S = 12.0
PROBABILITIES = st.sampled_from([0.02, 0.3, 0.47, 0.49, 0.5, 0.53, 0.7, 0.98])
BARGE_INS = st.sampled_from(["hold", "hold", "verdict", "off"])
THRESHOLDS = st.sampled_from([0.5, 0.5, 0.6])
OWN_THRESHOLDS = st.sampled_from([None, None, 0.48, 0.6])
CONFIGS = st.builds(
    DuplexConfig,
    barge_in=BARGE_INS,
    verdict_threshold=THRESHOLDS,
    threshold=st.builds(Thresholds, speaking=OWN_THRESHOLDS, after=OWN_THRESHOLDS, idle=OWN_THRESHOLDS),
    verdict_deadline_ms=st.just(1500),
    hold_limit_s=st.just(HOLD_LIMIT_S),
    first_limit_s=st.sampled_from([0.8, 20.0]),
    stall_limit_s=st.sampled_from([0.8, 20.0]),
)


class Ears:
    """What an endpointer notices, in the orders it can; typed queries are numbered with the utterances."""

    NEXT: dict[str, tuple[type[SpeechEvent], ...]] = {  # noqa: RUF012
        "silence": (SpeechStarted,),
        "speech": (SpeechSustained, SpeechPaused, SpeechEnded, SpeechGrew, SpeechForgotten),
        "long speech": (SpeechGrew, SpeechPaused, SpeechForgotten, SpeechEnded),
        "pause": (SpeechResumed, SpeechEnded, SpeechForgotten),
    }
    STATE: dict[type[SpeechEvent], str] = {  # noqa: RUF012
        SpeechStarted: "speech",
        SpeechSustained: "long speech",
        SpeechPaused: "pause",
        SpeechResumed: "speech",
        SpeechGrew: "long speech",
        SpeechEnded: "silence",
        SpeechForgotten: "silence",
    }

    def __init__(self) -> None:
        self.number = 0
        self._utterance = 0
        self._state = "silence"

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def notice(self, choice: int) -> SpeechEvent:
        options = self.NEXT[self._state]
        return self._notice(options[choice % len(options)])

    def utter(self, script: tuple[type[SpeechEvent], ...]) -> Iterator[SpeechEvent]:
        """A whole utterance, or what of it is possible now."""
        for kind in script:
            if kind in self.NEXT[self._state]:
                yield self._notice(kind)

    def _notice(self, kind: type[SpeechEvent]) -> SpeechEvent:
        if kind is SpeechStarted:
            self._utterance = self.next_number()
        self._state = self.STATE[kind]
        return kind(self._utterance)


UTTERANCES = st.sampled_from(
    [
        (SpeechStarted, SpeechPaused, SpeechEnded),
        (SpeechStarted, SpeechSustained, SpeechPaused, SpeechEnded),
        (SpeechStarted, SpeechPaused, SpeechResumed, SpeechSustained, SpeechPaused, SpeechEnded),
        (SpeechStarted, SpeechSustained, SpeechEnded),
        (SpeechStarted, SpeechSustained, SpeechGrew, SpeechGrew, SpeechPaused, SpeechEnded),
        (SpeechStarted, SpeechSustained, SpeechGrew, SpeechEnded),
        (SpeechStarted, SpeechSustained, SpeechPaused, SpeechResumed, SpeechGrew, SpeechEnded),
        (SpeechStarted, SpeechSustained, SpeechGrew),
        (SpeechStarted, SpeechSustained, SpeechPaused, SpeechForgotten),
        (SpeechStarted, SpeechSustained, SpeechForgotten),
    ]
)


# ── the core ───────────────────────────────────────────────────────────────────────────


@dataclass
class Step:
    """One event and what the core decided; with `event` None, a tick."""

    now: float
    event: Event | None
    commands: list[Command]
    waiting: bool
    """Something is held or judged after it …"""
    deadline: float | None
    """… and until when at most."""
    config: DuplexConfig
    """By which it was decided."""


Steps = list[Step]


def core_1_at_most_one_turn_is_audible(steps: Steps) -> None:
    floor = None
    for step in steps:
        for command in step.commands:
            match command:
                case GiveFloor(turn):
                    assert floor is None, f"turn {turn} while {floor} has the floor"
                    floor = turn
                case Hold(turn) | Resume(turn):
                    assert turn == floor
                case Finish(turn):
                    assert turn == floor
                    floor = None


def core_3_a_rejected_utterance_changes_nothing_but_the_hold(steps: Steps) -> None:
    floor, held = None, False
    for step in steps:
        rejects = [command for command in step.commands if isinstance(command, Reject)]
        for command in step.commands:
            match command:
                case GiveFloor(turn):
                    floor, held = turn, False
                case Hold():
                    assert not held
                    held = True
                case Resume():
                    assert held
                    held = False
                case Finish():
                    assert not (rejects and not isinstance(step.event, SpeechEnded)), "a rejected one ended a reply"
                    floor = None
                case Abort(_, turn) if rejects:
                    assert turn != floor, "a rejected one aborted a reply"
                case Swap():
                    assert not rejects or isinstance(step.event, SpeechEnded)


def core_4_a_request_is_aborted_before_its_end_is_told_and_each_slot_has_one(steps: Steps) -> None:
    running: dict[int, int] = {}
    for step in steps:
        if isinstance(step.event, ReplyEnded | ReplyFailed):
            running.pop(step.event.turn, None)  # an engine's request that has ended needs no abort
        for command in step.commands:
            match command:
                case Begin(slot, turn):
                    assert slot not in running.values(), "two requests in one slot"
                    running[turn] = slot
                case Abort(slot, turn):
                    assert running.pop(turn) == slot, "aborted twice, or in the wrong slot"
                case Finish(turn) | Reject(turn):
                    assert turn not in running, "told before it was aborted"


def core_5_each_turn_ends_once(steps: Steps) -> None:
    commands = [command for step in steps for command in step.commands]
    ended = Counter(command.turn for command in commands if isinstance(command, Finish))
    assert ended == Counter(command.turn for command in commands if isinstance(command, GiveFloor))
    assert set(ended.values()) <= {1}
    over: dict[int, type[Event]] = {}
    for step in steps:
        if isinstance(step.event, ReplyEnded | ReplyFailed):
            over.setdefault(step.event.turn, type(step.event))
        for command in step.commands:
            match command:
                case Finish(turn, "completed"):
                    assert (step.event, over[turn]) == (Played(turn), ReplyEnded), "completed too soon"
                case Finish(turn, "failed"):
                    assert (step.event, over[turn]) == (Played(turn), ReplyFailed)
                case Finish(turn, "cancelled", "client_cancelled"):
                    assert step.event == CancelAsked(turn), "the wrong one was cancelled"


def core_6_what_is_accepted_is_what_the_request_was_about_and_nothing_is_forgotten(
    steps: Steps,
) -> None:
    asked: dict[int, tuple[int, ...]] = {}
    undecided: list[int] = []
    for step in steps:
        if isinstance(step.event, SpeechEnded) and step.commands:
            undecided.append(step.event.utterance)
        for command in step.commands:
            match command:
                case Begin(_, turn, utterances):
                    asked[turn] = utterances
                case Accept(turn, utterances):
                    assert utterances == asked[turn]
                    undecided = [number for number in undecided if number not in utterances]
                case Reject(turn, utterances):
                    assert utterances, "nothing was rejected"
                    assert set(utterances) <= set(asked[turn])
                    undecided = [number for number in undecided if number not in utterances]
    assert undecided == [], "over, and neither accepted nor rejected"


def core_7_what_is_rejected_is_never_heard_of_again_and_only_what_the_verdict_allows_is_accepted(
    steps: Steps,
) -> None:
    decided: set[int] = set()
    verdicts: dict[int, float] = {}
    typed: set[int] = set()
    over: set[int] = set()
    early: set[int] = set()
    said_into: dict[int, SaidInto] = {}
    asked: dict[int, int] = {}  # the first of a turn's utterances
    floor, replied = False, False
    for step in steps:
        match step.event:
            case SpeechStarted(utterance):
                said_into.setdefault(utterance, "speaking" if floor else "after" if replied else "idle")
            case VerdictReached(turn, p1):
                verdicts.setdefault(turn, p1)
            case QueryTyped(utterance) | AnswerAsked(utterance):
                typed.add(utterance)
            case SpeechEnded(utterance):
                over.add(utterance)
        for command in step.commands:
            match command:
                case GiveFloor():
                    floor = True
                case Finish():
                    floor, replied = False, True
                case Begin(_, turn, utterances):
                    asked[turn] = utterances[0]
                    assert not decided & set(utterances), "judged again"
                    if not set(utterances) <= over | typed:
                        early.add(turn)
                case Accept(turn, utterances):
                    assert not decided & set(utterances), "decided twice"
                    decided |= set(utterances)
                    if not set(utterances) <= typed:
                        assert not typed & set(utterances), "a typed query made a query of what was said"
                        over_by = verdicts[turn] - step.config.threshold_in(said_into[asked[turn]])
                        assert over_by >= (ABSTAIN_BAND if turn in early else 0), "doubtful"
                case Reject(turn, utterances, reason):
                    assert not (decided | typed) & set(utterances), "decided twice"
                    decided |= set(utterances)
                    if reason == "verdict":
                        under_by = step.config.threshold_in(said_into[asked[turn]]) - verdicts[turn]
                        assert under_by > 0
                        assert turn not in early or under_by >= ABSTAIN_BAND, "doubtful"


def core_9_whatever_is_held_or_judged_has_a_deadline(steps: Steps) -> None:
    for step in steps:
        if step.waiting:
            assert step.deadline is not None, f"waits for ever after {step.event}"
            assert step.now - 1e-9 <= step.deadline <= step.now + HOLD_LIMIT_S
    assert not steps[-1].waiting, "something waits although every deadline has passed"


def core_11_a_glance_changes_what_is_heard_and_nothing_else(steps: Steps) -> None:
    under_way: tuple[int, float] | None = None
    latest = -GAP_S
    for step in steps:
        if under_way and isinstance(step.event, Glanced) and step.event.glance == under_way[0]:
            under_way = None
            assert not [one for one in step.commands if isinstance(one, Begin | Accept | Reject | GiveFloor | Glance)]
        elif isinstance(step.event, Glanced):
            assert step.commands == [], "a glance that nobody waits for"
        for command in step.commands:
            match command:
                case Glance(_, glance):
                    assert under_way is None, "two at a time"
                    assert step.now >= latest + GAP_S - 1e-9, "too many a second"
                    under_way, latest = (glance, step.now), step.now
                case EndGlance(glance):
                    assert command is step.commands[0]
                    assert under_way is not None
                    assert under_way[0] == glance
                    under_way = None
                case Interrupt():
                    assert isinstance(step.event, Glanced)
        assert under_way is None or step.now < under_way[1] + LIMIT_S, "it waits for ever"
    assert under_way is None


TOLD = (Accept, Reject, Hold, Resume, Finish, GiveFloor, Interrupt)
OF_A_TURN = (Begin, Accept, GiveFloor, Hold, Resume, Finish)
OF_TWO_TURNS = (Finish, Swap, GiveFloor)


def core_12_what_is_forgotten_is_never_asked_about_again_and_holds_nothing(steps: Steps) -> None:
    started: set[int] = set()
    over: set[int] = set()
    forgotten: set[int] = set()
    held = False
    for step in steps:
        match step.event:
            case SpeechStarted(utterance) if utterance > max(started, default=0):
                started.add(utterance)
            case SpeechEnded(utterance):
                over.add(utterance)
        for command in step.commands:
            match command:
                case Begin(_, _, utterances) | Accept(_, utterances) | Reject(_, utterances):
                    assert not forgotten & set(utterances)
                case Hold():
                    held = True
                case Resume() | Finish() | GiveFloor():
                    held = False
        newest = max(started - over, default=0)
        if step.event == SpeechForgotten(newest) and newest == max(started):
            forgotten.add(newest)
            assert not held or step.waiting


def core_commands_come_in_the_order_that_the_shell_relies_on(steps: Steps) -> None:
    for step in steps:
        kinds = [type(command) for command in step.commands]
        aborts = [place for place, kind in enumerate(kinds) if kind is Abort]
        told = [place for place, kind in enumerate(kinds) if kind in TOLD]
        assert not aborts or not told or max(aborts) < min(told), "told before the engine was"
        for turn in {command.turn for command in step.commands if isinstance(command, OF_A_TURN)}:
            own = [type(one) for one in step.commands if isinstance(one, OF_A_TURN) and one.turn == turn]
            assert own == sorted(own, key=OF_A_TURN.index)
        between = [kind for kind in kinds if kind in OF_TWO_TURNS]
        assert between == sorted(between, key=OF_TWO_TURNS.index)


def core_what_waits_for_the_reply_under_way_is_asked_once_it_is_over_unless_the_user_went_on(steps: Steps) -> None:
    waiting: int | None = None
    asked: set[int] = set()
    floor = None
    for step in steps:
        if isinstance(step.event, AnswerAsked) and floor is not None and step.event.utterance not in asked:
            assert step.commands == [], "it interrupted"
            waiting = step.event.utterance
            asked.add(waiting)
        for command in step.commands:
            match command:
                case GiveFloor(turn):
                    floor = turn
                case Finish(_, status):
                    floor = None
                    if status == "cancelled":
                        waiting = None
                case Begin(_, _, (utterance,)) if utterance == waiting:
                    assert floor is None
                    waiting = None
                case Begin(_, _, utterances):
                    assert not asked & set(utterances), "asked twice, or after the user went on"
        if isinstance(step.event, QueryTyped | AnswerAsked):
            asked.add(step.event.utterance)
    assert waiting is None, "forgotten"


CORE_CHECKS = [
    core_what_waits_for_the_reply_under_way_is_asked_once_it_is_over_unless_the_user_went_on,
    core_commands_come_in_the_order_that_the_shell_relies_on,
    core_1_at_most_one_turn_is_audible,
    core_3_a_rejected_utterance_changes_nothing_but_the_hold,
    core_4_a_request_is_aborted_before_its_end_is_told_and_each_slot_has_one,
    core_5_each_turn_ends_once,
    core_6_what_is_accepted_is_what_the_request_was_about_and_nothing_is_forgotten,
    core_7_what_is_rejected_is_never_heard_of_again_and_only_what_the_verdict_allows_is_accepted,
    core_9_whatever_is_held_or_judged_has_a_deadline,
    core_11_a_glance_changes_what_is_heard_and_nothing_else,
    core_12_what_is_forgotten_is_never_asked_about_again_and_holds_nothing,
]


def core_state_is_in_the_table(duplex: Duplex) -> None:
    """The table in the docstring of `Duplex`."""
    ended, pending, floor = duplex._ended, duplex.pending, duplex.floor
    if ended:
        assert pending, "over, and nobody asks about it"
        if pending.utterances == ended:
            assert pending.verdict is None, "a verdict that is not used"
        else:
            assert pending.early
            assert pending.utterances[:-1] == ended
    elif pending:
        assert pending.early
        assert len(pending.utterances) == 1
    assert not pending or pending.generating or pending.verdict
    assert not duplex._sustained or duplex._talking is not None
    assert not floor or not (floor.generating and floor.failed)
    if glance := duplex._glances.under_way:
        assert (glance.utterance, glance.turn) == (duplex._talking, floor and floor.turn)
        assert not pending


class CoreMachine(RuleBasedStateMachine):
    """The core, told of whatever may happen."""

    @initialize(config=CONFIGS)
    def begin(self, config: DuplexConfig) -> None:
        self.duplex = Duplex(config)
        self.ears = Ears()
        self.now = 0.0
        self.steps: Steps = []
        self.past: list[Event] = []
        self.running: list[int] = []  # turns whose engine may still say something
        self.begun: list[int] = []
        self.glances: list[int] = []
        self.the_user_types()

    def receive(self, event: Event | None) -> None:
        commands = self.duplex.tick(self.now) if event is None else self.duplex.receive(event, self.now)
        duplex = self.duplex
        waiting = duplex.held or duplex.pending is not None or bool(duplex._ended)
        self.steps.append(Step(self.now, event, commands, waiting, duplex.deadline, duplex.config))
        core_state_is_in_the_table(duplex)
        for command in commands:
            match command:
                case Begin(_, turn):
                    self.running.append(turn)
                    self.begun.append(turn)
                case Abort(_, turn):
                    if turn in self.running:
                        self.running.remove(turn)
                case Glance(_, glance):
                    self.glances.append(glance)

    def happens(self, event: Event) -> None:
        self.past.append(event)
        self.receive(event)

    @rule(choice=st.integers(0, 3))
    def the_ears_notice_something(self, choice: int) -> None:
        self.happens(self.ears.notice(choice))

    @rule(script=UTTERANCES, p1=st.none() | PROBABILITIES, again_s=st.sampled_from([0.0, 0.3]))
    def the_user_says_something(self, script: tuple[type[SpeechEvent], ...], p1: float | None, again_s: float) -> None:
        """The early request may be judged before the end, and glances be over in no time."""
        for event in self.ears.utter(script):
            self.happens(event)
            if isinstance(event, SpeechPaused) and p1 is not None and self.running:
                self.an_engine_judges(-1, p1)
            if isinstance(event, SpeechGrew) and p1 is not None and self.glances:
                self.a_glance_tells(1, p1)
                self.time_passes(again_s)

    @rule(choice=st.integers(0, 2))
    def what_the_ears_notice_is_lost(self, choice: int) -> None:
        self.past.append(self.ears.notice(choice))

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 1.5, 4.0, 13.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while self.duplex.deadline is not None and self.duplex.deadline <= until:
            self.now = max(self.now, self.duplex.deadline)
            self.receive(None)
            assert self.duplex.deadline is None or self.duplex.deadline > self.now, "invariant 9: nothing was done"
        self.now = until

    @precondition(lambda self: self.running)
    @rule(which=st.integers(-2, -1), p1=PROBABILITIES)
    def an_engine_judges(self, which: int, p1: float) -> None:
        self.happens(VerdictReached(self.running[max(which, -len(self.running))], p1, 1 - p1, 0.0))

    @precondition(lambda self: self.glances)
    @rule(back=st.integers(1, 3), p1=st.none() | PROBABILITIES)
    def a_glance_tells(self, back: int, p1: float | None) -> None:
        """In time, late, again, or that it could not tell; or never."""
        self.happens(Glanced(self.glances[-min(back, len(self.glances))], p1))

    @precondition(lambda self: self.begun)
    @rule(back=st.integers(1, 3), p1=PROBABILITIES)
    def an_aborted_engine_judges_nevertheless(self, back: int, p1: float) -> None:
        turn = self.begun[-min(back, len(self.begun))]
        if turn not in self.running:
            self.receive(VerdictReached(turn, p1, 1 - p1, 0.0))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(-2, -1), fails=st.booleans())
    def an_engine_is_done(self, which: int, fails: bool) -> None:
        turn = self.running.pop(max(which, -len(self.running)))
        self.happens(ReplyFailed(turn) if fails else ReplyEnded(turn))

    @rule()
    def the_user_types(self) -> None:
        self.happens(QueryTyped(self.ears.next_number()))

    @rule()
    def the_client_asks_for_an_answer_that_can_wait(self) -> None:
        self.happens(AnswerAsked(self.ears.next_number()))

    @rule(barge_in=BARGE_INS, threshold=THRESHOLDS, speaking=OWN_THRESHOLDS)
    def the_client_wants_it_decided_otherwise(
        self, barge_in: BargeIn, threshold: float, speaking: float | None
    ) -> None:
        self.happens(SettingsChanged(barge_in, threshold, speaking))

    @precondition(lambda self: self.duplex.floor)
    @rule(played=st.booleans())
    def the_reply_was_heard_or_is_unwanted(self, played: bool) -> None:
        assert self.duplex.floor
        turn = self.duplex.floor.turn
        self.happens(Played(turn) if played else CancelAsked(turn))

    @precondition(lambda self: self.duplex.floor)
    @rule()
    def the_reply_is_generated_and_heard_to_its_end(self) -> None:
        assert self.duplex.floor
        turn = self.duplex.floor.turn
        if turn in self.running:
            self.running.remove(turn)
            self.happens(ReplyEnded(turn))
        self.happens(Played(turn))

    @precondition(lambda self: self.past)
    @rule(back=st.integers(1, 12))
    def something_comes_late_or_again(self, back: int) -> None:
        event = self.past[-min(back, len(self.past))]
        if isinstance(event, ReplyEnded | ReplyFailed) and event.turn in self.running:
            self.running.remove(event.turn)
        self.receive(event)

    @rule(
        event=st.sampled_from(
            [
                VerdictReached(999, 1.0, 0.0, 0.0),
                Glanced(999, 1.0),
                ReplyEnded(999),
                ReplyFailed(999),
                Played(999),
                CancelAsked(999),
            ]
            + [kind(999) for kind in (SpeechSustained, SpeechPaused, SpeechResumed, SpeechGrew, SpeechEnded)]
        )
    )
    def something_unheard_of_comes(self, event: Event) -> None:
        assert self.duplex.receive(event, self.now) == []

    def teardown(self) -> None:
        if not self.steps:
            return
        for _ in range(4):
            self.time_passes(HOLD_LIMIT_S)
        if self.duplex.floor:
            self.receive(CancelAsked(self.duplex.floor.turn))
        for check in CORE_CHECKS:
            check(self.steps)


# ── the session ────────────────────────────────────────────────────────────────────────

RATE = 1000
LETTER = 50
"""Samples of a character: 20 characters a second, twice as fast as the voice a ledger allows for."""
SENTENCES = ("so it is. ", "one two three four. ", "a longer sentence of words for the ear, with a comma in it. ")


@dataclass
class Voice:
    """One turn's voice: its samples are numbered from 0, so that none can be lost or repeated unseen."""

    part: int
    """Samples it yields at a time."""
    part_s: float
    made: int = 0
    rate: int = RATE

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        left = LETTER * len(text)
        while left:
            await asyncio.sleep(self.part_s)
            count = min(self.part, left)
            self.made, left = self.made + count, left - count
            yield np.arange(self.made - count, self.made, dtype=np.float32)


@dataclass
class Request:
    """One request at an engine, as that sees it."""

    turn: int
    query: Query
    items: asyncio.Queue[Verdict | str | Call | PartFailed | None] = field(default_factory=asyncio.Queue)
    judged: bool = False
    closed: bool = False


class Engine:
    """An instance that says what the machine tells it to say."""

    def __init__(self, name: str, world: "World", close_s: float) -> None:
        self.name = name
        self.healthy = True
        self.requests: list[Request] = []
        self.glances: list[asyncio.Queue[Verdict | PartFailed]] = []
        self._world = world
        self._close_s = close_s

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Call]:
        if query.unfinished:
            yield await self._glance(query)
        task = asyncio.current_task()
        assert task
        request = Request(int(task.get_name().removeprefix("answer ")), query)
        request.judged = query.answer_so_far is not None
        self.requests.append(request)
        self._world.request_begun(self, request)
        try:
            while (item := await request.items.get()) is not None:
                if isinstance(item, PartFailed):
                    raise item
                if isinstance(item, Call):
                    self._world.made.setdefault(request.turn, []).append(item.id)
                if isinstance(item, str):
                    self._world.said[request.turn] = self._world.said.get(request.turn, "") + item
                yield item
        finally:
            try:
                await asyncio.sleep(self._close_s)
            finally:
                request.closed = True
                self.requests.remove(request)

    async def _glance(self, query: Query) -> Verdict:
        assert query.situation.reply == "speaking"
        answer: asyncio.Queue[Verdict | PartFailed] = asyncio.Queue()
        self.glances.append(answer)
        try:
            if isinstance(item := await answer.get(), PartFailed):
                raise item
            return item
        finally:
            self.glances.remove(answer)

    async def warm(self, query: Query) -> None:
        await asyncio.sleep(3)

    def restart(self) -> None: ...

    def fail(self) -> None:
        for request in self.requests:
            request.items.put_nowait(PartFailed(self.name, "it died"))
        for glance in self.glances:
            glance.put_nowait(PartFailed(self.name, "it died"))

    def close(self) -> None: ...


@dataclass
class Playback:
    """A reply at the client: what came, and how far it is played."""

    turn: int
    pauses: bool
    began: float
    texts: list[str] = field(default_factory=list)
    received: int = 0
    clock: float = 0.0
    """Samples played, if the client is as fast as can be."""
    held: bool = False
    lag: int = 0
    said: int = 0
    end: int | None = None
    over: bool = False
    completed: bool = False

    def pass_until(self, now: float) -> None:
        if not self.over and not (self.held and self.pauses):
            self.clock = min(self.received, self.clock + (now - self.began) * RATE)
        self.began = now

    @property
    def heard(self) -> float:
        heard = min(self.received, max(self.said, self.clock - self.lag))
        heard = self.received if self.completed else heard
        return heard if self.end is None else min(heard, self.end)

    def words(self, heard: float) -> list[str]:
        """The words whose middle lies within the first `heard` samples."""
        words, start = [], 0
        for text in self.texts:
            at = 0
            for word in text.split():
                if start + LETTER * (at + len(word) / 2) <= heard:
                    words.append(word)
                at += len(word) + 1
            start += LETTER * len(text)
        return words


@dataclass
class Begun:
    """A request as it began: what it was told, what it should have been told, and who was up."""

    turn: int
    instance: str
    slot: int
    healthy: dict[str, bool]
    """And not doubted."""
    history: tuple[Message, ...]
    expected: "Expected"


Expected = list[str | tuple[list[str], list[str]]]
"""The dialogue as the client knows it: queries, and of each reply the words heard, at least and at most."""


class World:
    """A session, its scripted surroundings, and the client's view of it."""

    def __init__(self, config: DuplexConfig, pauses: bool, part: int, part_s: float, close_s: float) -> None:
        self.config = config
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.told: list[tuple[float, Notice]] = []
        self.begun: list[Begun] = []
        self.playbacks: dict[int, Playback] = {}
        self.talk: list[str | Playback] = []
        self.aborted_late: list[int] = []
        self.speeches: dict[int, PacedSpeech] = {}
        self.made_at_end: dict[int, int] = {}
        self.engines = (Engine("a", self, close_s), Engine("b", self, close_s))
        self.pool = Pool(self.engines)
        self.said: dict[int, str] = {}
        self.made: dict[int, list[str]] = {}
        """By turn, the calls that its engines made, by id."""
        self.outputs: dict[str, bool] = {}
        """Of which calls the client has given an output, and whether it was late."""
        self.asked_for: set[str] = set()
        """Calls whose outputs the client wanted answered."""
        self.asked: dict[int, set[str]] = {}
        """By turn, the instances that were asked for it."""
        self._began: dict[int, tuple[dict[str, bool], Expected]] = {}
        self._speeches: list[PacedSpeech] = []
        self.whole = part_s == 0
        self._pauses = pauses
        self._part, self._part_s = part, part_s
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()
        self._sample = 0
        self.session = self.loop.run_until_complete(self._open())
        self.running = self.loop.create_task(self.session.run())

    async def _open(self) -> Session:
        return Session(self.config, self.pool.seat(), self, self._open_speech, self)

    def _open_speech(self, _: str | None) -> PacedSpeech:
        """A request begins, and this is the moment it does."""
        speech = PacedSpeech(Voice(self._part, self._part_s), SpeechConfig(), client_pauses=self._pauses)
        for playback in self.playbacks.values():
            playback.pass_until(self.loop.time())
        self._began[id(speech)] = self.reliable(), self.expected()
        self._speeches.append(speech)  # so that no id comes twice
        return speech

    def reliable(self) -> dict[str, bool]:
        return {one.name: self.session._seat.relies_on(one) for one in self.engines}

    async def run(self) -> AsyncGenerator[Heard]:
        """The session's ears."""
        while True:
            yield await self._heard.get()

    def note(self, notice: Notice) -> None: ...

    # ── what happens ───────────────────────────────────────────────────────────────────

    def time_passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        if self.running.done():
            self.running.result()
        self.check_deadlines()

    def hear(self, event: SpeechEvent) -> None:
        now = round(self.loop.time() * INPUT_RATE)
        samples = (
            np.full(4, event.utterance, np.float32)
            if isinstance(event, SpeechPaused | SpeechGrew | SpeechEnded)
            else None
        )
        self._heard.put_nowait(Heard(event, now, now, now, samples))

    def do(self, coroutine: Coroutine[None, None, object]) -> None:
        self.loop.run_until_complete(coroutine)

    def requests(self) -> list[Request]:
        return sorted((r for engine in self.engines for r in engine.requests), key=lambda request: request.turn)

    def glances(self) -> list[asyncio.Queue[Verdict | PartFailed]]:
        """Those that wait for an answer."""
        return [glance for engine in self.engines for glance in engine.glances if glance.empty()]

    def close(self) -> None:
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.running)
        left = asyncio.all_tasks(self.loop)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        asyncio.set_event_loop(None)
        assert not left, "tasks left behind"

    # ── what is seen of it ─────────────────────────────────────────────────────────────

    def tell(self, notice: Notice) -> None:
        now = self.loop.time()
        self.told.append((now, notice))
        match notice:
            case UtteranceAccepted(_, transcript):
                assert transcript is not None
                self.talk.append(transcript)
            case TurnStarted(turn):
                playback = Playback(turn, self._pauses, now)
                self.playbacks[turn] = playback
                self.talk.append(playback)
            case TurnAudio(turn, samples, text):
                playback = self.playbacks[turn]
                playback.pass_until(now)
                playback.received += len(samples)
                if text is not None:
                    playback.texts.append(text)
            case TurnHeld(turn) | TurnResumed(turn):
                playback = self.playbacks[turn]
                playback.pass_until(now)
                playback.held = isinstance(notice, TurnHeld)
            case TurnEnded(turn, status):
                playback = self.playbacks[turn]
                playback.pass_until(now)
                playback.over, playback.completed = True, status == "completed"
                if turn in self.speeches:  # not if its request ended before it began
                    self.made_at_end[turn] = self.speeches[turn].synthesised
                if [request for request in self.requests() if request.turn == turn]:
                    self.aborted_late.append(turn)
            case PartTrouble():
                task = asyncio.current_task()
                assert task
                turn = int(task.get_name().removeprefix("answer "))
                up = {one.name for one in self.engines if one.healthy}
                assert up <= self.asked.get(turn, set()), "invariant 8: given up while there was another one to ask"

    def request_begun(self, engine: Engine, request: Request) -> None:
        turn = self.session._turns[request.turn]
        self.asked.setdefault(request.turn, set()).add(engine.name)
        said = self.said.get(request.turn) or ("" if turn.request.verdict else None)
        assert request.query.answer_so_far == said, "invariant 8: it does not go on where the other one stopped"
        if any(begun.turn == request.turn for begun in self.begun):
            assert engine.healthy, "invariant 8: moved to a dead one"
            return
        healthy, expected = self._began[id(turn.speech)]
        assert isinstance(turn.speech, PacedSpeech)
        self.speeches[request.turn] = turn.speech
        self.begun.append(Begun(request.turn, engine.name, turn.request.slot, healthy, request.query.history, expected))

    def expected(self) -> "Expected":
        return [
            entry if isinstance(entry, str) else (entry.words(entry.heard - 2), entry.words(entry.heard + 2))
            for entry in self.talk
        ]

    def check_deadlines(self) -> None:
        duplex, now = self.session.duplex, self.loop.time()
        if duplex.held or duplex.pending or duplex._ended:
            assert duplex.deadline is not None, "invariant 9: it waits for ever"
            # One step of the core ends two requests at most, and the session sees each of them end before it goes on.
            latest = duplex.deadline + 2 * ABORT_LIMIT_S
            assert now <= latest, "invariant 9: a deadline has passed"
            assert duplex.deadline <= now + HOLD_LIMIT_S, "invariant 9: a deadline is too far off"


def session_1_at_most_one_turn_is_audible(world: World) -> None:
    audible = None
    for _, notice in world.told:
        match notice:
            case TurnStarted(turn):
                assert audible is None
                audible = turn
            case TurnAudio(turn) | TurnHeld(turn) | TurnResumed(turn):
                assert turn == audible
            case TurnEnded(turn):
                assert turn == audible
                audible = None


def session_2_after_the_end_of_a_turn_was_told_no_sample_of_it_is_sent_or_made(world: World) -> None:
    ended: set[int] = set()
    for _, notice in world.told:
        match notice:
            case TurnEnded(turn):
                ended.add(turn)
            case TurnAudio(turn):
                assert turn not in ended
    for turn, made in world.made_at_end.items():
        assert world.speeches[turn].synthesised == made, "the voice went on"


def session_3_noise_changes_only_the_hold_and_no_sample_is_lost_or_repeated(world: World) -> None:
    received: dict[int, list[Samples]] = {}
    held: set[int] = set()
    rejected: set[int] = set()
    told_of: set[int] = set()
    floor, newest = None, 0
    for _, notice in world.told:
        match notice:
            case TurnStarted(turn):
                floor = turn
            case TurnAudio(turn, samples):
                assert turn not in held, "sent while held"
                received.setdefault(turn, []).append(samples)
            case TurnHeld(turn):
                held.add(turn)
            case TurnResumed(turn):
                held.remove(turn)
            case TurnEnded(turn, _, cause):
                held.discard(turn)
                floor = None
                if cause == "turn_detected":
                    told_of.discard(newest)  # it ended the reply, and may turn out to be for somebody else
            case UserStarted(utterance) if floor is not None:
                newest = utterance
                told_of.add(utterance)  # a stock client throws the reply away
            case VerdictGiven(utterances, _, False):
                rejected |= set(utterances)
    assert not rejected & told_of
    for turn, parts in received.items():
        samples = np.concatenate(parts)
        assert np.array_equal(samples, np.arange(len(samples)))
        if world.playbacks[turn].completed:
            playback = world.playbacks[turn]
            assert len(samples) == LETTER * sum(len(text) for text in playback.texts), "the end is missing"


def session_4_the_engine_is_aborted_before_the_client_is_told(world: World) -> None:
    assert world.aborted_late == []


def session_5_each_turn_has_one_end_and_one_record(world: World) -> None:
    started = Counter(notice.turn for _, notice in world.told if isinstance(notice, TurnStarted))
    ended = [notice for _, notice in world.told if isinstance(notice, TurnEnded)]
    records = [notice.record for _, notice in world.told if isinstance(notice, TurnRecorded)]
    assert set(started.values()) <= {1}
    assert Counter(notice.turn for notice in ended) == started
    spoken = [(record.turn, record.status) for record in records if record.status != "rejected"]
    assert spoken == [(notice.turn, notice.status) for notice in ended]
    for record in records:
        assert record.samples.heard <= record.samples.sent <= record.samples.synthesised
        assert all(end is not None for _, end in record.holds), "held for ever"
        assert not record.cut_in_hold or (record.status == "cancelled" and record.holds[-1][1] == record.finished)


def _check_history(history: tuple[Message, ...], expected: Expected, exact: bool) -> None:
    """What was asked in a row is one message or several, its words the same."""
    shown: list[tuple[str, list[str]]] = []
    for message in history:
        if isinstance(message, CallMessage):
            continue
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        words = (message.text or "").split()
        if role == "user" and shown and shown[-1][0] == "user":
            shown[-1][1].extend(words)
        else:
            shown.append((role, words))
    wanted: list[tuple[str, list[str], list[str]]] = []
    for entry in expected:
        if isinstance(entry, tuple):
            wanted.append(("assistant", *entry))
        elif wanted and wanted[-1][0] == "user":
            wanted[-1] = ("user", wanted[-1][1] + entry.split(), wanted[-1][2] + entry.split())
        else:
            wanted.append(("user", entry.split(), entry.split()))
    merged: list[tuple[str, list[str], list[str]]] = []
    at = 0
    for role, least, most in wanted:
        here = shown[at] if at < len(shown) else (None, [])
        if role == "assistant" and here[0] != "assistant":
            assert least == [] or not exact, f"a reply is missing: {least} in {history}"
            continue  # nothing of it was heard, or not for certain
        merged.append((role, least, most))
        words = here[1]
        if role == "user":
            # Neighbours that only an unheard reply kept apart stand together.
            assert words[: len(least)] == least, f"{words} instead of {least}"
            if len(words) > len(least):
                shown[at] = ("user", words[len(least) :])
                continue
        else:
            assert words == most[: len(words)], f"{words} heard, where it was at most {most}"
            assert not exact or len(words) >= len(least), f"{words} heard, where it was at least {least}"
        at += 1
    assert at == len(shown), f"{shown[at:]} is in the dialogue and should not be"


def session_6_each_request_is_told_what_was_heard_and_asked(world: World) -> None:
    for begun in world.begun:
        _check_history(begun.history, begun.expected, world.whole)
    _check_history(world.session.dialogue.history(), world.expected(), world.whole)


def session_7_noise_is_kept_nowhere(world: World) -> None:
    rejected = {
        n
        for _, notice in world.told
        if isinstance(notice, VerdictGiven) and not notice.accepted
        for n in notice.utterances
    }
    secrets = [f"said-{number}-" for number in rejected]
    notices = "".join(repr(notice) for _, notice in world.told if not isinstance(notice, TurnAudio))
    histories = repr([begun.history for begun in world.begun]) + repr(world.session.dialogue.history())
    for secret in secrets:
        assert secret not in notices
        assert secret not in histories
    utterances = world.session._utterances
    assert not rejected & (set(utterances._kept) | set(utterances._latest) | set(utterances.spans))


def session_8_a_dead_instance_is_replaced_by_the_other_and_taken_back(world: World) -> None:
    for begun in world.begun:
        own, other = ("a", "b") if begun.slot == 0 else ("b", "a")
        if begun.healthy[own]:
            assert begun.instance == own, "not bound to its own instance, which is up"
        elif begun.healthy[other]:
            assert begun.instance == other, "asked of the dead one"


def session_8_a_reply_that_moved_is_said_whole_and_once(world: World) -> None:
    for turn, playback in world.playbacks.items():
        told, said = " ".join(playback.texts).split(), world.said.get(turn, "").split()
        assert told == said[: len(told)], "not what the engines said one after the other"
        assert told == said or not playback.completed, "the end is missing"


def session_8_the_client_knows_who_serves_it(world: World) -> None:
    roles = [notice for _, notice in world.told if isinstance(notice, Roles)]
    seat, duplex = world.session._seat, world.session.duplex
    names = seat.serving(duplex.generator).name, seat.serving(duplex.monitor).name
    assert (roles[-1].generator, roles[-1].monitor) == names
    assert all(before != after for before, after in pairwise(roles)), "told again"
    records = [notice.record for _, notice in world.told if isinstance(notice, TurnRecorded)]
    begun = {one.turn: one.instance for one in world.begun}
    for record in records:
        names_in_turn = [record.instance, *(name for _, name in record.moves)]
        assert record.instance == begun.get(record.turn, record.instance)
        assert all(before != after for before, after in pairwise(names_in_turn))


def session_11_what_a_glance_heard_is_kept_nowhere_and_none_is_left(world: World) -> None:
    told = "".join(repr(notice) for _, notice in world.told if not isinstance(notice, TurnAudio))
    assert "glimpsed" not in told + repr([begun.history for begun in world.begun])
    assert "glimpsed" not in repr(world.session.dialogue.history())
    assert [len(engine.glances) for engine in world.engines] == [0, 0]
    assert world.pool.glances.total() == 0


def session_9_nothing_waits_for_ever(world: World) -> None:
    duplex = world.session.duplex
    assert (duplex.held, duplex.pending, duplex._ended, duplex.floor) == (False, None, (), None)


def session_calls_are_told_once_while_their_turn_is_heard_and_not_held(world: World) -> None:
    told: dict[int, list[str]] = {}
    audible, held = None, False
    for _, notice in world.told:
        match notice:
            case TurnStarted(turn):
                audible, held = turn, False
            case TurnHeld() | TurnResumed():
                held = isinstance(notice, TurnHeld)
            case TurnCalled(turn, call):
                assert (turn, held) == (audible, False), "called for nobody"
                told.setdefault(turn, []).append(call.id)
            case TurnEnded(turn, status):
                audible = None
                made, calls = world.made.get(turn, []), told.get(turn, [])
                assert calls == made[: len(calls)], "doubled, or out of order"
                assert status == "cancelled" or calls == made, "a call is lost"


def session_each_call_is_in_the_dialogue_once_with_its_first_output(world: World) -> None:
    told = [notice.call.id for _, notice in world.told if isinstance(notice, TurnCalled)]
    calls = {one.call.id: one for one in world.session.dialogue.history() if isinstance(one, CallMessage)}
    assert len(told) == len(set(told))
    assert sorted(calls) == sorted(told)
    for call_id, message in calls.items():
        output = f"first output of {call_id}" if call_id in world.outputs else None
        assert (message.output, message.late) == (output, world.outputs.get(call_id, False))


def session_an_output_is_answered_once_when_the_client_asks(world: World) -> None:
    answered = Counter[str]()
    seen: set[str] = set()
    for begun in world.begun:
        known = {one.call.id for one in begun.history if isinstance(one, CallMessage) and one.output is not None}
        if begun.turn in world.playbacks:
            answered.update(known - seen)
            seen |= known
    assert set(answered.values()) <= {1}
    cancelled = any(isinstance(one, TurnEnded) and one.status == "cancelled" for _, one in world.told)
    assert cancelled or world.asked_for <= seen, "the client waits for ever"


SESSION_CHECKS = [
    session_calls_are_told_once_while_their_turn_is_heard_and_not_held,
    session_each_call_is_in_the_dialogue_once_with_its_first_output,
    session_an_output_is_answered_once_when_the_client_asks,
    session_1_at_most_one_turn_is_audible,
    session_2_after_the_end_of_a_turn_was_told_no_sample_of_it_is_sent_or_made,
    session_3_noise_changes_only_the_hold_and_no_sample_is_lost_or_repeated,
    session_4_the_engine_is_aborted_before_the_client_is_told,
    session_5_each_turn_has_one_end_and_one_record,
    session_6_each_request_is_told_what_was_heard_and_asked,
    session_7_noise_is_kept_nowhere,
    session_8_a_dead_instance_is_replaced_by_the_other_and_taken_back,
    session_8_a_reply_that_moved_is_said_whole_and_once,
    session_8_the_client_knows_who_serves_it,
    session_9_nothing_waits_for_ever,
    session_11_what_a_glance_heard_is_kept_nowhere_and_none_is_left,
]

TIMES = st.sampled_from([0.0, 0.0, 0.03, 0.11, 0.26, 0.7, 1.6])


class SessionMachine(RuleBasedStateMachine):
    """A session on virtual time. After each step some time passes, often none at all."""

    world: World | None = None

    @initialize(
        config=CONFIGS,
        pauses=st.booleans(),
        voice=st.sampled_from([(10_000, 0.0), (700, 0.3)]),
        close_s=st.sampled_from([0, 0.05]),
        calls=st.integers(0, 2),
    )
    def begin(self, config: DuplexConfig, pauses: bool, voice: tuple[int, float], close_s: float, calls: int) -> None:
        self.world = World(config, pauses, *voice, close_s)
        self.ears = Ears()
        self.past: list[SpeechEvent] = []
        self.the_user_types(0)
        self.the_newest_request_is_answered(1.0, text=" ".join(SENTENCES), ends=False, seconds=1.1)
        if calls:
            self.the_newest_request_calls(1.0, calls, ends=True, seconds=0.0)

    def hear(self, event: SpeechEvent) -> None:
        self.past.append(event)
        self.world.hear(event)

    @rule(choice=st.integers(0, 3), seconds=TIMES)
    def the_ears_notice_something(self, choice: int, seconds: float) -> None:
        self.hear(self.ears.notice(choice))
        self.world.time_passes(seconds)

    @rule(script=UTTERANCES, p1=st.none() | PROBABILITIES, seconds=TIMES)
    def the_user_says_something(self, script: tuple[type[SpeechEvent], ...], p1: float | None, seconds: float) -> None:
        """The early request may be judged before the end."""
        for event in self.ears.utter(script):
            self.hear(event)
            self.world.time_passes(0.1)
            if isinstance(event, SpeechPaused) and p1 is not None and self.world.requests():
                self.judge(self.world.requests()[-1], p1)
            if isinstance(event, SpeechGrew) and p1 is not None and self.world.glances():
                self.a_glance_is_answered(p1, 0.3)
        self.world.time_passes(seconds)

    @precondition(lambda self: self.world.glances())
    @rule(p1=st.none() | PROBABILITIES, seconds=TIMES)
    def a_glance_is_answered(self, p1: float | None, seconds: float) -> None:
        """Or fails; or never is."""
        verdict = None if p1 is None else Verdict(p1, 1 - p1, 0, ("glimpsed",))
        self.world.glances()[0].put_nowait(verdict or PartFailed("engine", "scripted to fail"))
        self.world.time_passes(seconds)

    @precondition(lambda self: self.past)
    @rule(back=st.integers(1, 8), seconds=TIMES)
    def the_ears_say_something_again(self, back: int, seconds: float) -> None:
        event = self.past[-min(back, len(self.past))]
        if isinstance(event, SpeechStarted | SpeechSustained | SpeechResumed):
            self.world.hear(event)
        self.world.time_passes(seconds)

    @precondition(lambda self: self.world.requests())
    @rule(p1=PROBABILITIES, text=st.sampled_from(SENTENCES), ends=st.booleans(), seconds=TIMES)
    def the_newest_request_is_answered(self, p1: float, text: str, ends: bool, seconds: float) -> None:
        request = self.world.requests()[-1]
        self.judge(request, p1)
        request.items.put_nowait(text)
        if ends:
            request.items.put_nowait(None)
        self.world.time_passes(seconds)

    @precondition(lambda self: self.world.requests())
    @rule(text=st.sampled_from(SENTENCES), ends=st.booleans(), fails=st.booleans(), seconds=TIMES)
    def the_oldest_request_goes_on(self, text: str, ends: bool, fails: bool, seconds: float) -> None:
        request = self.world.requests()[0]
        if request.judged:
            request.items.put_nowait(text)
        if ends or fails:
            request.items.put_nowait(PartFailed("engine", "scripted to fail") if fails else None)
        self.world.time_passes(seconds)

    @precondition(lambda self: self.world.requests())
    @rule(p1=PROBABILITIES, calls=st.integers(1, 2), ends=st.booleans(), seconds=TIMES)
    def the_newest_request_calls(self, p1: float, calls: int, ends: bool, seconds: float) -> None:
        request = self.world.requests()[-1]
        self.judge(request, p1)
        for _ in range(calls):
            request.items.put_nowait(Call(f"call_{self.ears.next_number()}", "f", "{}"))
        if ends:
            request.items.put_nowait(None)
        self.world.time_passes(seconds)

    @property
    def has_called(self) -> bool:
        return any(isinstance(notice, TurnCalled) for _, notice in self.world.told) if self.world else False

    @precondition(lambda self: self.has_called)
    @rule(back=st.integers(1, 3), seconds=TIMES)
    def the_client_gives_an_output_and_asks(self, back: int, seconds: float) -> None:
        self.the_client_gives_an_output(back, 0.0)
        ledger = self.world.session.calling.ledger
        if ledger.waiting:
            self.world.asked_for |= ledger.waiting
            numbers = iter(self.ears.next_number, None)
            self.world.do(self.world.session.answer_dialogue(numbers, ReplySettings()))
        self.world.time_passes(seconds)

    @precondition(lambda self: self.has_called)
    @rule(back=st.integers(1, 3), seconds=TIMES)
    def the_client_gives_an_output(self, back: int, seconds: float) -> None:
        """In time, late, twice, or for a call that nobody made."""
        world, calling = self.world, self.world.session.calling
        calls = [notice.call.id for _, notice in world.told if isinstance(notice, TurnCalled)]
        if back > len(calls):
            assert calling.add_output("call_0", "nothing") == "unknown"
            return
        call_id = calls[-back]
        late = calling.ledger.state(call_id, world.loop.time()) != "open"
        refused = calling.add_output(
            call_id, f"{'second' if call_id in world.outputs else 'first'} output of {call_id}"
        )
        assert refused == ("twice" if call_id in world.outputs else None)
        world.outputs.setdefault(call_id, late)
        world.time_passes(seconds)

    def judge(self, request: Request, p1: float) -> None:
        if request.judged:
            return
        request.judged = True
        words = tuple(u.text or f"said-{u.number}- it" for u in request.query.utterances)
        typed = any(utterance.text is not None for utterance in request.query.utterances)
        request.items.put_nowait(Verdict(0, 0, 1, words) if typed else Verdict(p1, 1 - p1, 0, words))

    @rule(seconds=TIMES)
    def the_user_types(self, seconds: float) -> None:
        number = self.ears.next_number()
        self.world.do(self.world.session.ask(number, f"typed {number}"))
        self.world.time_passes(seconds)

    @rule(barge_in=BARGE_INS, threshold=THRESHOLDS, seconds=TIMES)
    def the_client_wants_it_decided_otherwise(self, barge_in: BargeIn, threshold: float, seconds: float) -> None:
        self.world.do(self.world.session.configure(Configure(decisions=SettingsChanged(barge_in, threshold))))
        self.world.time_passes(seconds)

    @precondition(lambda self: self.world.playbacks)
    @rule(back=st.integers(1, 2), seconds=TIMES)
    def the_client_cancels(self, back: int, seconds: float) -> None:
        turns = list(self.world.playbacks)
        self.world.do(self.world.session.cancel_reply(turns[-min(back, len(turns))]))
        self.world.time_passes(seconds)

    @precondition(lambda self: self.world.playbacks)
    @rule(back=st.integers(1, 2), behind=st.sampled_from([0, 0, 40, 150, -5000]), seconds=TIMES)
    def the_client_acknowledges(self, back: int, behind: int, seconds: float) -> None:
        """In time, late, or with more than it was ever sent."""
        turns = list(self.world.playbacks)
        playback = self.world.playbacks[turns[-min(back, len(turns))]]
        playback.pass_until(self.world.loop.time())
        played = max(0, int(playback.clock) - behind)
        self.world.session.acknowledge(playback.turn, played)
        played = min(played, playback.received)
        if played >= playback.said:
            playback.said, playback.lag = played, int(playback.clock) - played
        self.world.time_passes(seconds)

    @precondition(lambda self: self.world.playbacks)
    @rule(back=st.integers(1, 2), end=st.integers(0, 3000), seconds=TIMES)
    def the_client_truncates(self, back: int, end: int, seconds: float) -> None:
        turns = list(self.world.playbacks)
        playback = self.world.playbacks[turns[-min(back, len(turns))]]

        async def truncate() -> None:  # both in one moment of the session's time
            playback.end = min(end, playback.received if playback.end is None else playback.end)
            await self.world.session.truncate(playback.turn, end)

        self.world.do(truncate())
        self.world.time_passes(seconds)

    @rule(which=st.integers(0, 1), comes_back=st.booleans(), seconds=TIMES)
    def an_instance_dies_or_comes_back(self, which: int, comes_back: bool, seconds: float) -> None:
        engine = self.world.engines[which]
        engine.healthy = comes_back
        if comes_back:
            self.world.pool.trust(engine)
        else:
            engine.fail()
        self.world.pool.tell()
        self.world.time_passes(seconds)

    @precondition(lambda self: self.world.requests())
    @rule(text=st.sampled_from(SENTENCES), ends=st.booleans(), seconds=TIMES)
    def an_instance_dies_and_the_other_goes_on(self, text: str, ends: bool, seconds: float) -> None:
        request = self.world.requests()[0]
        [dead] = [engine for engine in self.world.engines if request in engine.requests]
        dead.healthy = False
        dead.fail()
        self.world.time_passes(0.06)
        for moved in self.world.requests():
            if moved.turn == request.turn and moved.judged:
                moved.items.put_nowait(text)
                if ends:
                    moved.items.put_nowait(None)
        dead.healthy = True
        self.world.pool.tell()
        self.world.time_passes(seconds)

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.time_passes(seconds)

    def teardown(self) -> None:
        world = self.world
        if world is None:
            return
        try:
            for seconds in (
                HOLD_LIMIT_S,
                2 * STALL_LIMIT_S,
                2 * STALL_LIMIT_S,
            ):  # nobody says anything any more, also to
                # what waited for the reply under way
                world.time_passes(seconds)
            for check in SESSION_CHECKS:
                check(world)
        finally:
            world.close()
            self.world = None


# ── the pool ───────────────────────────────────────────────────────────────────────────


class PoolMachine(RuleBasedStateMachine):
    """Sessions come, talk, swap their roles and go; instances fall ill and are drained. Invariant 10."""

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.pool = Pool([ScriptedInstance(chr(ord("a") + number)) for number in range(count)])
        self.seats: list[Seat] = []
        self.draining: set[str] = set()

    @property
    def open(self) -> list[str]:
        return [one.name for one in self.pool.instances if one.name not in self.draining] or [
            one.name for one in self.pool.instances
        ]

    def pick(self, which: int) -> Seat:
        return self.seats[which % len(self.seats)]

    @rule()
    def a_session_comes(self) -> None:
        self.seats.append(self.pool.seat())
        assert self.seats[-1].idle

    @precondition(lambda self: self.seats)
    @rule(which=st.integers(0, 20))
    def a_session_goes(self, which: int) -> None:
        seat = self.pick(which)
        self.seats.remove(seat)
        self.pool.leave(seat)

    @precondition(lambda self: self.seats)
    @rule(which=st.integers(0, 20), swaps=st.booleans())
    def somebody_speaks(self, which: int, swaps: bool) -> None:
        """What a session at work sits on is left alone; it may swap its own roles."""
        seat = self.pick(which)
        seat.update(seat.generator, idle=False)
        before = seat.slots
        if swaps:
            seat.update(1 if seat.generator == 0 else 0, idle=False)
        assert seat.slots == before, "moved while it talks"

    @precondition(lambda self: self.seats)
    @rule(which=st.integers(0, 20))
    def a_session_falls_silent(self, which: int) -> None:
        seat = self.pick(which)
        seat.update(seat.generator, idle=True)

    @rule(which=st.integers(0, 3), healthy=st.booleans(), doubted=st.booleans())
    def an_instance_falls_ill_or_is_well_again(self, which: int, healthy: bool, doubted: bool) -> None:
        instance = self.pool.instances[which % len(self.pool.instances)]
        assert isinstance(instance, ScriptedInstance)
        before = [seat.slots for seat in self.seats]
        instance.healthy = healthy
        (self.pool.doubt if doubted else self.pool.trust)(instance)
        assert [seat.slots for seat in self.seats] == before, "slots stay bound"

    @rule(which=st.integers(0, 3), drains=st.booleans())
    def an_instance_is_drained_or_readmitted(self, which: int, drains: bool) -> None:
        name = self.pool.instances[which % len(self.pool.instances)].name
        if drains:
            self.draining.add(name)
            self.pool.drain(name)
        else:
            self.draining.discard(name)
            self.pool.readmit(name)

    @invariant()
    def invariant_10_loads_differ_by_at_most_one_but_for_those_who_talk(self) -> None:
        loads = Counter(seat.bound.name for seat in self.seats)
        assert self.pool.generators == {one.name: loads[one.name] for one in self.pool.instances}
        least = min(loads[name] for name in self.open)
        for seat in self.seats:
            assert not seat.idle or loads[seat.bound.name] <= least + 1, "an idle session could have moved"
        if all(seat.idle for seat in self.seats):
            assert max(loads[name] for name in self.open) - least <= 1

    @invariant()
    def idle_sessions_sit_on_two_open_instances_where_there_are_two(self) -> None:
        for seat in self.seats:
            names = {one.name for one in seat.slots}
            if seat.idle:
                assert names <= set(self.open), "on one that is drained"
                assert len(names) == min(2, len(self.open))

    @invariant()
    def invariant_8_requests_go_to_the_slots_own_instance_or_to_one_that_can_be_relied_on(self) -> None:
        up = {one.name for one in self.pool.instances if one.healthy}
        sound = up - self.pool.doubted
        for seat in self.seats:
            for slot in (0, 1):
                own, serving = seat.slots[slot].name, seat.serving(slot).name
                if own in sound or not up:
                    assert serving == own
                else:
                    assert serving in (sound or up)
                    other = seat.slots[1 - slot].name
                    assert other not in sound or serving == other, "the session's own other instance knows the dialogue"

    def teardown(self) -> None:
        for seat in list(self.seats):
            seat.update(seat.generator, idle=True)
            self.invariant_10_loads_differ_by_at_most_one_but_for_those_who_talk()
            self.seats.remove(seat)
            self.pool.leave(seat)
        assert set(self.pool.generators.values()) <= {0}


# ── how many ───────────────────────────────────────────────────────────────────────────

Machine = type[CoreMachine] | type[SessionMachine] | type[PoolMachine]


def play(machine: Machine, interleavings: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=interleavings,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_core_keeps_its_invariants() -> None:
    play(CoreMachine, 150, 25)


def test_a_session_keeps_its_invariants() -> None:
    play(SessionMachine, 140, 12)


def test_a_pool_keeps_its_invariants() -> None:
    play(PoolMachine, 40, 30)


@pytest.mark.long
@pytest.mark.parametrize(
    ("machine", "interleavings"), [(CoreMachine, 7900), (SessionMachine, 2000), (PoolMachine, 100)]
)
def test_ten_thousand_interleavings(machine: Machine, interleavings: int) -> None:
    play(machine, interleavings, 12)
