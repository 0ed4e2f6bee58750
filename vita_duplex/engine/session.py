"""The session: a thin shell that feeds the duplex core and carries out what it decides."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import assert_never

from vita_duplex.engine import events as ev
from vita_duplex.engine import notices
from vita_duplex.engine.asides import Asides
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.calling import Calling
from vita_duplex.engine.dialogue import Dialogue
from vita_duplex.engine.duplex import Duplex
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.ledger import Ledger
from vita_duplex.engine.messages import AssistantMessage, Query, UserMessage, Utterance, Verdict
from vita_duplex.engine.playback import Playback
from vita_duplex.engine.pool import Seat
from vita_duplex.engine.ports import Asr, Chunk, Client, Heard, Listener, PartFailed, Speech
from vita_duplex.engine.recorder import Recorder
from vita_duplex.engine.requests import Glancing, Request, Told, WarmUp
from vita_duplex.engine.roles import RoleTeller
from vita_duplex.engine.second_thoughts import SecondThoughts
from vita_duplex.engine.settings import Configure, ReplySettings
from vita_duplex.engine.tasks import Tasks
from vita_duplex.engine.text_reply import TextReply
from vita_duplex.engine.transcripts import Transcripts
from vita_duplex.engine.turn import Turn
from vita_duplex.engine.utterances import Utterances

EVENT_LIMIT = 256
"""Events that may wait. When it is full their producers (model stream, listener, client) wait: nothing is lost."""

ABORT_LIMIT_S = 0.1
"""How long an engine may take to end a request (vLLM: 1 ms) before we go on without it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that the client has put, with its own settings if it has any."""

    utterance: Utterance
    settings: ReplySettings | None
    patient: bool = False
    """It waits for the reply under way."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The client says that an utterance that was rejected was meant for us."""

    utterance: int


Item = ev.Event | Heard | Asked | Configure | Claim
"""What waits for the core."""

