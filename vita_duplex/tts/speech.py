"""One turn being spoken: text deltas → pieces → voice → pacer → chunks that are due."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import Chunk, PartFailed, Synthesiser
from vita_duplex.engine.section import Section
from vita_duplex.tts.fades import FADE_MS, fade_in, fade_out
from vita_duplex.tts.pacer import Pacer
from vita_duplex.tts.text.maths import Language
from vita_duplex.tts.text.normalise import language_of
from vita_duplex.tts.text.normaliser import Normalise, in_place
from vita_duplex.tts.text.sentences import Sentences
from vita_duplex.tts.voices.queue import VoiceQueue

CHUNK_MS = 40
"""What is sent at a time: two audio frames of 20 ms, so that messages stay few and a stop stays prompt."""
SLOW_LETTER_S, SLOW_SYLLABLE_S = 0.1, 0.35
"""What a slow voice takes for a letter, and for a digit or a Chinese character: English is read at some 15 letters a
second, Mandarin at 4 to 5 syllables."""
CLOSE_MS = 20
"""A late voice's last 5 ms are kept back until the client has no more than this left; then they go out as a fade."""
AHEAD_S = 10
"""Audio synthesised ahead of what is sent. When it is full the voice waits; memory stays bounded."""


class SpeechConfig(Section):
    """How replies are sent."""

    lead_ms: int = Field(200, ge=CHUNK_MS)
    """Milliseconds of audio that are sent ahead of what the client is playing."""


@dataclass(slots=True)
class Piece:
    """Text and what of its audio was not sent yet."""

    text: str
    told: bool = False
    samples: int = 0
    unsent: deque[Samples] = field(default_factory=deque)
    complete: bool = False
    guessed: bool = False
    """Its length was told before it was known."""
    error: str | None = None
    """Told with its last sample, or in the place of it."""
    trouble: str | None = None
    """Told with its first sample, once in a turn: another voice speaks."""


