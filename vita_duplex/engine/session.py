"""The session: a thin shell that feeds the duplex core and carries out what it decides."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, assert_never

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.dialogue import HISTORY_LIMIT, Dialogue
from vita_duplex.engine.duplex import Duplex, DuplexConfig
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
    Slot,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
    Swap,
    VerdictReached,
    Warm,
)
from vita_duplex.engine.ledger import Ledger
from vita_duplex.engine.messages import AssistantMessage, Message, Query, Usage, UserMessage, Utterance, Verdict
from vita_duplex.engine.notices import (
    AsideEnded,
    AsideStarted,
    AsideText,
    Notice,
    PartTrouble,
    Roles,
    TurnAudio,
    TurnEnded,
    TurnHeld,
    TurnRecorded,
    TurnResumed,
    TurnStarted,
    UserStarted,
    UserStopped,
    UtteranceAccepted,
    UtteranceCommitted,
    VerdictGiven,
    VoiceActivity,
    WordsFailed,
    WordsKnown,
)
from vita_duplex.engine.pool import Seat
from vita_duplex.engine.ports import Asr, Chunk, Heard, Instance, Listener, PartFailed, Speech
from vita_duplex.engine.settings import Configure, ReplySettings
from vita_duplex.engine.text_reply import TextReply
from vita_duplex.engine.turn_record import Ending, TurnRecord

log = logging.getLogger(__name__)

EVENT_LIMIT = 256
"""Events that may wait. When it is full their producers (model stream, ears, client) wait: nothing is lost."""

STALL_LIMIT_S = 30
"""An instance that yields nothing for this long hangs, even if there is no other to go on: the turn fails instead of
keeping the floor in silence."""

ABORT_LIMIT_S = 0.1
"""How long an engine may take to end a request (vLLM: 1 ms) before we go on without it."""

Watch = Callable[[float, Event | None, list[Command]], None]
"""Told of each step of the core: the loop's time, the event (None: a deadline had passed), what it decided."""

ASIDE_LIMIT = 4
"""Requests beside the conversation at a time; further ones are refused."""

TRANSCRIBING_LIMIT = 4
"""Utterances whose words are being found at a time; further ones stay without, and the client is told."""

_ASIDE_CAUSE: dict[str, Literal["client_cancelled", "instance_failed", "max_output_tokens"] | None] = {
    "completed": None,
    "cancelled": "client_cancelled",
    "failed": "instance_failed",
    "incomplete": "max_output_tokens",
}


class NothingToAnswer(Exception):
    """Nothing waits for an answer."""


class Client(Protocol):
    """Where a session's notices go. Must not block; a client that cannot keep up is closed by its owner."""

    def tell(self, notice: Notice) -> None: ...


@dataclass(slots=True)
class Turn:
    """What the shell keeps of a turn that is being judged or spoken."""

    speech: Speech
    record: TurnRecord
    utterances: tuple[Utterance, ...]
    slot: Slot
    instance: Instance
    """Who answers now."""
    answering: asyncio.Task[None] | None = None
    text: str = ""
    """What the model has said of it."""
    deltas: int = 0
    """How many pieces that came in."""
    ledger: Ledger = field(default_factory=Ledger)
    verdict: Verdict | None = None
    speaking: asyncio.Task[None] | None = None
    settings: ReplySettings = field(default_factory=ReplySettings)
    usage: Usage | None = None
    limited: bool = False
    """It ended because it was long enough."""


@dataclass(slots=True)
class Span:
    """Where an utterance lies, and whether the client was told of its start and end."""

    start_ms: int
    end_ms: int
    started: float
    """Seconds since the session began, like `ended` and `endpoint`."""
    ended: float
    endpoint: float | None = None
    told_start: bool = False
    told_end: bool = False


