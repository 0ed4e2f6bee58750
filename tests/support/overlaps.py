"""What becomes of a reply into which something is said: the same sounds said into the same replies, and when the reply
was held, let go on, or ended.

Each row of `overlaps.tsv` is said once into a reply of some twenty seconds, one second after its first sound, over
headphones (the reply is not in the microphone). Detector, endpoint, ASR, judge, session and pacer are the CPU
default's own; the reply is read from a script by a voice that numbers its samples, and time is virtual, so computing
takes none. `overlap_policies.py` says what other servers would have done with the same sounds.

`seen` says that the sound was at hand when the judge's rules were made; the others come from the half of
`judge_set.tsv` that was written afterwards, or are new. Human are the clips; everything said otherwise is one
synthetic voice, and all that is no speech is made by `sounds.py`. Talk to others and talk in the background are said a
second time as Full-Duplex-Bench v1.5 makes them (`far`). Run it: `make overlaps`.
"""

import asyncio
import csv
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.signal import butter, sosfilt

from tests.engine.test_overlap_latency import NumberedVoice
from tests.support import sounds
from tests.support.conversations import Conversation, conversation
from tests.support.judging import Event
from tests.support.paths import DATA
from tests.support.virtual_time import InlineExecutor, run
from vita_duplex.asr.local import LocalAsr
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.engine.cascade.cascade import Cascade
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.instances.text_model import TemplateMessage
from vita_duplex.engine.notices import Notice, TurnAudio, TurnEnded, TurnHeld, TurnResumed, VerdictGiven, VoiceActivity
from vita_duplex.engine.ports import AsrModel
from vita_duplex.vad.silero import Silero

TABLE = DATA / "overlaps.tsv"
GROUPS = {
    "question": "questions and requests",
    "stop": "stop words and corrections",
    "backchannel": "backchannels (“mm-hm”, “oh, cool”)",
    "side talk": "talk to somebody else",
    "side talk, far": "the same, as Full-Duplex-Bench makes it",
    "reading": "reading aloud, radio, cards",
    "reading, far": "the same, as Full-Duplex-Bench makes it",
    "sound": "coughs, clicks, knocks, music, noise",
}
STORY = " ".join(f"word{chr(97 + number)}xx" for number in range(20)) + "."
STORY_S = len(STORY) / 15
"""The voice speaks 15 letters a second."""
AFTER_S = 1.0
LOUD = 0.1
"""Of the loudest 10 ms: where a sound begins and ends."""

ASIDE_DB, ASIDE_HZ = -8.0, 3600.0
REFLECTIONS = ((0.035, -13.0), (0.080, -18.0))
"""Talk to somebody else in Full-Duplex-Bench v1.5: turned away, low-passed, with two reflections (seconds, dB)."""
BACKGROUND_DB, BACKGROUND_HZ = -15.0, 3000.0
"""Its background speech."""

