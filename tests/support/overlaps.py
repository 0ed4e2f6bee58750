"""What ends a reply: hold and verdict against the detector alone, on the same sounds said into the same replies.

Each row of `overlaps.tsv` is said once into a reply of some ten seconds, one second after its first sound, over
headphones (the reply is not in the microphone). Detector, endpointer, ears, judge, session and pacer are the CPU
default's own; the reply is read from a script by a voice that numbers its samples, and time is virtual, so computing
takes none. The detector alone is what a server does that cancels the reply when speech is noticed (OpenAI's
`server_vad` with `interrupt_response`): read off the same run.

`seen` says that the sound was at hand when the judge's rules were made; the others come from the half of
`judge_set.tsv` that was written afterwards, or are new. Human are the clips; everything said otherwise is one
synthetic voice, and all that is no speech is made by `sounds.py`. Run it: `make overlaps`.
"""

import asyncio
import csv
import os
import platform
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.engine.test_overlap_latency import NumberedVoice
from tests.support.conversations import conversation
from tests.support.judging import Event
from tests.support.paths import DATA
from tests.support.virtual_time import InlineExecutor, run
from vita_duplex.asr.local import LocalAsr
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.cli.roc import Roc, Share
from vita_duplex.cli.roc_picture import draw
from vita_duplex.engine.cascade.cascade import Cascade
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.instances.vllm_text import TemplateMessage
from vita_duplex.engine.notices import TurnAudio, TurnEnded, TurnHeld, VerdictGiven, VoiceActivity
from vita_duplex.engine.ports import AsrModel
from vita_duplex.vad.silero import Silero

TABLE = DATA / "overlaps.tsv"
PICTURE = Path("docs/barge-in.svg")
GROUPS = {
    "question": "questions and requests",
    "stop": "stop words and corrections",
    "backchannel": "backchannels (“mm-hm”, “oh, cool”)",
    "side talk": "talk to somebody else",
    "reading": "reading aloud, radio, cards",
    "sound": "coughs, clicks, knocks, music, noise",
}
STORY = " ".join(f"word{chr(97 + number)}xx" for number in range(20)) + "."
STORY_S = len(STORY) / 15
"""The voice speaks 15 letters a second."""
AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """One row."""

    group: str
    seen: bool
    event: Event

    @property
    def human(self) -> bool:
        return self.event.kind == "clip"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one overlap did to the reply."""

    overlap: Overlap
    noticed: bool
    """The detector told of speech: alone, it would have ended the reply."""
    held: bool
    taken: bool
    """The verdict ended it."""
    whole: bool
    """Every sample of the reply was received once and in order."""
    p1: float
    """Of its verdict; 0 if there was none."""


def read() -> list[Overlap]:
    with TABLE.open(newline="") as file:
        return [
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


class Storyteller:
    """In the place of the language model: always the same reply."""

    async def reply(self, messages: Sequence[TemplateMessage], begun: str = "") -> AsyncGenerator[str]:
        for word in STORY.split(" "):
            await asyncio.sleep(0.02)
            yield f"{word} "

    async def warm(self, messages: Sequence[TemplateMessage]) -> None: ...

    class engine:
        healthy = True


def overlap(one: Overlap, ears: AsrModel, judge: Judge, model: Silero) -> Outcome:
    samples = one.event.samples()

    async def script() -> Outcome:
        teller, voice = Storyteller(), NumberedVoice()
        instances = [Cascade(name, LocalAsr(ears, InlineExecutor()), judge, teller) for name in "ab"]  # type: ignore[arg-type]
        async with conversation(instances=instances, voice=voice, vad=model) as talk:  # type: ignore[arg-type]
            await talk.session.ask(next(talk.numbers), "Tell me a story.")
            await talk.silent_until(TurnAudio)
            await talk.be_silent(AFTER_S)
            await talk.hear(samples)
            await talk.be_silent(1.0)
            await talk.silent_until(TurnEnded)
            ended = talk.all(TurnEnded)[0]
            noticed = any(notice.speaking for notice in talk.all(VoiceActivity))
            taken = ended.status == "cancelled"
            verdicts = talk.all(VerdictGiven)[1:]  # the first is that of the question
            assert taken == any(judged.accepted for judged in verdicts)
            p1 = max((judged.verdict.p1 for judged in verdicts if judged.verdict), default=0.0)
            whole = np.array_equal(talk.audio(1), np.arange(round(STORY_S * voice.rate)))
            return Outcome(one, noticed, bool(talk.all(TurnHeld)), taken, whole, p1)

    return run(script())


def measure(overlaps: Iterable[Overlap]) -> list[Outcome]:
    ears, judge, model = Moonshine(), Judge(), Silero()
    return [overlap(one, ears, judge, model) for one in overlaps]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of some outcomes: what ended the reply that should have, and what should not."""

    recall_vad: Share
    recall: Share
    false_vad: Share
    false: Share


def figures(outcomes: Sequence[Outcome]) -> Figures:
    queries = [one for one in outcomes if one.overlap.event.is_query]
    others = [one for one in outcomes if not one.overlap.event.is_query]
    return Figures(
        Share(sum(one.noticed for one in queries), len(queries)),
        Share(sum(one.taken for one in queries), len(queries)),
        Share(sum(one.noticed for one in others), len(others)),
        Share(sum(one.taken for one in others), len(others)),
    )


def report(outcomes: Sequence[Outcome]) -> str:
    """As Markdown."""
    rows = ["| said into a reply | overlaps (human) | detector alone ends it | verdict ends it | held, then whole |"]
    rows += ["|---|---|---|---|---|"]
    for group, name in GROUPS.items():
        some = [one for one in outcomes if one.overlap.group == group]
        human = sum(one.overlap.human for one in some)
        spared = [one for one in some if one.held and not one.taken]
        whole = f"{sum(one.whole for one in spared)} of {len(spared)}" if spared else "–"
        counts = [sum(one.noticed for one in some), sum(one.taken for one in some)]
        rows.append(f"| {name} | {len(some)} ({human}) | {counts[0]} | {counts[1]} | {whole} |")
    rows += ["", "| | detector alone | hold and verdict |", "|---|---|---|"]
    for name, some in (("", list(outcomes)), (", human clips only", [one for one in outcomes if one.overlap.human])):
        all_of = figures(some)
        rows.append(f"| recall of interruptions{name} | {all_of.recall_vad} | {all_of.recall} |")
        rows.append(f"| false interruptions{name} | {all_of.false_vad} | {all_of.false} |")
    wrong = [one.overlap for one in outcomes if one.taken != one.overlap.event.is_query]
    rows += ["", "VerdictGiven wrongly: " + "; ".join(f"{one.event.what} ({one.group})" for one in wrong)]
    return "\n".join(rows)


def machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].split(':')[1].strip() if names else platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    """Measure, print, and draw what other thresholds would do: `python tests/overlaps.py`."""
    outcomes = measure(read())
    print(f"{report(outcomes)}\n\n{machine()}")
    kinds = [[one.p1 for one in outcomes if one.overlap.event.is_query is query] for query in (True, False)]
    roc = Roc(*kinds)
    draw(roc, roc.at(DuplexConfig().verdict_threshold), PICTURE)


if __name__ == "__main__":
    main()