Watch = Callable[[float, ev.Event | None, list[ev.Command]], None]
"""Told of each step of the core: the loop's time, the event (None: a deadline had passed), what it decided."""


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
        asr: Asr | None = None,
        transcriber: Asr | None = None,
    ) -> None:
        """`open_speech` begins a turn with the voice of that name, or with the default; `asr` finds the words of what
        was accepted, for the client, where the instances find none; `transcriber` those of a session that only listens.
        """
        self.duplex = Duplex(config)
        self.dialogue = Dialogue()
        self._settings = Configure()
        self._reply_settings: dict[int, ReplySettings] = {}  # of queries that were asked, by utterance
        self._seat = seat
        self._listener = listener
        self._open_speech = open_speech
        self._client = client
        self._watch = watch
        self._now = asyncio.get_running_loop().time
        self._events: asyncio.Queue[Item] = asyncio.Queue(EVENT_LIMIT)
        self._tasks = Tasks()
        self._asides = Asides(self._tasks, self._tell)
        self._transcripts = Transcripts(asr, transcriber, self.dialogue, self._tasks, self._tell)
        self._utterances = Utterances(self._tell)
        self._second_thoughts = SecondThoughts()
        self._recorder = Recorder(self._now(), self._utterances.spans)
        self._turns: dict[int, Turn] = {}
        self._left_out = 0  # messages of the dialogue, by the latest turn
        self._playback = Playback(self.dialogue)
        self.calling = Calling(self.dialogue, self._playback, self._tell, self._now)
        self._warm_up = WarmUp(self._tasks)
        self._glancing = Glancing(self._tasks, seat, self._events.put)
        self._roles = RoleTeller(self.duplex, seat, self._tell)

    async def run(self) -> None:
        """Converse until cancelled. Any other exception here is a bug of ours."""
        self._roles.tell()
        async with self._tasks:
            self._tasks.create_task(self._roles.run(), name="follow seat")
            self._tasks.create_task(self._listen(), name="listen")
            self._tasks.create_task(self._decide(), name="decide")

    # ── what the client asks for ───────────────────────────────────────────────────────

    async def configure(self, settings: Configure) -> None:
        """Replace all settings; what was received so far is decided by the old ones."""
        await self._events.put(settings)

    def hear(self, samples: Samples) -> bool:
        """Take in samples of the microphone at 16 kHz; False if too many are waiting and these were dropped."""
        return self._listener.hear(samples)

    def forget_audio(self) -> int:
        """Drop what is being said, and the samples that were received and not yet listened to; return their number."""
        return self._listener.forget()

    async def end_speech(self) -> int | None:
        """End what is being said; return the utterance's number, or None if nothing is."""
        return await self._listener.end()

    def add_user_message(self, utterance: Utterance) -> None:
        """Enter an utterance or a text into the dialogue, where it waits for `answer_dialogue`."""
        message = UserMessage(utterance.text) if utterance.text is not None else UserMessage(None, (utterance,))
        self.dialogue.accept(message, (utterance.number,), waiting=True)

    def write_down(self, utterance: Utterance, language: str | None) -> None:
        """Tell the client the words of an utterance, which enters no dialogue."""
        self._transcripts.find([utterance], Configure(only_listens=True, language=language))

    def add_assistant_message(self, number: int, text: str) -> None:
        """Enter a reply that the client knows from elsewhere; `number` is the next of the utterances' numbers."""
        self.dialogue.add_assistant_message(number, AssistantMessage(text))

    async def answer_dialogue(self, numbers: Iterator[int], settings: ReplySettings) -> int:
        """Answer what waits in the dialogue, or else the dialogue as it is, by a query without words; return the number
        of the utterance that is answered. `numbers` are the next of the utterances'. Where only outputs of calls wait
        to be answered, they wait for the reply under way, too."""
        question = self.dialogue.take_question() if settings.history is None else None
        utterance = question or Utterance(next(numbers), text="")
        patient = question is None and settings.history is None and bool(self.calling.ledger.waiting)
        await self._events.put(Asked(utterance, settings, patient))
        return utterance.number

    async def ask(self, number: int, text: str, settings: ReplySettings | None = None) -> None:
        """Put a typed query; `number` is the next of the utterances' numbers. None: the session's own settings."""
        await self._events.put(Asked(Utterance(number, text=text), settings))

    def start_aside(self, number: int, query: Query) -> bool:
        """Answer beside the conversation, as text. False: too many are under way."""
        if self._asides.full:
            return False
        self._asides.start(number, Request(query, self.duplex.monitor, self._seat, self.duplex.config))
        return True

    def cancel_aside(self, number: int) -> bool:
        """False: there is none."""
        return self._asides.cancel(number)

    def leave(self) -> None:
        """The client is away: what it has not heard waits for it."""
        self._playback.leave()

    def come_back(self) -> None:
        """The client is there again."""
        self._playback.come_back()

    async def cancel_reply(self, turn: int) -> None:
        await self._events.put(ev.CancelAsked(turn))

    async def claim(self, number: int) -> bool:
        """The last utterance that was rejected was meant for us: answer it. False: it is not kept any more."""
        known = self._second_thoughts.can_claim(number, self._now())
        if known:
            await self._events.put(Claim(number))
        return known

    async def disclaim(self, number: int) -> tuple[tuple[int, ...], int] | None:
        """The last utterance that was accepted was not meant for us: its reply stops, and the dialogue forgets both.
        Return the utterances that were judged with it and the turn of the reply; None: it is too late."""
        found = self._second_thoughts.disclaim(number, self._now())
        if found is None:
            return None
        numbers, turn, corrected = found
        await self.cancel_reply(turn)
        for one in numbers:
            self.dialogue.remove_message(one)
        self.dialogue.remove_reply(turn)
        self._tell(corrected)
        return numbers, turn

    def foreseen_end(self) -> notices.TurnEnded | None:
        """How the reply that is being heard will end if nothing stops it; None: there is none, or not all of it yet."""
        floor, turn = self.duplex.floor, self._playback.turn
        if not floor or not turn or floor.turn != turn.number or floor.generating or floor.failed:
            return None
        if turn.calls_told < len(turn.request.calls):
            return None
        return self._ended(turn, "completed", None, turn.request.text)

    def acknowledge(self, number: int, samples: int) -> None:
        """The client has played so much of a turn."""
        self._playback.acknowledge(number, samples)

    async def truncate(self, number: int, samples: int) -> bool:
        """The client plays no more than so much of a turn; the one being spoken stops. False: there is no such turn."""
        known = self._playback.truncate(number, samples)
        if known:
            await self.cancel_reply(number)
        return known

    # ── sources of events ──────────────────────────────────────────────────────────────

    async def _listen(self) -> None:
        async with aclosing(self._listener.run()) as listener:
            async for heard in listener:
                if isinstance(heard, PartFailed):
                    self._tell(notices.PartTrouble(heard.part, heard.message))
                elif self._utterances.are_news(heard):
                    await self._events.put(heard)

    async def _answer(self, turn: Turn) -> None:
        async def judge(verdict: Verdict) -> None:
            spoken = turn.utterances[-1].samples
            if verdict.finished is not None and spoken is not None:
                self._listener.hint(spoken, verdict.finished)
            await self._events.put(ev.VerdictReached(turn.number, verdict.p1, verdict.p2, verdict.p3))
            if turn is self._playback.turn:
                self._tell_left_out(turn)
            if turn is self._playback.turn and not turn.typed and not self._transcripts.take(turn.utterances, verdict):
                self._transcripts.find(turn.utterances, self._settings)

        if failure := await turn.request.run(judge, turn.speech.write, lambda _: self.calling.tell()):
            self._tell(notices.PartTrouble(failure.part, failure.message))
            await self._events.put(ev.ReplyFailed(turn.number))
        else:
            await self._events.put(ev.ReplyEnded(turn.number))
        turn.speech.finish()

    async def _speak(self, turn: Turn) -> None:
        def send(chunk: Chunk) -> None:
            if self.duplex.floor is None or self.duplex.floor.turn != turn.number:
                return  # from an interrupted reply
            if chunk.error:
                self._tell(notices.PartTrouble("tts", chunk.error))
            turn.ledger.add(chunk.text, len(chunk.samples), chunk.piece_samples)
            if len(chunk.samples) or chunk.text is not None:
                self._tell(notices.TurnAudio(turn.number, chunk.samples, chunk.text))

        await turn.speech.play(send)
        await self._events.put(ev.Played(turn.number))

    # ── the loop ───────────────────────────────────────────────────────────────────────

    async def _decide(self) -> None:
        while True:
            event = None
            try:
                async with asyncio.timeout_at(self._deadline):
                    item = await self._events.get()
            except TimeoutError:
                now = self._now()
                self._second_thoughts.forget(now)
                commands = self.duplex.tick(now)
            else:
                now = self._now()
                event = self._note(item, now)
                if event is None:
                    continue
                commands = self.duplex.receive(event, now)
            self._recorder.step(now, event, commands)
            if self._watch:
                self._watch(now, event, commands)
            for command in commands:
                await self._perform(command, now)
            self._utterances.forget_all_but(self.duplex.undecided)
            for number in self._reply_settings.keys() - set(self.duplex.undecided):
                del self._reply_settings[number]
            self._seat.update(self.duplex.generator, idle=self.duplex.idle)

    @property
    def _deadline(self) -> float | None:
        moments = (self.duplex.deadline, self._second_thoughts.deadline)
        return min((one for one in moments if one is not None), default=None)

    def _note(self, item: Item, now: float) -> ev.Event | None:
        """Keep what comes beside an event for the core; return that event, if it is one."""
        match item:
            case Configure(decisions=decisions):
                self._settings = item
                return decisions if decisions != self.duplex.config.decisions else None
            case Heard() if self._utterances.is_unjudged(item, judging=self._settings.answers_speech):
                if utterance := self._utterances.commit(item):
                    self._tell(notices.UtteranceCommitted(utterance.number))
                    if self._settings.only_listens:
                        self.write_down(utterance, self._settings.language)
                    else:
                        self.add_user_message(utterance)
                return None
            case Heard(event):
                self._utterances.note(item, now, self._playback.situation(now))
                return event
            case Asked(utterance, settings, patient):
                self._utterances.keep(utterance)
                if settings:
                    self._reply_settings[utterance.number] = settings
                return ev.AnswerAsked(utterance.number) if patient else ev.QueryTyped(utterance.number)
            case Claim(number):
                return self._claimed(number, now)
            case _:
                return item

    def _claimed(self, number: int, now: float) -> ev.Event | None:
        """An utterance that was rejected is asked about, as one that was committed is."""
        found = self._second_thoughts.claim(number, now)
        if found is None:
            return None  # something else was rejected meanwhile
        utterance, corrected = found
        self._utterances.keep(utterance)
        self._tell(corrected)
        self._tell(notices.UtteranceCommitted(utterance.number))
        return ev.QueryTyped(utterance.number)

    async def _perform(self, command: ev.Command, now: float) -> None:
        match command:
            case ev.Warm(slot):
                self._warm_up.begin(self._seat.serving(slot), self._query((), self._settings.reply))
            case ev.Begin():
                self._begin(command)
            case ev.Abort(_, number):
                await self._abort(self._turns[number])
            case ev.Glance(slot, number, utterance):
                self._glancing.begin(number, self._seat.serving(slot), self._glance_query(utterance, now))
            case ev.EndGlance():
                self._glancing.stop()
            case ev.Interrupt(utterance):
                self._utterances.tell_start(utterance)
            case ev.Accept(number, numbers):
                self._accept(self._turns[number], numbers)
            case ev.Reject():
                self._reject(command)
            case ev.Swap():
                self._roles.swap()
            case ev.GiveFloor(number):
                self._give_floor(self._turns[number])
            case ev.Hold(number):
                self._playback.hold()
                self._tell(notices.TurnHeld(number))
            case ev.Resume(number):
                self._playback.resume()
                self._tell(notices.TurnResumed(number))
                self.calling.tell()
            case ev.Finish():
                self._finish(command, now)
            case _:
                assert_never(command)

    def _query(self, utterances: tuple[Utterance, ...], reply: ReplySettings) -> Query:
        """A request that begins now: of the reply that is being spoken, its dialogue has what was heard by now.

        If the reply goes on being heard until the verdict (`barge_in: verdict`), that came after the question, and
        the request does not know of it; the dialogue does, once the reply is cut, and so the next request.
        """
        self._playback.bring_dialogue_up()
        frames, language = self._settings.frames, self._settings.language
        history = self.dialogue.history() if reply.history is None else reply.history
        said, limit = tuple(one for one in utterances if one.text != ""), reply.max_tokens
        situation = self._utterances.situation([one.number for one in said])
        instructions, limits = reply.instructions, (limit, reply.tools, reply.retained)
        return Query(history, said, instructions, frames, None, situation, False, language, *limits)

    def _glance_query(self, utterance: int, now: float) -> Query:
        """A look at speech into the reply that is being heard now, whatever was when the speech began."""
        query = self._query((self._utterances.latest(utterance),), self._settings.reply)
        return replace(query, situation=self._playback.situation(now), unfinished=True)

    def _begin(self, command: ev.Begin) -> None:
        self._warm_up.stop()
        floor = self._playback.turn
        self._turns = {floor.number: floor} if floor else {}  # the request that this one replaces was aborted
        utterances = self._utterances.get(command.utterances)
        settings = self._reply_settings.pop(command.utterances[-1], self._settings.reply)
        asked = self._query(utterances, settings), command.slot, self._seat, self.duplex.config
        request = Request(*asked) if settings.told is None else Told(settings.told, *asked)
        speech = self._open_speech(settings.voice) if settings.spoken else TextReply()
        outputs = self.calling.ledger.waiting if settings.history is None else frozenset()
        turn = Turn(command.turn, utterances, request, speech, Ledger(settings.spoken), outputs)
        self._turns[command.turn] = turn
        turn.answering = self._tasks.create_task(self._answer(turn), name=f"answer {command.turn}")

    async def _abort(self, turn: Turn) -> None:
        """Stop a request and see it end, so that the client is told after the engine was."""
        assert turn.answering is not None
        turn.answering.cancel()
        await asyncio.wait([turn.answering], timeout=ABORT_LIMIT_S)

    def _accept(self, turn: Turn, numbers: tuple[int, ...]) -> None:
        says_something = turn.utterances[-1].text != ""  # else the dialogue is answered as it is
        self.calling.accept(turn, moves_on=says_something)
        if not says_something:
            return
        verdict, words = turn.verdict, turn.words
        if turn.request.verdict:
            situation = self._utterances.situation(numbers)
            self._second_thoughts.accept(numbers, verdict, situation, turn.number, self._now())
        self._tell(notices.VerdictGiven(numbers, verdict, True, "verdict"))
        for utterance, text in zip(turn.utterances, words, strict=True):
            self._utterances.tell(utterance.number)
            seconds = self._utterances.seconds(utterance.number)
            self._tell(notices.UtteranceAccepted(utterance.number, text, seconds))
        known = [text for text in words if text is not None]
        if len(known) == len(words):
            self.dialogue.accept(UserMessage(" ".join(known)), numbers)
        else:
            self.dialogue.accept(UserMessage(None, turn.utterances), numbers)
            if turn.request.verdict:  # else it was asked about, and may bring the words yet
                self._transcripts.find(turn.utterances, self._settings)

    def _reject(self, command: ev.Reject) -> None:
        turn = self._turns.pop(command.turn)
        verdict = turn.request.verdict
        if command.reason == "deadline" and verdict is None:
            self._seat.stalled(turn.request.instances[-1], self._now())
        wordless = replace(verdict, transcripts=()) if verdict else None
        situation = self._utterances.situation(command.utterances)
        rejected = [one for one in turn.utterances if one.number in command.utterances]
        self._second_thoughts.reject(rejected, verdict, situation, self._now())
        for number in command.utterances:
            self._utterances.give_up(number)
        self._tell(notices.VerdictGiven(command.utterances, wordless, False, command.reason))
        self._tell(notices.TurnRecorded(self._recorder.close(turn)))

    def _give_floor(self, turn: Turn) -> None:
        self._playback.begin(turn)
        may_call = bool(turn.request.query.tools.offered)
        self._tell(notices.TurnStarted(turn.number, turn.utterances[-1].number, turn.ledger.spoken, may_call))
        self.calling.tell()
        if turn.request.verdict:
            self._tell_left_out(turn)
        turn.speaking = self._tasks.create_task(self._speak(turn), name=f"speak {turn.number}")

    def _finish(self, command: ev.Finish, now: float) -> None:
        turn = self._turns.pop(command.turn)
        assert turn.speaking is not None
        turn.speaking.cancel()
        heard = self._playback.end(now, completed=command.status == "completed")
        if command.cause == "client_cancelled":
            self.calling.ledger.cancel(turn.number)
        self._tell(self._ended(turn, command.status, command.cause, heard))
        self._tell(notices.TurnRecorded(self._recorder.close(turn)))

    def _tell_left_out(self, turn: Turn) -> None:
        """Say what of the dialogue the model is not shown, if that is news."""
        if turn.request.left_out not in (0, self._left_out):
            self._tell(notices.HistoryLeftOut(turn.number, turn.request.left_out))
        self._left_out = turn.request.left_out

    def _ended(self, turn: Turn, status: ev.Status, cause: ev.Cause | None, heard: str) -> notices.TurnEnded:
        ended = notices.TurnEnded(turn.number, status, cause, heard, turn.request.usage)
        if turn.request.limited and status == "completed":
            ended = replace(ended, status="incomplete", cause="max_output_tokens")
        return ended

    # ── what is told ───────────────────────────────────────────────────────────────────

    def _tell(self, notice: notices.Notice) -> None:
        self._recorder.note(notice, self._now())
        self._listener.note(notice)
        self._client.tell(notice)
