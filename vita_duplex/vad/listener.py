"""The listener of one session: microphone samples in, utterances out."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from itertools import islice

import numpy as np

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.events import (
    SpeechEnded,
    SpeechForgotten,
    SpeechGrew,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
)
from vita_duplex.engine.notices import Notice, TurnEnded, TurnStarted, UtteranceCommitted, VerdictGiven
from vita_duplex.engine.ports import Heard, PartFailed, SpeechEvent, Windows
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.echo import EchoGuard
from vita_duplex.vad.endpoint import WINDOW, Endpoint, EndpointConfig, Kind, Mark
from vita_duplex.vad.level_gate import LevelGate
from vita_duplex.vad.smart_turn import EndOfTurn

log = logging.getLogger(__name__)

WAITING_LIMIT = 60 * INPUT_RATE
"""Samples that may wait to be listened to. When it is full `hear` refuses more until half of them are listened to:
the client sends far faster than speech, or the machine is far too slow. Either way old audio is worth more than new,
and one long gap is better than a syllable here and there."""
BATCH = 32
"""Windows (1 s) per run of the detector, so that a long backlog does not keep others waiting."""

GLANCE_LIMIT = 4 * INPUT_RATE
"""Samples that a glance is shown, the latest: a question that is said while a radio runs is most of what is heard in
them, and to hear them costs the default ASR 160 ms."""

STARVED_S = 1.0
"""An utterance is over when no audio has come for so long: the client was muted, or has sent all there is."""

CLOCK_SLACK_S = 0.25
"""A microphone that is later than this by its own count has paused; less is the network's jitter."""

_EVENTS: dict[Kind, type[SpeechEvent]] = {
    "started": SpeechStarted,
    "sustained": SpeechSustained,
    "paused": SpeechPaused,
    "resumed": SpeechResumed,
    "grown": SpeechGrew,
    "ended": SpeechEnded,
    "forgotten": SpeechForgotten,
}


