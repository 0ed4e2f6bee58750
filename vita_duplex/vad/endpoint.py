"""From speech probabilities, one per window, to the beginnings and ends of utterances. Pure; counts samples."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.section import Section

WINDOW = 512
"""Samples per probability: 32 ms at 16 kHz, the window Silero VAD was trained on."""

FLOOR = 0.01
"""Below this it is always silence, however low the threshold; Silero's `get_speech_timestamps` has the same."""
HYSTERESIS = 0.15
"""Speech that has begun goes on down to so much below the threshold, at least `FLOOR` (Silero's own default)."""


SHARPNESS = 2
"""Power of the end-of-turn probability that shortens the silence: Smart-Turn gives 0.9 and more to most finished
sentences, and 0.4 to 0.8 to many that are not. Of 1 to 4 the one with the fewest cut-offs at a median wait below 0.6 s,
on the sentences of `tools/eval_hearing.py` that are there for choosing; it reports on others."""
CUT_BACK_S = 4
"""How far before its limit speech may be cut, at most half of it: people pause for breath every few seconds."""


GLANCE_MS, GLANCE_GROWTH, GLANCE_STEP_MS = 420, 1.45, 1000
"""Speech goes on: told first after so many milliseconds, or so many behind a pause; about a word is heard by then. Each
further time when there is so many times as much of it, at most a step more: the words of a second are few."""


class EndpointConfig(Section):
    """When speech counts as begun and as over. Times are rounded up to whole windows of 32 ms, `early_ms` down."""

    threshold: float = Field(0.5, ge=0, le=1)
    """Probability from which a window is speech (Silero's own default)."""
    min_speech_ms: int = Field(96, ge=32)
    """Milliseconds of speech that start an utterance."""
    hold_after_ms: int = Field(128, ge=32)
    """Milliseconds of speech that pause a reply."""
    pre_roll_ms: int = Field(300, ge=0)
    """Milliseconds of audio kept from before the first speech window, for soft beginnings."""
    early_ms: int = Field(200, ge=32)
    """Milliseconds of silence after which the request for a verdict starts; from `silence_ms` on nothing starts early.
    An utterance keeps as much silence, and twice as much at its end."""
    silence_ms: int = Field(500, ge=64, le=10_000)
    """Milliseconds of silence that end an utterance. Below 300 people are cut off."""
    hint: bool = True
    """Lets the words of a pause, and the end-of-turn model (`vad.turn_end`), say whether the speaker has finished. The
    silence that ends the utterance then lies between `quick_ms` and `patient_ms`."""
    quick_ms: int = Field(420, ge=64, le=10_000)
    """Milliseconds of silence that end what certainly is finished."""
    patient_ms: int = Field(1800, ge=64, le=10_000)
    """Milliseconds of silence that end what certainly is not finished."""
    max_utterance_s: float = Field(30, gt=1)
    """Seconds after which speech is cut into utterances, at its quietest point of late. Nothing is dropped."""