Made = Literal["near", "aside", "background"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """One row, and how it reaches the microphone."""

    group: str
    seen: bool
    event: Event
    made: Made = "near"

    @property
    def human(self) -> bool:
        return self.event.kind == "clip"

    def samples(self) -> sounds.Samples:
        near = self.event.samples()
        match self.made:
            case "near":
                return near
            case "aside":
                return far(near, ASIDE_DB, ASIDE_HZ, REFLECTIONS)
            case "background":
                return far(near, BACKGROUND_DB, BACKGROUND_HZ)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one overlap did to the reply. Times are in seconds from the first loud sample of the sound."""

    overlap: Overlap
    length_s: float
    """Of the sound, from its first loud sample to its last."""
    noticed_s: float | None
    """The detector told of speech: alone, it would have ended the reply."""
    words: bool
    """The ASR hears some in it."""
    holds: tuple[tuple[float, float], ...]
    """When the reply was held and when it went on or was over."""
    ended_s: float | None
    """The verdict ended the reply."""
    whole: bool
    """Every sample of the reply was received once and in order."""
    p1: float
    """Of its verdict; 0 if there was none."""


def read() -> list[Overlap]:
    with TABLE.open(newline="") as file:
        rows = [
            Overlap(
                row["group"],
                row["seen"] == "yes",
                Event(
                    row["group"],
                    row["label"] == "query",
                    row["kind"],
                    row["what"],
                    float(row["speed"] or 1),
                    row["noise"],
                    float(row["snr_db"] or 0),
                ),
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]
    made: dict[str, Made] = {"side talk": "aside", "reading": "background"}
    return rows + [
        Overlap(f"{one.group}, far", one.seen, one.event, made[one.group]) for one in rows if one.group in made
    ]


def far(
    near: sounds.Samples, gain_db: float, low_pass_hz: float, reflections: Sequence[tuple[float, float]] = ()
) -> sounds.Samples:
    """Somebody who does not speak into the microphone; reflections are relative to the direct sound."""
    direct = sosfilt(butter(4, low_pass_hz, fs=sounds.RATE, output="sos"), near) * 10 ** (gain_db / 20)
    heard = direct.copy()
    for delay_s, relative_db in reflections:
        delay = round(delay_s * sounds.RATE)
        heard[delay:] += direct[: heard.size - delay] * 10 ** (relative_db / 20)
    return np.asarray(heard, np.float32)


def span(samples: sounds.Samples) -> tuple[float, float]:
    """Where a sound begins and ends, in seconds."""
    frames = samples[: samples.size // 160 * 160].reshape(-1, 160)
    loudness = np.sqrt((frames**2).mean(axis=1))
    loud = np.flatnonzero(loudness >= LOUD * loudness.max()) if loudness.max() else np.array([0])
    return float(loud[0] * 0.01), float(loud[-1] * 0.01 + 0.01)


class Storyteller:
    """In the place of the language model: always the same reply."""

    calls = False

    class config:
        max_tokens = 1000

    class engine:
        healthy = True

    async def reply(self, messages: Sequence[TemplateMessage], *asked: object) -> AsyncGenerator[str]:
        for word in STORY.split(" "):
            await asyncio.sleep(0.02)
            yield f"{word} "

    async def warm(self, *asked: object) -> None: ...


def overlap(one: Overlap, ears: AsrModel, judge: Judge, model: Silero) -> Outcome:
    samples = one.samples()
    begins, ends = span(samples)

    async def script() -> Outcome:
        teller, voice = Storyteller(), NumberedVoice()
        instances = [Cascade(name, LocalAsr(ears, InlineExecutor()), judge, teller) for name in "ab"]  # type: ignore[arg-type]
        async with conversation(instances=instances, voice=voice, vad=model) as talk:  # type: ignore[arg-type]
            await talk.session.ask(next(talk.numbers), "Tell me a story.")
            await talk.silent_until(TurnAudio)
            await talk.be_silent(AFTER_S)
            onset = asyncio.get_running_loop().time() + begins
            await talk.hear(samples)
            await talk.be_silent(1.0)
            await talk.silent_until(TurnEnded)
            taken = talk.all(TurnEnded)[0].status == "cancelled"
            over = talk.times(TurnEnded)[0] - onset
            verdicts = talk.all(VerdictGiven)[1:]  # the first is that of the question
            p1 = max((judged.verdict.p1 for judged in verdicts if judged.verdict), default=0.0)
            whole = np.array_equal(talk.audio(1), np.arange(round(STORY_S * voice.rate)))
            return Outcome(
                one,
                ends - begins,
                _first(talk, onset),
                bool(ears.transcribe(samples).text.strip()),
                tuple(_holds(talk.told, onset, over)),
                over if taken else None,
                whole,
                p1,
            )

    return run(script())


def _first(talk: Conversation, onset: float) -> float | None:
    """When the detector told of speech."""
    times = (at for at, notice in talk.told if isinstance(notice, VoiceActivity) and notice.speaking)
    return next((at - onset for at in times), None)


def _holds(told: Iterable[tuple[float, Notice]], onset: float, over: float) -> Iterable[tuple[float, float]]:
    held: float | None = None
    for at, notice in told:
        match notice:
            case TurnHeld():
                held = at - onset
            case TurnResumed() if held is not None:
                yield held, at - onset
                held = None
            case TurnEnded():
                break
    if held is not None:
        yield held, over


def measure(overlaps: Iterable[Overlap]) -> list[Outcome]:
    ears, judge, model = Moonshine(), Judge(), Silero()
    return [overlap(one, ears, judge, model) for one in overlaps]
