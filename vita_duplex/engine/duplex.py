"""The duplex core: which of a session's two slots speaks, which one listens, and when that changes.

Pure: no asyncio, no clock, no model. Events in, commands out, `now` (seconds) an argument.
"""

from collections import deque
from dataclasses import dataclass
from typing import assert_never

from vita_duplex.engine import events as ev
from vita_duplex.engine.duplex_settings import DuplexConfig, Thresholds
from vita_duplex.engine.glances import Glances

UNDECIDED_LIMIT = 8
"""Utterances judged together. Each puts the deadline off; when so many have no verdict they count as `<2>`: somebody
who talks on and on (a radio) must not make a request that grows faster than any instance can judge it."""


ABSTAIN_BAND = 0.05
"""An early verdict decides nothing when its `p1` is this close to the threshold: most wrong verdicts are."""


@dataclass(slots=True)
class PendingVerdict:
    """A request whose verdict is awaited, or is there but may not be used before the speech ends."""

    turn: int
    slot: ev.Slot
    utterances: tuple[int, ...]
    deadline: float
    """What it means follows from the utterances. If some of them are over: those are rejected then, for want of a
    verdict. If all are still being spoken: the request is withdrawn then, for the listener must have died."""
    early: bool
    """Begun before the last of the utterances was over."""
    verdict: ev.VerdictReached | None = None
    generating: bool = True


@dataclass(slots=True)
class Speaking:
    """The turn that has the floor."""

    turn: int
    slot: ev.Slot
    generating: bool
    failed: bool = False
    held_until: float | None = None


TYPED_KEPT = 64
"""Queries by which a repeated one is known; a dialogue has no more messages that can be asked about."""