class PacedSpeech:
    """`Speech` with a synthesiser behind it. Text waits unbounded here: a reply is bounded by its maximum length."""

    def __init__(
        self,
        synthesiser: Synthesiser,
        config: SpeechConfig,
        *,
        client_pauses: bool,
        voice_queue: VoiceQueue | None = None,
        normalise: Normalise = in_place,
    ) -> None:
        """`voice_queue` is shared by all sessions of a voice that serves only so many at a time."""
        self.synthesised = 0
        self.first_clause: float | None = None
        self.first_synthesised: float | None = None
        self._synthesiser = synthesiser
        self._voice_queue = voice_queue
        self._normalise = normalise
        self._language: Language = "en"
        self._pacer = Pacer(synthesiser.rate, config.lead_ms, client_pauses=client_pauses)
        self._chunk = synthesiser.rate * CHUNK_MS // 1000
        self._fade = synthesiser.rate * FADE_MS // 1000
        self._start = self._chunk + self._fade
        self._troubled = False  # it was told that another voice speaks; once is enough
        self._faded = False  # what was sent last ended in a fade
        self._sentences = Sentences()
        self._silence: asyncio.TimerHandle | None = None
        self._texts: asyncio.Queue[str | None] = asyncio.Queue()
        self._pieces: deque[Piece] = deque()
        self._complete = False  # everything is synthesised
        self._changed = asyncio.Event()
        self._room = asyncio.Event()  # something was sent
        self._now = asyncio.get_running_loop().time

    def write(self, delta: str) -> None:
        self._put(self._sentences.push(delta, self._now()))
        self._wake_at(self._sentences.deadline)

    def finish(self) -> None:
        self._put(self._sentences.finish())
        self._wake_at(None)
        self._texts.put_nowait(None)

    def hold(self) -> None:
        self._pacer.hold(self._now())
        self._changed.set()

    def resume(self) -> None:
        self._pacer.resume(self._now())
        self._changed.set()

    @property
    def underruns(self) -> int:
        return self._pacer.underruns

    def heard(self) -> int:
        return self._pacer.heard(self._now())

    async def play(self, send: Callable[[Chunk], None]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._synthesise(), name="synthesise")
            await self._pace(send)

    def _wake_at(self, deadline: float | None) -> None:
        """When the text falls silent, what is there is spoken."""
        if self._silence:
            self._silence.cancel()
        self._silence = None if deadline is None else asyncio.get_running_loop().call_at(deadline, self._on_silence)

    def _on_silence(self) -> None:
        assert self._silence is not None
        # The loop may call a hair early (its clock's resolution); the deadline is what counts.
        now = max(self._now(), self._silence.when())
        self._silence = None  # a handle that was called still knows what it called
        self._put(self._sentences.tick(now))

    def _put(self, texts: list[str]) -> None:
        if texts:
            self.first_clause = self._now() if self.first_clause is None else self.first_clause
        for text in texts:
            self._texts.put_nowait(text)

    # ── text to audio ──────────────────────────────────────────────────────────────────

    async def _synthesise(self) -> None:
        while (text := await self._texts.get()) is not None:
            piece = Piece(text)
            self._pieces.append(piece)
            try:
                await self._say(piece)
            except PartFailed as failure:
                await self._say_again(piece, failure)
            piece.complete = True
            self._changed.set()
        self._complete = True
        self._changed.set()

    async def _say(self, piece: Piece) -> None:
        self._language = language_of(piece.text, self._language)
        sayable = await self._normalise(piece.text, self._language)
        if not sayable:
            return
        async with aclosing(self._synthesiser.synthesise(sayable)) as voice:
            while (samples := await self._next_of(voice)) is not None:
                if isinstance(samples, PartFailed):
                    piece.trouble = samples.message
                    continue
                # What waits for room is already in hand: that it was the last is known early.
                while self.synthesised - self._pacer.sent > AHEAD_S * self._pacer.rate:
                    self._room.clear()
                    await self._room.wait()
                if self.first_synthesised is None:
                    self.first_synthesised = self._now()
                self.synthesised += len(samples)
                piece.samples += len(samples)
                piece.unsent.append(samples)
                self._changed.set()

    async def _next_of(self, voice: AsyncGenerator[Samples | PartFailed]) -> Samples | PartFailed | None:
        if self._voice_queue is None:
            return await anext(voice, None)
        ahead = (self.synthesised - self.heard()) / self._pacer.rate
        async with self._voice_queue.admit(self._now() + ahead):
            return await anext(voice, None)

    async def _say_again(self, piece: Piece, failure: PartFailed) -> None:
        """One more try for a piece of which nothing was made; then its text goes out with the sound there is."""
        if piece.samples:
            piece.error = failure.message
            return
        try:
            await self._say(piece)
        except PartFailed as again:
            piece.error = again.message

    # ── audio to the client ────────────────────────────────────────────────────────────

    async def _pace(self, send: Callable[[Chunk], None]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            wait = self._send_due(send)
            if wait == 0:
                return
            due = None if wait is None else loop.call_later(wait, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                if due:
                    due.cancel()

    def _send_due(self, send: Callable[[Chunk], None]) -> float | None:
        """Send what is due. Return the seconds until more is; None: until something changes; 0: it is over."""
        if self._pacer.held:
            return None
        now = self._now()
        while self._pieces:
            piece = self._pieces[0]
            if not piece.unsent:
                if not piece.complete:
                    return None  # the voice is behind
                if not piece.told or piece.guessed or piece.error:
                    send(self._silent(piece))
                self._pieces.popleft()
                continue
            if not piece.complete and self._pacer.drained(now) == 0 and sum(map(len, piece.unsent)) < self._start:
                return None  # the first few samples alone would only be a click
            wanted = self._next_length(piece)
            wait = self._pacer.wait(wanted, now) if wanted else self._until_close(now)
            if wait:
                return wait
            send(self._next_chunk(piece, wanted, now))
        return self._pacer.drained(now) if self._complete else None

    def _next_length(self, piece: Piece) -> int:
        """How many samples to send next; 0: only the end of what a late voice has said is left."""
        first = len(piece.unsent[0])
        if piece.complete or len(piece.unsent) > 1:
            return min(self._chunk, first)
        return min(self._chunk, first - self._fade) if first > self._fade else 0

    def _until_close(self, now: float) -> float:
        """Seconds until the client has next to nothing left to play."""
        left = self._pacer.drained(now)
        assert left is not None  # it is not held
        return max(0.0, left - CLOSE_MS / 1000)

    def _next_chunk(self, piece: Piece, wanted: int, now: float) -> Chunk:
        samples = piece.unsent.popleft()
        late = wanted == 0  # the voice is: what there is goes out as a fade
        if not late and len(samples) > wanted:
            piece.unsent.appendleft(samples[wanted:])
            samples = samples[:wanted]
        if self._faded:
            samples = fade_in(samples, self._pacer.rate)
        broken = piece.error is not None and not piece.unsent
        if late or broken:
            samples = fade_out(samples, self._pacer.rate)
        self._faded = late
        self._pacer.send(len(samples), now)
        self._room.set()
        text, piece.told = None if piece.told else piece.text, True
        trouble = None if self._troubled else piece.trouble
        self._troubled = self._troubled or trouble is not None
        piece.guessed = not piece.complete
        return Chunk(samples, piece.samples if piece.complete else self._at_least(piece), text, trouble)

    def _at_least(self, piece: Piece) -> int:
        """The length of a piece of which more may come, rather too long: nothing unheard may count as heard."""
        return max(piece.samples, round(slow_seconds(piece.text) * self._pacer.rate))

    def _silent(self, piece: Piece) -> Chunk:
        """What is left to tell of a piece whose sound, if it had any, is sent."""
        text = None if piece.told else piece.text
        return Chunk(np.zeros(0, np.float32), piece.samples, text, piece.error)


def slow_seconds(text: str) -> float:
    """What a slow voice takes for a text."""
    return sum(SLOW_SYLLABLE_S if letter.isdigit() or letter >= "\u2e80" else SLOW_LETTER_S for letter in text)