class MicrophoneListener:
    """Voice activity detection and endpointing."""

    def __init__(
        self,
        detector: Detector,
        config: EndpointConfig,
        numbers: Iterator[int],
        turn_judge: EndOfTurn | None = None,
        echo_guard: EchoGuard | None = None,
        level_gate: LevelGate | None = None,
    ) -> None:
        self.config = config
        self._detector = detector
        self._vad_state = detector.start()
        self._turn_judge = turn_judge
        self._echo_guard = echo_guard
        self._level_gate = level_gate
        self._replying = False
        self._taken = 0  # samples listened to
        self._clock_began = -math.inf  # loop time of the microphone's first sample, had it sent without a gap
        self._endpoint = Endpoint(config)
        self._numbers = numbers
        self._utterance = 0
        self._waiting: deque[Samples] = deque()
        self._waiting_samples = 0
        self._refusing = False
        self._arrived = asyncio.Event()
        self._rest: Samples = np.zeros(0, np.float32)  # less than a window
        self._kept: deque[Samples] = deque()  # the windows that may become part of an utterance
        self._kept_from = 0  # sample number of the first of them
        self._talking = False
        self._begin = 0  # of the current utterance
        self._paused: tuple[Samples, int] | None = None  # what was heard on the latest pause, and where speech ended
        self._deaf = False  # the detector failed on the latest windows
        self._heard_at = 0.0  # loop time of the newest audio
        self._forgets = False  # what is being said, as soon as the listener comes to it
        self._endings: deque[asyncio.Future[int | None]] = deque()

    def hear(self, samples: Samples) -> bool:
        """Take in samples at 16 kHz; False if too many are waiting and these were dropped."""
        if self._waiting_samples <= WAITING_LIMIT // 2:
            self._refusing = False
        if self._waiting_samples + len(samples) > WAITING_LIMIT:
            self._refusing = True
        if self._refusing:
            return False
        self._waiting.append(samples)
        self._waiting_samples += len(samples)
        self._heard_at = asyncio.get_running_loop().time()
        if self._whole_windows:
            self._arrived.set()
        if self._echo_guard:
            self._set_clock()
        return True

    def note(self, notice: Notice) -> None:
        """The client is told something: what it plays from now on may come back as echo, who was accepted is known."""
        match notice:
            case TurnStarted():
                self._replying = True
            case TurnEnded():
                self._replying = False
            case VerdictGiven(utterances, _, accepted) if self._level_gate:
                for utterance in utterances:
                    self._level_gate.note_verdict(utterance, accepted=accepted)
            case UtteranceCommitted(utterance) if self._level_gate:
                self._level_gate.note_verdict(utterance, accepted=True)
        if self._echo_guard:
            at = (asyncio.get_running_loop().time() - self._clock_began) * INPUT_RATE
            self._echo_guard.note(notice, int(at) if math.isfinite(at) else 0)

    def _set_clock(self) -> None:
        """The microphone's position follows the frames that come soonest; after a gap it is set anew."""
        received = self._taken + len(self._rest) + self._waiting_samples
        began = asyncio.get_running_loop().time() - received / INPUT_RATE
        if began < self._clock_began or began > self._clock_began + CLOCK_SLACK_S:
            self._clock_began = began

    def configure(self, config: EndpointConfig) -> None:
        """Endpoint by these settings from the next window on."""
        self.config = config
        self._endpoint.configure(config)

    def guard(self, echo_guard: EchoGuard | None) -> None:
        """Take echo out of what is listened to from now on, or not any more. A new guard knows only what is told after
        it came: what plays at that moment it hears as the user does."""
        self._echo_guard = echo_guard

    def hint(self, samples: Samples, finished: float) -> None:
        """What the words of a pause tell; `samples` are the very ones that were yielded with it."""
        if self.config.hint and self._paused and self._paused[0] is samples:
            self._endpoint.hint(self._paused[1], finished, words=True)

    def forget(self) -> int:
        """Drop what is being said, and what was received and not yet listened to; return how many samples that were."""
        dropped = self._waiting_samples + len(self._rest)
        self._waiting.clear()
        self._waiting_samples = 0
        self._rest = np.zeros(0, np.float32)
        self._forgets = True
        self._arrived.set()
        return dropped

    async def end(self) -> int | None:
        """End what is being said, with all that was received so far; return its number, or None if nothing is."""
        ending: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._endings.append(ending)
        self._arrived.set()
        return await ending

    async def run(self) -> AsyncGenerator[Heard | PartFailed]:
        """What is heard. A failure of the detector is yielded once; until it works again all counts as silence."""
        while True:
            if await self._starved():
                for mark in self._counted(self._endpoint.end()):
                    yield self._heard(mark)
                continue
            self._arrived.clear()
            for mark in self._forgotten():
                yield self._heard(mark)
            while self._whole_windows:
                windows = self._take()
                start, self._taken = self._taken, self._taken + windows.size
                if self._echo_guard:
                    windows = await self._echo_guard.clean(windows, start)
                try:
                    probabilities, self._vad_state = await self._detector.probabilities(windows, self._vad_state)
                    self._deaf = False
                except PartFailed as failure:
                    probabilities = np.zeros(len(windows), np.float32)
                    if not self._deaf:
                        yield failure
                    self._deaf = True
                if self._forgets:  # while these were on their way
                    probabilities = np.zeros(len(windows), np.float32)
                    for mark in self._forgotten():
                        yield self._heard(mark)
                loudness = np.sqrt(np.einsum("ij,ij->i", windows, windows) / WINDOW)
                for window, probability, loud in zip(windows, probabilities, loudness, strict=True):
                    self._kept.append(window)
                    for mark in self._marks(float(probability), float(loud)):
                        yield self._heard(mark)
                    self._trim()
            while self._endings:
                ended = self._counted(self._endpoint.end())
                for mark in ended:
                    yield self._heard(mark)
                if not (ending := self._endings.popleft()).done():
                    ending.set_result(self._utterance if ended else None)

    async def _starved(self) -> bool:
        """Wait for audio; True if none comes for what is being said."""
        while True:
            until = self._heard_at + STARVED_S if self._talking else None
            try:
                async with asyncio.timeout_at(until):
                    await self._arrived.wait()
            except TimeoutError:
                if until == self._heard_at + STARVED_S:  # else less than a window has come
                    return True
            else:
                return False

    @property
    def _whole_windows(self) -> int:
        """How many are waiting."""
        return (len(self._rest) + self._waiting_samples) // WINDOW

    def _take(self) -> Windows:
        """The next whole windows; what is left over waits for more."""
        parts = [self._rest]
        count = len(self._rest)
        while self._waiting and count < BATCH * WINDOW:
            part = self._waiting.popleft()
            parts.append(part)
            count += len(part)
            self._waiting_samples -= len(part)
        samples = np.concatenate(parts)
        whole = min(len(samples) // WINDOW, BATCH) * WINDOW
        self._rest = samples[whole:].copy()
        if len(self._rest) >= WINDOW:  # one frame held more than a batch
            self._waiting.appendleft(self._rest)
            self._waiting_samples += len(self._rest)
            self._rest = np.zeros(0, np.float32)
        return samples[:whole].reshape(-1, WINDOW)

    def _marks(self, probability: float, loudness: float) -> list[Mark]:
        """What the next window means."""
        return self._counted(self._endpoint.push(probability, loudness), loudness)

    def _forgotten(self) -> list[Mark]:
        """What it means that everything up to now is to be forgotten, if it is."""
        forgets, self._forgets = self._forgets, False
        return self._counted(self._endpoint.forget()) if forgets else []

    def _counted(self, marks: list[Mark], loudness: float = 0.0) -> list[Mark]:
        """Of these marks the ones that count."""
        if not self._replying:
            marks = [mark for mark in marks if mark.kind != "grown"]
        for mark in marks:
            self._talking = mark.kind not in ("ended", "forgotten")
            if mark.kind == "started":
                self._begin = mark.begin
        return self._level_gate.push(marks, loudness, replying=self._replying) if self._level_gate else marks

    def _heard(self, mark: Mark) -> Heard:
        if mark.kind == "started":
            self._utterance = next(self._numbers)
        if mark.kind == "ended" and self._level_gate:
            self._level_gate.ended(self._utterance)
        samples = self._paused = None
        if mark.kind in ("paused", "ended"):
            samples = self._audio(mark.begin, mark.keep_until)
        elif mark.kind == "grown":
            samples = self._audio(max(mark.begin, mark.keep_until - GLANCE_LIMIT), mark.keep_until)
        if mark.kind == "paused" and self.config.hint:
            assert samples is not None
            self._paused = samples, mark.speech_end
            if self._turn_judge and (answer := self._turn_judge.ask(samples)):
                answer.add_done_callback(partial(self._answered, mark.speech_end))
        event = _EVENTS[mark.kind](self._utterance)
        return Heard(event, mark.speech_start, mark.speech_end, self._endpoint.sample, samples)

    def _audio(self, begin: int, end: int) -> Samples:
        """What is kept of the samples between two positions."""
        skipped = max(0, begin - self._kept_from) // WINDOW
        audio = np.concatenate(list(islice(self._kept, skipped, None)))
        start = self._kept_from + skipped * WINDOW
        return audio[max(0, begin - start) : end - start]

    def _answered(self, speech_end: int, answer: "asyncio.Future[float]") -> None:
        if answer.cancelled():
            return  # the server stops
        if error := answer.exception():
            log.warning("the end-of-turn model failed: %s", type(error).__name__)
        elif self.config.hint:  # else it was switched off meanwhile
            self._endpoint.hint(speech_end, answer.result())

    def _trim(self) -> None:
        """Keep the current utterance, or what a beginning one would reach back to."""
        needed = self._begin if self._talking else self._endpoint.sample - self._endpoint.reach
        while self._kept_from + WINDOW <= needed:
            self._kept.popleft()
            self._kept_from += WINDOW