class Duplex:
    """One session's state machine.

    An utterance is judged by the generator slot while nobody has the floor, and by the monitor slot
    during a reply. Whoever wins the floor is the generator from then on: if that was the monitor, the
    slots swap roles. A typed query takes the floor at once, in the generator slot; speech that waits for
    its verdict at that moment is judged by the monitor, as what is said into the new reply.

    After each step the state is a row of this table and one of the next (u: the utterance being spoken):

        _talking  _ended  pending
        -         -       -                                  silence
        -         (1, 2)  (1, 2), no verdict yet             their verdict is awaited
        u         -       -                                  speech, no pause so far
        u         -       (u,), early                        speech that paused, perhaps with its verdict
        u         (1, 2)  (1, 2), no verdict yet             speech while a verdict is awaited
        u         (1, 2)  (1, 2, u), early                   the same after a pause, perhaps with its verdict

        floor     generating  failed  held_until
        -                                                    nobody is heard
        turn      True        False   - or a time            the reply is being generated, or held
        turn      False       either  - or a time            what there is of it is being played, or held

    While u is being spoken into a reply, and nothing is pending, a glance at it may be under way.

    `_sustained` is only True while somebody talks. A pending request that is not generating has its verdict. An
    early request may be about an utterance whose end the listener lost; it is withdrawn at its deadline.
    """

    def __init__(self, config: DuplexConfig) -> None:
        self.config = config
        self.generator: ev.Slot = 0
        self.floor: Speaking | None = None
        self.pending: PendingVerdict | None = None
        self.turns = 0
        self._newest_spoken = 0
        self._typed: deque[int] = deque(maxlen=TYPED_KEPT)  # not only the newest: what waited may be asked about late
        self._talking: int | None = None  # the utterance being spoken right now
        self._sustained = False  # … and it is no blip
        self._next: int | None = None  # what is asked once the reply under way is over
        self._ended: tuple[int, ...] = ()  # what is over and not decided about; a request about it is under way
        self._said_into: dict[int, ev.SaidInto] = {}  # of the undecided utterances
        self._replied = False  # a reply has ended
        self._glances = Glances()

    @property
    def monitor(self) -> ev.Slot:
        return 1 if self.generator == 0 else 0

    @property
    def held(self) -> bool:
        return self.floor is not None and self.floor.held_until is not None

    @property
    def undecided(self) -> tuple[int, ...]:
        """The utterances that are still needed."""
        return tuple(one for one in (*self._ended, self._talking, self._next) if one is not None)

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called, in the seconds of `now`."""
        waiting = [
            self.pending.deadline if self.pending else None,
            self.floor.held_until if self.floor else None,
            self._glances.under_way.deadline if self._glances.under_way else None,
        ]
        return min((moment for moment in waiting if moment is not None), default=None)

    @property
    def idle(self) -> bool:
        """Nobody speaks and no verdict is awaited."""
        return self.floor is None and self.pending is None and not self.undecided

    def receive(self, event: ev.Event, now: float) -> list[ev.Command]:
        """Take in one event. Late, repeated and unknown ones change nothing."""
        return self._without_stale_glance(self._take(event, now))

    def _take(self, event: ev.Event, now: float) -> list[ev.Command]:
        match event:
            case ev.SpeechStarted(utterance):
                return self._speech_started(utterance)
            case ev.SpeechSustained(utterance):
                if utterance != self._talking:
                    return []
                self._sustained = True
                return self._hold(now)
            case ev.SpeechPaused(utterance):
                return self._speech_paused(utterance, now) if utterance == self._talking else []
            case ev.SpeechResumed(utterance):
                return self._speech_resumed(now) if utterance == self._talking else []
            case ev.SpeechGrew(utterance):
                return self._look(utterance, now) if utterance == self._talking else []
            case ev.SpeechEnded(utterance):
                return self._speech_ended(utterance, now) if utterance == self._talking else []
            case ev.SpeechForgotten(utterance):
                return self._speech_forgotten(now) if utterance == self._talking else []
            case ev.QueryTyped(utterance):
                return self._query_typed(utterance, now)
            case ev.AnswerAsked(utterance):
                return self._answer_asked(utterance, now)
            case ev.VerdictReached():
                return self._judged(event, now)
            case ev.Glanced(number, p1):
                return self._glanced(number, p1, now)
            case ev.ReplyEnded(turn) | ev.ReplyFailed(turn):
                return self._reply_over(turn, now, failed=isinstance(event, ev.ReplyFailed))
            case ev.Played(turn):
                return self._played(turn, now)
            case ev.CancelAsked(turn):
                speaking = self.floor is not None and self.floor.turn == turn
                return self._finish("cancelled", "client_cancelled") if speaking else []
            case ev.SettingsChanged():
                return self._change_settings(event)
            case _:
                assert_never(event)

    def tick(self, now: float) -> list[ev.Command]:
        """Act on the deadlines that have passed."""
        commands: list[ev.Command] = []
        if (glance := self._glances.under_way) and now >= glance.deadline:
            commands += [ev.EndGlance(glance.number), *self._glanced(glance.number, None, now)]
        if self.pending and now >= self.pending.deadline:
            commands += self._reject("deadline", now) if self._ended else self._abort_judging()
        if self.floor and self.floor.held_until is not None and now >= self.floor.held_until:
            self._sustained = False  # speech that long without an end is no reason to hold again
            commands += self._resume()
        return self._without_stale_glance(commands)

    def _change_settings(self, wanted: ev.SettingsChanged) -> list[ev.Command]:
        """What has begun stays: a held reply waits for its verdict, and who is being heard is judged, even with
        `off`. A verdict is compared with the threshold once, when it is used."""
        own = Thresholds(speaking=wanted.speaking, after=wanted.after, idle=wanted.idle)
        changes = {"barge_in": wanted.barge_in, "verdict_threshold": wanted.verdict_threshold, "threshold": own}
        self.config = self.config.model_copy(update=changes)
        return []

    # ── speech ─────────────────────────────────────────────────────────────────────────

    def _speech_started(self, utterance: int) -> list[ev.Command]:
        if utterance <= self._newest_spoken:
            return []
        self._newest_spoken = utterance
        ignored = self.config.barge_in == "off" and self.floor is not None
        self._talking, self._sustained = None if ignored else utterance, False
        into: ev.SaidInto = "speaking" if self.floor else "after" if self._replied else "idle"
        self._said_into = {one: self._said_into.get(one, into) for one in self.undecided}
        if ignored or self.pending:
            return []  # a request that is under way has computed the dialogue already
        return [ev.Warm(self._judge_slot)]

    def _speech_paused(self, utterance: int, now: float) -> list[ev.Command]:
        utterances = (*self._ended, utterance)
        if len(utterances) > UNDECIDED_LIMIT or (self.pending and self.pending.utterances == utterances):
            return []
        return self._judge(utterances, self._deadline(now), early=True)

    def _speech_resumed(self, now: float) -> list[ev.Command]:
        """Withdraw the early request; what was said before this utterance still wants its verdict."""
        if not self._ended:
            return self._abort_judging()
        if self.pending and self.pending.utterances == self._ended:
            return []
        return self._judge_ended(now)

    def _speech_ended(self, utterance: int, now: float) -> list[ev.Command]:
        self._talking, self._sustained = None, False
        commands = self._reject("deadline", now) if len(self._ended) >= UNDECIDED_LIMIT else []
        self._ended = (*self._ended, utterance)
        return commands + self._judge_ended(now) + self._decide(now)

    def _speech_forgotten(self, now: float) -> list[ev.Command]:
        """What was said before is judged by itself; a reply that was held for this speech alone goes on."""
        self._talking, self._sustained = None, False
        commands = self._speech_resumed(now)
        return commands if self._ended else commands + self._resume()

    def _query_typed(self, utterance: int, now: float) -> list[ev.Command]:
        """Answer at once: nobody types to somebody else. What was said and not yet decided about is judged anew,
        by itself and with the query in its dialogue."""
        if utterance in self._typed:
            return []
        self._typed.append(utterance)
        commands = self._abort_judging() + self._finish("cancelled", "turn_detected")
        return commands + self._answer_typed(utterance, now)

    def _answer_asked(self, utterance: int, now: float) -> list[ev.Command]:
        """What a tool says interrupts nobody. When the user interrupts meanwhile, the answer to that is the one."""
        if utterance in self._typed or self.floor is None:
            return self._query_typed(utterance, now)
        self._typed.append(utterance)
        self._next = utterance
        return []

    def _answer_typed(self, utterance: int, now: float) -> list[ev.Command]:
        self.turns += 1
        self.floor = Speaking(self.turns, self.generator, generating=True)
        commands: list[ev.Command] = [ev.Begin(self.generator, self.turns, (utterance,))]
        commands += [ev.Accept(self.turns, (utterance,)), ev.GiveFloor(self.turns)]
        if self._ended:
            commands += self._judge_ended(now)
        return commands + self._hold(now)

    # ── judging ────────────────────────────────────────────────────────────────────────

    @property
    def _judge_slot(self) -> ev.Slot:
        return self.monitor if self.floor else self.generator

    def _deadline(self, now: float) -> float:
        """Of a request that begins now, or whose last utterance ends now."""
        return now + (self.config.verdict_deadline_ms / 1000 if self._ended else self.config.hold_limit_s)

    def _judge(
        self, utterances: tuple[int, ...], deadline: float, *, early: bool = False, abstained: bool = False
    ) -> list[ev.Command]:
        commands = self._abort_judging()
        self.turns += 1
        self.pending = PendingVerdict(self.turns, self._judge_slot, utterances, deadline, early)
        return [*commands, ev.Begin(self._judge_slot, self.turns, utterances, abstained)]

    def _judge_ended(self, now: float) -> list[ev.Command]:
        """See that what is over is judged, and by when; a request that is about just that goes on."""
        if self.pending is None or self.pending.utterances != self._ended:
            return self._judge(self._ended, self._deadline(now))
        self.pending.deadline = self._deadline(now)
        return []

    def _abort_judging(self) -> list[ev.Command]:
        """End the pending request, if there is one; its utterances stay undecided."""
        judging, self.pending = self.pending, None
        if judging is None or not judging.generating:
            return []
        return [ev.Abort(judging.slot, judging.turn)]

    def _judged(self, verdict: ev.VerdictReached, now: float) -> list[ev.Command]:
        if self.pending is None or verdict.turn != self.pending.turn or self.pending.verdict:
            return []  # too late: something newer replaced it; or repeated
        self.pending.verdict = verdict
        return self._weigh_early(self.pending, verdict, now) or self._decide(now)

    def _weigh_early(self, judging: PendingVerdict, verdict: ev.VerdictReached, now: float) -> list[ev.Command]:
        """A verdict on speech that has paused and may go on is as good as a glance."""
        if judging.utterances == self._ended:
            return []
        return self._follow(judging.utterances[-1], verdict.p1, self._threshold(judging.utterances), now, ends=False)

    def _threshold(self, utterances: tuple[int, ...]) -> float:
        """What was begun together is judged by what the first of it was said into."""
        return self.config.threshold_in(self._said_into[utterances[0]])

    def _decide(self, now: float) -> list[ev.Command]:
        """Use the verdict as soon as it is there and the speech it is about is over."""
        judging = self.pending
        if judging is None or judging.verdict is None or judging.utterances != self._ended:
            return []
        over = judging.verdict.p1 - self._threshold(judging.utterances)
        if judging.early and abs(over) < ABSTAIN_BAND:
            return self._judge(self._ended, judging.deadline, abstained=True)
        return self._take_floor(judging, now) if over >= 0 else self._reject("verdict", now)

    def _take_floor(self, judging: PendingVerdict, now: float) -> list[ev.Command]:
        self._glances.forget_room()
        commands = self._abort_floor()
        commands.append(ev.Accept(judging.turn, judging.utterances))
        commands += self._finish("cancelled", "turn_detected")
        if judging.slot != self.generator:
            self.generator = judging.slot
            commands.append(ev.Swap(self.generator, self.monitor))
        commands.append(ev.GiveFloor(judging.turn))
        self.pending, self._ended = None, ()
        self.floor = Speaking(judging.turn, judging.slot, judging.generating)
        # The user may be speaking again already.
        return commands + self._hold(now)

    def _reject(self, reason: ev.Reason, now: float) -> list[ev.Command]:
        """Turn down what is over; what is being said is still to be judged."""
        judging, rejected = self.pending, self._ended
        assert judging is not None
        if self.floor and reason == "verdict":
            self._glances.turn_down(rejected[-1], now)
        commands = self._abort_judging()
        self._ended = ()
        commands.append(ev.Reject(judging.turn, rejected, reason))
        return commands if self._sustained else commands + self._resume()

    # ── glances ────────────────────────────────────────────────────────────────────────

    def _look(self, utterance: int, now: float) -> list[ev.Command]:
        """Ask what the speech into a reply is so far, unless a verdict on it is coming anyway."""
        if self.floor is None or self.pending or not self._sustained or self.config.barge_in != "hold":
            return []
        number = self._glances.ask(utterance, self.floor.turn, now)
        return [] if number is None else [ev.Glance(self.monitor, number, utterance)]

    def _glanced(self, number: int, p1: float | None, now: float) -> list[ev.Command]:
        glance = self._glances.end(number)
        if glance is None:
            return []  # given up
        if p1 is not None:
            return self._follow(glance.utterance, p1, self.config.threshold_in("speaking"), now, ends=True)
        return [] if self._glances.told(glance.utterance) else self._hold(now, asked=True)

    def _follow(self, utterance: int, p1: float, threshold: float, now: float, *, ends: bool) -> list[ev.Command]:
        """A held reply need not wait for the end of speech that is surely not meant for it, and may end before that
        when the speech surely is. When more of the speech is heard and looks like a query, the reply is held again."""
        match self._glances.weigh(utterance, p1, threshold):
            case "not ours":
                if self.floor:
                    self._glances.turn_down(utterance, now)
                return self._resume()
            case "surely ours" if ends:
                return self._interrupt(utterance)
            case "ours" | "surely ours":
                return self._hold(now, asked=True)
            case "open":
                return []

    def _interrupt(self, utterance: int) -> list[ev.Command]:
        """End the reply now; the monitor, which has heard why, answers when the speech is over."""
        commands = [*self._abort_floor(), ev.Interrupt(utterance), *self._finish("cancelled", "turn_detected")]
        self.generator = self.monitor
        return [*commands, ev.Swap(self.generator, self.monitor)]

    def _without_stale_glance(self, commands: list[ev.Command]) -> list[ev.Command]:
        """Give up a glance when the speech or the reply that it is about is over, or a verdict is coming."""
        glance, turn = self._glances.under_way, self.floor.turn if self.floor else None
        if glance is None or (not self.pending and (glance.utterance, glance.turn) == (self._talking, turn)):
            return commands
        self._glances.end(glance.number)
        return [ev.EndGlance(glance.number), *commands]

    # ── the floor ──────────────────────────────────────────────────────────────────────

    def _hold(self, now: float, *, asked: bool = False) -> list[ev.Command]:
        """Where the room talks, speech alone holds nothing; an instance has to be `asked`."""
        wanted = self._sustained and self.config.barge_in == "hold"
        if not wanted or self.floor is None or self.held or (self._glances.room_talks(now) and not asked):
            return []
        self.floor.held_until = now + self.config.hold_limit_s
        return [ev.Hold(self.floor.turn)]

    def _resume(self) -> list[ev.Command]:
        if self.floor is None or self.floor.held_until is None:
            return []
        self.floor.held_until = None
        return [ev.Resume(self.floor.turn)]

    def _reply_over(self, turn: int, now: float, *, failed: bool) -> list[ev.Command]:
        if self.floor and turn == self.floor.turn:
            self.floor.generating = False
            self.floor.failed = failed
        elif self.pending and turn == self.pending.turn:
            self.pending.generating = False
            if failed or self.pending.verdict is None:
                return self._judging_failed(now)
        return []

    def _judging_failed(self, now: float) -> list[ev.Command]:
        judging = self.pending
        assert judging is not None
        if judging.utterances == self._ended:
            return self._reject("failed", now)
        self.pending = None  # speech is going on; its end begins a new request about it
        return self._judge_ended(now) if self._ended else []

    def _played(self, turn: int, now: float) -> list[ev.Command]:
        if self.floor is None or turn != self.floor.turn or self.floor.generating:
            return []
        following, failed = self._next, self.floor.failed
        commands = [] if following is None else self._abort_judging()
        # Held at the very end: the client may have a little left to play and must not keep it for ever.
        commands += self._resume()
        commands += self._finish("failed", "instance_failed") if failed else self._finish("completed")
        return commands if following is None else commands + self._answer_typed(following, now)

    def _finish(self, status: ev.Status, cause: ev.Cause | None = None) -> list[ev.Command]:
        commands = self._abort_floor()
        floor, self.floor, self._next = self.floor, None, None
        self._replied |= floor is not None
        return [*commands, ev.Finish(floor.turn, status, cause)] if floor else []

    def _abort_floor(self) -> list[ev.Command]:
        if self.floor is None or not self.floor.generating:
            return []
        self.floor.generating = False
        return [ev.Abort(self.floor.slot, self.floor.turn)]