class Session:
    """One conversation with one client.

    `run` lives as long as the conversation; cancel it to end it. All sources put events into one queue; one
    task takes them out, asks the core and performs its commands, so nothing here needs a lock.
    """

    def __init__(
        self,
        config: DuplexConfig,
        seat: Seat,
        listener: Listener,
        open_speech: Callable[[str | None], Speech],
        client: Client,
        watch: Watch | None = None,
        ears: Asr | None = None,
    ) -> None:
        """`open_speech` begins a turn with the voice of that name, or with the default; `ears` find the words of what
        was accepted, for the client, where the instances have none."""
        self.duplex = Duplex(config)
        self.dialogue = Dialogue()
        self._settings = Configure()
        self.swaps = 0
        self._seat = seat
        self._listener = listener
        self._open_speech = open_speech
        self._client = client
        self._watch = watch
        self._asr = ears
        self._transcribing = 0
        self._events: asyncio.Queue[Event | Heard | Utterance | Configure] = asyncio.Queue(EVENT_LIMIT)
        self._turns: dict[int, Turn] = {}
        self._utterances: dict[int, Utterance] = {}
        self._spans: dict[int, Span] = {}
        self._floor: int | None = None  # the turn the client was last told of; the core may be a command ahead
        self._past: dict[int, tuple[Ledger, int]] = {}  # of replies that are over, with the pacing clock at their end
        self._warming: asyncio.Task[None] | None = None
        self._roles: Roles | None = None  # as last told
        self._wanted: dict[int, ReplySettings] = {}  # of queries that were asked, by utterance
        self._newest_speech = 0
        self._unjudged_speech: int | None = None  # the utterance whose events do not go to the core
        self._asides: dict[int, asyncio.Task[None]] = {}
        self._away = False
        self._loop_time = asyncio.get_running_loop().time
        self._began = self._loop_time()

    async def run(self) -> None:
        """Converse until cancelled. Any other exception here is a bug of ours."""
        self._tell_roles()
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._follow_seat(), name="follow seat")
            self._tasks.create_task(self._listen(), name="listen")
            self._tasks.create_task(self._decide(), name="decide")

    # ── what the client asks for ───────────────────────────────────────────────────────

    async def configure(self, settings: Configure) -> None:
        """Replace all settings; what was received so far is decided by the old ones."""
        await self._events.put(settings)

    def hear(self, samples: Samples) -> bool:
        """Take in samples of the microphone at 16 kHz; False if too many are waiting and these were dropped."""
        return self._listener.hear(samples)

    def forget_audio(self) -> None:
        """Drop the samples that were received and not yet listened to."""
        self._listener.forget()

    def add_user_message(self, utterance: Utterance) -> None:
        """Enter an utterance or a text into the dialogue, where it waits for `answer_waiting`."""
        message = UserMessage(utterance.text) if utterance.text is not None else UserMessage(None, (utterance,))
        self.dialogue.accept(message, (utterance.number,), waiting=True)

    def add_assistant_message(self, number: int, text: str) -> None:
        """Enter a reply that the client knows from elsewhere; `number` is the next of the utterances' numbers."""
        self.dialogue.add_assistant_message(number, AssistantMessage(text))

    async def answer_waiting(self, settings: ReplySettings) -> int:
        """Answer what waits in the dialogue; return the number of its last utterance. Errors: `NothingToAnswer`."""
        utterance = self._take_question()
        self._wanted[utterance.number] = settings
        await self._events.put(utterance)
        return utterance.number

    async def ask(self, number: int, text: str, settings: ReplySettings | None = None) -> None:
        """Put a typed query; `number` is the next of the utterances' numbers. None: the session's own settings."""
        if settings:
            self._wanted[number] = settings
        await self._events.put(Utterance(number, text=text))

    def _take_question(self) -> Utterance:
        """What waits: texts in a row are one question; before and between recordings they are messages of their own."""
        waiting = self.dialogue.take_waiting()
        if not waiting:
            raise NothingToAnswer
        newest = waiting[-1]
        first = len(waiting) - 1
        while newest.message.text is not None and first > 0 and waiting[first - 1].message.text is not None:
            first -= 1
        for said in waiting[:first]:
            self.dialogue.accept(said.message, said.numbers)
        if newest.message.text is None:
            return newest.message.utterances[0]
        return Utterance(newest.numbers[-1], text="\n".join(said.message.text or "" for said in waiting[first:]))

    def start_aside(self, number: int, query: Query, max_tokens: int | None) -> bool:
        """Answer beside the conversation, as text. False: too many are under way."""
        if len(self._asides) >= ASIDE_LIMIT:
            return False
        self._asides[number] = self._tasks.create_task(self._answer_aside(number, query, max_tokens), name="aside")
        return True

    def cancel_aside(self, number: int) -> bool:
        """False: there is none."""
        return number in self._asides and self._asides[number].cancel()

    def leave(self) -> None:
        """The client is away: what it has not heard waits for it."""
        self._away = True
        if self._floor is not None and not self.duplex.held:
            self._turns[self._floor].speech.hold()

    def come_back(self) -> None:
        """The client is there again."""
        self._away = False
        if self._floor is not None and not self.duplex.held:
            self._turns[self._floor].speech.resume()

    async def cancel_reply(self, turn: int) -> None:
        await self._events.put(CancelAsked(turn))

    def acknowledge(self, number: int, samples: int) -> None:
        """The client has played so much of a turn."""
        if number == self._floor:
            turn = self._turns[number]
            turn.ledger.acknowledge(samples, turn.speech.heard())
        elif number in self._past:
            ledger, clock = self._past[number]
            ledger.acknowledge(samples, clock)
            self._correct(number)

    async def truncate(self, number: int, samples: int) -> bool:
        """The client plays no more than so much of a turn; the one being spoken stops. False: there is no such turn."""
        if number == self._floor:
            self._turns[number].ledger.truncate(samples)
            await self.cancel_reply(number)
        elif number in self._past:
            self._past[number][0].truncate(samples)
            self._correct(number)
        else:
            return False
        return True

    # ── sources of events ──────────────────────────────────────────────────────────────

    async def _listen(self) -> None:
        async with aclosing(self._listener.run()) as ears:
            async for heard in ears:
                number, starts = heard.event.utterance, isinstance(heard.event, SpeechStarted)
                if number < self._newest_speech or (starts and number == self._newest_speech):
                    continue  # late or repeated
                if starts:
                    self._newest_speech = number
                await self._events.put(heard)

    def _commit(self, heard: Heard) -> None:
        """Speech that nobody judges: it is told at once, and waits in the dialogue when it is over."""
        number = heard.event.utterance
        match heard.event:
            case SpeechStarted():
                self._tell(VoiceActivity(True))
                self._tell(UserStarted(number, _ms(heard.start)))
            case SpeechEnded():
                self._tell(VoiceActivity(False))
                self._tell(UserStopped(number, _ms(heard.end)))
                self._unjudged_speech = None
                self.add_user_message(Utterance(number, heard.samples))
                self._tell(UtteranceCommitted(number))
            case _:
                pass

    async def _answer(self, number: int, turn: Turn, query: Query) -> None:
        """Take one request to its end, wherever it can be. Cancelled, it closes the stream, which aborts the request.

        When an instance fails another one goes on, from the text that is there by then: that is in the hands of the
        voice already, so nothing is said twice and nothing left out.
        """
        tried: set[str] = set()  # in vain, though they are up
        while failure := await self._stream(number, turn, query, tried):
            if turn.instance.healthy:
                tried.add(turn.instance.name)
            successor = self._seat.stand_in(turn.slot, tried)
            if successor is None:
                self._tell(PartTrouble(failure.part, failure.message))
                await self._events.put(ReplyFailed(number))
                break
            log.warning("%s; instance %s goes on in the place of %s", failure, successor.name, turn.instance.name)
            turn.instance = successor
            turn.record.moves.append((self._clock(), successor.name))
            query = replace(query, answer_so_far=turn.text if turn.verdict else None)
        else:
            turn.record.generated = self._clock()
            await self._events.put(ReplyEnded(number))
        turn.speech.finish()

    async def _stream(self, number: int, turn: Turn, query: Query, tried: Collection[str]) -> PartFailed | None:
        """Take in what the turn's instance has to say; return why it stopped if that is not the end of the answer."""
        instance, limits = turn.instance, self.duplex.config

        def patience(limit_s: float) -> float:
            other = self._seat.stand_in(turn.slot, {*tried, instance.name})
            return self._loop_time() + (limit_s if other else STALL_LIMIT_S)

        try:
            async with (
                aclosing(instance.answer(query)) as stream,
                asyncio.timeout_at(patience(limits.first_limit_s)) as waiting,
            ):
                async for item in stream:
                    self._seat.progressed(instance)
                    match item:
                        case Verdict():
                            waiting.reschedule(patience(limits.first_limit_s))
                            await self._note_verdict(number, turn, item)
                        case Usage():
                            turn.usage = item
                        case _ if turn.deltas == turn.settings.max_tokens:
                            turn.limited = True
                            break
                        case _:
                            waiting.reschedule(patience(limits.stall_limit_s))
                            turn.deltas += 1
                            if turn.record.first_token is None:
                                turn.record.first_token = self._clock()
                            turn.text += item
                            turn.speech.write(item)
        except PartFailed as failure:
            return failure
        except TimeoutError:
            self._seat.stalled(instance)
            return PartFailed(instance.name, "it hangs")
        return None

    async def _follow_seat(self) -> None:
        while True:
            await self._seat.changed.wait()
            self._seat.changed.clear()
            self._tell_roles()

    async def _note_verdict(self, number: int, turn: Turn, verdict: Verdict) -> None:
        turn.verdict = verdict
        turn.record.verdict = self._clock()
        spoken = turn.utterances[-1].samples
        if verdict.finished is not None and spoken is not None:
            self._listener.hint(spoken, verdict.finished)
        await self._events.put(VerdictReached(number, verdict.p1, verdict.p2, verdict.p3))
        if number == self._floor and turn.utterances[-1].text is None:
            if verdict.transcripts:
                self._tell_words(turn, verdict.transcripts)
            else:
                self._find_words(turn.utterances)

    def _tell_words(self, turn: Turn, transcripts: tuple[str, ...]) -> None:
        """Of a recording that was asked about: it entered the dialogue before anybody had heard it."""
        self.dialogue.put_words(turn.record.utterances, " ".join(transcripts))
        for utterance, transcript in zip(turn.utterances, transcripts, strict=True):
            seconds = len(utterance.samples) / INPUT_RATE if utterance.samples is not None else 0.0
            self._tell(WordsKnown(utterance.number, transcript, seconds))

    def _find_words(self, utterances: Iterable[Utterance]) -> None:
        """Have the ears hear what was accepted. Nobody waits for it, and the dialogue keeps the sound."""
        for utterance in utterances:
            if self._asr is None or not self._settings.transcribes or utterance.samples is None:
                continue
            if self._transcribing == TRANSCRIBING_LIMIT:
                self._tell(WordsFailed(utterance.number, "the ears have too much to do"))
                continue
            self._transcribing += 1
            work = self._transcribe(self._asr, utterance.number, utterance.samples)
            self._tasks.create_task(work, name=f"transcribe {utterance.number}")

    async def _transcribe(self, ears: Asr, number: int, samples: Samples) -> None:
        try:
            transcript = await ears.hear(samples, self._settings.language)
        except PartFailed as failure:
            self._tell(WordsFailed(number, failure.message))
        else:
            self._tell(WordsKnown(number, transcript.text, len(samples) / INPUT_RATE))
        finally:
            self._transcribing -= 1

    async def _answer_aside(self, number: int, query: Query, max_tokens: int | None) -> None:
        status: Literal["completed", "cancelled", "failed", "incomplete"] = "completed"
        usage, deltas = None, 0
        self._tell(AsideStarted(number))
        instance = self._seat.serving(self.duplex.monitor)
        try:
            async with aclosing(instance.answer(query)) as stream, asyncio.timeout(STALL_LIMIT_S) as patience:
                async for item in stream:
                    patience.reschedule(self._loop_time() + STALL_LIMIT_S)
                    if isinstance(item, Usage):
                        usage = item
                    elif isinstance(item, str):
                        if deltas == max_tokens:
                            status = "incomplete"
                            break
                        deltas += 1
                        self._tell(AsideText(number, item))
        except PartFailed as failure:
            status = "failed"
            self._tell(PartTrouble(failure.part, failure.message))
        except TimeoutError:
            status = "failed"
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            del self._asides[number]
            self._tell(AsideEnded(number, status, _ASIDE_CAUSE[status], usage))

    async def _speak(self, number: int, turn: Turn) -> None:
        def send(chunk: Chunk) -> None:
            if self.duplex.floor is None or self.duplex.floor.turn != number:
                return  # from an interrupted reply
            if chunk.error:
                self._tell(PartTrouble("tts", chunk.error))
            if len(chunk.samples) and turn.record.first_audio_sent is None:
                turn.record.first_audio_sent = self._clock()
            turn.ledger.add(chunk.text, len(chunk.samples), chunk.piece_samples)
            if len(chunk.samples) or chunk.text is not None:
                self._tell(TurnAudio(number, chunk.samples, chunk.text))

        await turn.speech.play(send)
        await self._events.put(Played(number))

    # ── the loop ───────────────────────────────────────────────────────────────────────

    async def _decide(self) -> None:
        while True:
            try:
                async with asyncio.timeout_at(self.duplex.deadline):
                    item = await self._events.get()
            except TimeoutError:
                event, now = None, self._loop_time()
                commands = self.duplex.tick(now)
            else:
                event, now = self._note(item), self._loop_time()
                if event is None:
                    continue
                commands = self.duplex.receive(event, now)
            if self._watch:
                self._watch(now, event, commands)
            for command in commands:
                await self._perform(command)
            self._forget_ignored()
            self._seat.update(self.duplex.generator, idle=self.duplex.idle)

    async def _perform(self, command: Command) -> None:
        match command:
            case Warm(slot):
                self._warm(slot)
            case Begin():
                self._begin(command)
            case Abort(_, number):
                await self._abort(self._turns[number])
            case Accept(number, numbers):
                self._accept(self._turns[number], numbers)
            case Reject(number, numbers, reason):
                turn = self._turns.pop(number)
                if reason == "deadline" and turn.verdict is None:
                    self._seat.stalled(turn.instance)
                wordless = replace(turn.verdict, transcripts=()) if turn.verdict else None
                self._tell(VerdictGiven(numbers, wordless, False, reason))
                self._record(turn, "rejected", reason)
            case Swap(generator):
                self.swaps += 1
                self._seat.update(generator, idle=False)
                self._tell_roles()
            case GiveFloor(number):
                turn, self._floor = self._turns[number], number
                turn.record.floor = self._clock()
                self.dialogue.begin_reply(number)
                self._tell(TurnStarted(number, turn.record.utterances[-1], turn.settings.spoken))
                if self._away:
                    turn.speech.hold()
                turn.speaking = self._tasks.create_task(self._speak(number, turn), name=f"speak {number}")
            case Hold(number):
                turn = self._turns[number]
                turn.speech.hold()
                turn.record.holds.append((self._clock(), None))
                self._tell(TurnHeld(number))
            case Resume(number):
                turn = self._turns[number]
                if not self._away:
                    turn.speech.resume()
                self._end_hold(turn)
                self._tell(TurnResumed(number))
            case Finish():
                self._finish(command)
            case _:
                assert_never(command)

    def _warm(self, slot: Slot) -> None:
        self._stop_warming()
        query = Query(self._history(), (), self._settings.reply.instructions, self._settings.frames)
        self._warming = self._tasks.create_task(self._compute(self._seat.serving(slot), query), name="warm")

    async def _compute(self, instance: Instance, query: Query) -> None:
        with suppress(PartFailed):  # the request that follows will tell
            await instance.warm(query)

    def _stop_warming(self) -> None:
        """A request never waits for its warm-up: what was computed so far stays in the engine's prefix cache, the
        rest it computes itself."""
        if self._warming:
            self._warming.cancel()

    def _history(self) -> tuple[Message, ...]:
        """The dialogue for a request that begins now: of the reply that is being spoken, what was heard by now.

        If it goes on being heard until the verdict (`barge_in: verdict`), that came after the question, and the
        request does not know of it; the dialogue does, once the reply is cut, and so the next request.
        """
        if self._floor is not None:
            self._note_heard(self._floor, self._turns[self._floor], completed=False)
        return self.dialogue.history()

    def _begin(self, command: Begin) -> None:
        self._stop_warming()
        self._forget_withdrawn()
        instance = self._seat.serving(command.slot)
        utterances = tuple(self._utterances[number] for number in command.utterances)
        record = TurnRecord(command.turn, command.utterances, command.slot, instance.name, self._clock())
        record.abstained = command.abstained
        settings = self._wanted.pop(command.utterances[-1], self._settings.reply)
        query = Query(
            self._history(), utterances, settings.instructions, self._settings.frames, language=self._settings.language
        )
        speech = self._open_speech(settings.voice) if settings.spoken else TextReply()
        turn = Turn(
            speech, record, utterances, command.slot, instance, ledger=Ledger(settings.spoken), settings=settings
        )
        self._turns[command.turn] = turn
        turn.answering = self._tasks.create_task(self._answer(command.turn, turn, query), name=f"answer {command.turn}")

    async def _abort(self, turn: Turn) -> None:
        """Stop a request and see it end, so that the client is told after the engine was."""
        assert turn.answering is not None
        turn.answering.cancel()
        await asyncio.wait([turn.answering], timeout=ABORT_LIMIT_S)
        turn.record.aborted = self._clock()

    def _accept(self, turn: Turn, numbers: tuple[int, ...]) -> None:
        words = [utterance.text for utterance in turn.utterances]
        typed = Verdict(0.0, 0.0, 1.0, tuple(text for text in words if text is not None))
        verdict = turn.verdict or typed
        if verdict.transcripts:
            words = list(verdict.transcripts)
        self._tell(VerdictGiven(numbers, verdict, True, "verdict"))
        for utterance, transcript in zip(turn.utterances, words, strict=True):
            self._tell_speech(utterance.number, ended=True)
            span = self._spans.get(utterance.number)
            seconds = span.ended - span.started if span else None
            self._tell(UtteranceAccepted(utterance.number, transcript, seconds))
        known = [text for text in words if text is not None]
        if len(known) == len(words):
            self.dialogue.accept(UserMessage(" ".join(known)), numbers)
        else:
            self.dialogue.accept(UserMessage(None, turn.utterances), numbers)
            if turn.verdict:  # else it was asked about, and may bring the words yet
                self._find_words(turn.utterances)
        self._note_span(turn)
        self._note_verdict_in_record(turn)

    def _finish(self, command: Finish) -> None:
        turn, self._floor = self._turns.pop(command.turn), None
        assert turn.speaking is not None
        turn.speaking.cancel()
        heard = self._note_heard(command.turn, turn, completed=command.status == "completed")
        self._past[command.turn] = turn.ledger, turn.speech.heard()
        if len(self._past) > HISTORY_LIMIT:
            del self._past[next(iter(self._past))]
        self._end_hold(turn)
        if turn.limited and command.status == "completed":
            self._tell(TurnEnded(command.turn, "incomplete", "max_output_tokens", heard, turn.usage))
        else:
            self._tell(TurnEnded(command.turn, command.status, command.cause, heard, turn.usage))
        self._record(turn, command.status, command.cause)

    # ── notes ──────────────────────────────────────────────────────────────────────────

    def _note(self, item: Event | Heard | Utterance | Configure) -> Event | None:
        """Keep what comes beside an event for the core, and return that event, if there is one."""
        match item:
            case Configure(decisions=decisions):
                self._settings = item
                decided = SettingsChanged(self.duplex.config.barge_in, self.duplex.config.verdict_threshold)
                return decisions if decisions != decided else None
            case Heard(SpeechStarted(number)) if not self._settings.answers_speech:
                self._unjudged_speech = number
                self._commit(item)
                return None
            case Heard(event) if event.utterance == self._unjudged_speech:
                self._commit(item)
                return None
            case Heard(event):
                self._note_speech(item)
                return event
            case Utterance(number):
                self._utterances[number] = item
                return QueryTyped(number)
            case _:
                return item

    def _note_speech(self, heard: Heard) -> None:
        number, clock = heard.event.utterance, self._clock()
        match heard.event:
            case SpeechStarted():
                started = clock - (heard.now - heard.start) / INPUT_RATE
                self._spans[number] = Span(_ms(heard.start), _ms(heard.end), started, clock)
                self._tell(VoiceActivity(True))
                if self.duplex.floor is None:
                    self._tell_speech(number, ended=False)
            case SpeechPaused() | SpeechEnded():
                ended = isinstance(heard.event, SpeechEnded)
                if ended:
                    self._tell(VoiceActivity(False))
                span = self._spans.get(number)
                if span is None:
                    return  # ignored from its start: speech during a reply with `barge_in: off`
                span.end_ms = _ms(heard.end)
                span.ended = clock - (heard.now - heard.end) / INPUT_RATE
                self._utterances[number] = Utterance(number, heard.samples)
                if ended:
                    span.endpoint = clock
                    if span.told_start:
                        self._tell_speech(number, ended=True)
            case SpeechSustained() | SpeechResumed():
                pass

    def _tell_speech(self, number: int, *, ended: bool) -> None:
        """Tell of an utterance's start and end, each once."""
        span = self._spans.get(number)
        if span is None:
            return  # typed
        if not span.told_start:
            span.told_start = True
            self._tell(UserStarted(number, span.start_ms))
        if ended and not span.told_end:
            span.told_end = True
            self._tell(UserStopped(number, span.end_ms))

    def _note_heard(self, number: int, turn: Turn, *, completed: bool) -> str:
        """Bring record and dialogue up to what was heard by now; return its text."""
        counts, ledger, clock = turn.record.samples, turn.ledger, turn.speech.heard()
        if completed:
            ledger.acknowledge(ledger.sent, clock)  # nothing stops what a slow client still has to play
        counts.synthesised, counts.sent, counts.heard = turn.speech.synthesised, ledger.sent, ledger.heard(clock)
        text = ledger.heard_text(counts.heard)
        self.dialogue.note_heard(number, text, cut=not completed or counts.heard < ledger.sent)
        return text

    def _correct(self, number: int) -> None:
        """Bring the dialogue up to what a client says late about a reply that is over."""
        ledger, clock = self._past[number]
        heard = ledger.heard(clock)
        self.dialogue.note_heard(number, ledger.heard_text(heard), cut=heard < ledger.sent)

    def _note_span(self, turn: Turn) -> None:
        spans = [self._spans[u.number] for u in turn.utterances if u.number in self._spans]
        if spans:
            turn.record.speech_start = spans[0].started
            turn.record.speech_end, turn.record.endpoint = spans[-1].ended, spans[-1].endpoint

    def _note_verdict_in_record(self, turn: Turn) -> None:
        if turn.verdict:
            turn.record.state, turn.record.p1 = turn.verdict.state, turn.verdict.p1
            turn.record.asr_s = turn.verdict.asr_s

    def _end_hold(self, turn: Turn) -> None:
        if turn.record.holds and turn.record.holds[-1][1] is None:
            turn.record.holds[-1] = (turn.record.holds[-1][0], self._clock())

    def _record(self, turn: Turn, status: Ending, cause: str | None) -> None:
        record = turn.record
        record.text_chars = len(turn.text)
        self._note_span(turn)
        self._note_verdict_in_record(turn)
        if turn.speech.first_clause is not None:
            record.first_clause = turn.speech.first_clause - self._began
        if turn.speech.first_synthesised is not None:
            record.first_synthesised = turn.speech.first_synthesised - self._began
        record.underruns = turn.speech.underruns
        record.status, record.reason, record.finished = status, cause, self._clock()
        self._tell(TurnRecorded(record))

    def _forget_withdrawn(self) -> None:
        """A new request begins: the one it replaces was aborted and has no ending to tell."""
        self._turns = {number: turn for number, turn in self._turns.items() if number == self._floor}

    def _forget_ignored(self) -> None:
        """Drop the audio of utterances nobody will ask about any more."""
        wanted = self.duplex.undecided
        for kept in (self._utterances, self._spans):
            for number in [number for number in kept if number not in wanted]:
                del kept[number]

    def _tell_roles(self) -> None:
        """Say who serves the slots, if that is news."""
        serving = self._seat.serving(self.duplex.generator), self._seat.serving(self.duplex.monitor)
        roles = Roles(serving[0].name, serving[1].name, self.swaps)
        if roles != self._roles:
            self._roles = roles
            self._tell(roles)

    def _tell(self, notice: Notice) -> None:
        self._listener.note(notice)
        self._client.tell(notice)

    def _clock(self) -> float:
        """Seconds since the session began."""
        return self._loop_time() - self._began


def _ms(samples: int) -> int:
    return samples * 1000 // INPUT_RATE