Kind = Literal["started", "sustained", "paused", "resumed", "grown", "ended", "forgotten"]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something happened to the current utterance. Positions in samples since the beginning.

    `begin` and `keep_until` delimit the audio an utterance consists of, pre-roll and closing silence included;
    `speech_end` is the sample after its last speech so far.
    """

    kind: Kind
    begin: int
    speech_start: int
    speech_end: int
    keep_until: int


class Endpoint:
    """Hysteresis, minimum speech, pause and end.

    Marks come in the order `started`, (`paused`, `resumed`)*, `paused`?, `ended`; once an utterance's speech is
    long enough `sustained` follows `started` or `resumed`; while it goes on there is a `grown` now and then. Speech
    cut at `max_utterance_s` goes on in the next utterance at once, or with its next window if it was cut at its end.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.sample = 0
        """Samples seen."""
        self._earliest = 0  # audio before this belongs to an earlier utterance
        self._levels: deque[float] = deque(maxlen=_windows(CUT_BACK_S * 1000))  # of the latest windows
        self.configure(config)
        self._rest()

    def configure(self, config: EndpointConfig) -> None:
        """Go on with other settings."""
        self.config = config
        self._min_speech = _windows(config.min_speech_ms)
        self._hold_after = _windows(config.hold_after_ms)
        self._early = config.early_ms * INPUT_RATE // (1000 * WINDOW)
        self._silence = self._patience = _windows(config.silence_ms)
        self._max = _windows(config.max_utterance_s * 1000)
        self._pre_roll = config.pre_roll_ms * INPUT_RATE // 1000

    @property
    def reach(self) -> int:
        """How many samples back an utterance may begin that is not yet noticed."""
        return self._pre_roll + self._min_speech * WINDOW

    def _rest(self) -> None:
        self._talking = False
        self._speech = 0  # windows of speech in the current utterance or attempt at one
        self._quiet = 0  # windows of silence since the last of them
        self._start = self._end = self.sample
        self._sustained = False
        self._paused = False
        self._unbroken = self.sample  # where speech without a pause began
        self._next_glance: float = GLANCE_MS  # at so much of it
        self._resume()

    def _resume(self) -> None:
        self._patience = self._silence  # windows of silence that end this utterance
        self._sound: float | None = None  # probability that it is finished, by how it sounds
        self._words = 1.0  # and by its words

    def push(self, probability: float, loudness: float = 0.0) -> list[Mark]:
        """Take in the next window's probability, and how loud it is on any scale."""
        self._levels.append(loudness)
        level = self.config.threshold
        if self._speech:
            level = max(level - HYSTERESIS, FLOOR)
        start, self.sample = self.sample, self.sample + WINDOW
        return self._speech_window(start) if probability >= level else self._quiet_window()

    def hint(self, speech_end: int, completeness: float, *, words: bool = False) -> None:
        """The speech before the pause that began at `speech_end` is finished with this probability, by its sound or by
        its `words`. Counts from the next window on; too late when that pause is over. Words alone only lengthen it:
        most that say nothing against an end are no end."""
        if not self._paused or speech_end != self._end:
            return
        if words:
            self._words = completeness
        else:
            self._sound = completeness
        finished = self._words if self._sound is None else self._sound * self._words
        quick, patient = self.config.quick_ms, self.config.patient_ms
        patience = _windows(patient + (quick - patient) * finished**SHARPNESS)
        self._patience = max(patience, self._silence) if self._sound is None else patience

    def _speech_window(self, start: int) -> list[Mark]:
        if not self._speech:
            self._start = self._unbroken = start
        marks: list[Mark] = []
        self._resume()
        if self._paused:
            self._paused = False
            self._unbroken, self._next_glance = start, GLANCE_MS
            marks.append(self._mark("resumed"))
        self._speech, self._quiet, self._end = self._speech + 1, 0, self.sample
        if not self._talking and self._speech >= self._min_speech:
            self._talking = True
            marks.append(self._mark("started"))
        if self._talking and not self._sustained and self._speech >= self._hold_after:
            self._sustained = True
            marks.append(self._mark("sustained"))
        if self._talking and self.sample - self._unbroken >= self._next_glance * INPUT_RATE // 1000:
            self._next_glance = min(self._next_glance * GLANCE_GROWTH, self._next_glance + GLANCE_STEP_MS)
            marks.append(Mark("grown", self._begin, self._start, self._end, self.sample))
        if self._talking and self.sample - self._start >= self._max * WINDOW:
            marks += self._cut()
        return marks

    def _cut(self) -> list[Mark]:
        """End the utterance at its quietest point of late; what follows that is the beginning of the next."""
        left = self._quietest()
        self._end = self.sample - left * WINDOW
        ended = Mark("ended", self._begin, self._start, self._end, self._end)
        self._earliest = self._end
        self._rest()
        self._start -= left * WINDOW
        self._unbroken = self._start
        self._speech = max(left, self._min_speech - 1, 1)  # it is speech already: the next window starts an utterance
        if not left:
            return [ended]
        self._talking = True
        started = [ended, self._mark("started")]
        self._sustained = left >= self._hold_after
        return [*started, self._mark("sustained")] if self._sustained else started

    def _quietest(self) -> int:
        """Windows since the middle of the quietest three, the latest such; 0 if nothing is quieter than now.

        Three (96 ms), so that no stop inside a word is taken for a pause. The next utterance gets as much as speech
        has to have.
        """
        levels = list(self._levels)[-min(len(self._levels), self._max // 2) :]
        stretches = [sum(levels[at : at + 3]) for at in range(len(levels) - 2)]
        lefts = range(len(levels) - 2, max(0, self._min_speech - 1), -1)  # after the middle of each
        cuts = [(stretch, left) for stretch, left in zip(stretches, lefts, strict=False) if stretch < stretches[-1]]
        return min(cuts)[1] if cuts else 0

    def _quiet_window(self) -> list[Mark]:
        if not self._speech:
            return []
        self._quiet += 1
        if not self._talking:
            self._rest()  # a blip
            return []
        if not self._paused and self._early <= self._quiet < self._silence:
            self._paused = True
            return [self._mark("paused")]
        return [self._ended()] if self._quiet >= self._patience else []

    def end(self) -> list[Mark]:
        """No more will come of what is being said: it is over."""
        if self._talking:
            return [self._ended()]
        self._rest()
        return []

    def forget(self) -> list[Mark]:
        """What is being said was never said, and nothing of it is in an utterance to come."""
        marks = [self._mark("forgotten")] if self._talking else []
        self._earliest = self.sample
        self._rest()
        return marks

    def _ended(self) -> Mark:
        mark = self._mark("ended")
        self._earliest = mark.keep_until
        self._rest()
        return mark

    @property
    def _begin(self) -> int:
        return max(self._earliest, self._start - self._pre_roll)

    def _mark(self, kind: Kind) -> Mark:
        silence = 2 * self._early if kind == "ended" else self._early
        keep_until = min(self.sample, self._end + silence * WINDOW)
        return Mark(kind, self._begin, self._start, self._end, keep_until)


def _windows(ms: float) -> int:
    return -(-int(ms * INPUT_RATE) // (1000 * WINDOW))
