"""What is wrong with training data, before a run finds out: every fault with its file and item."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vita_duplex.client.errors import TalkError
from vita_duplex.client.recording import read_recording
from vita_duplex.models.prompts import STYLES
from vita_duplex.models.tiling import UnusableImage, open_image
from vita_duplex.models.video import UnusableVideo, basic
from vita_duplex.models.video import sample as sample_frames
from vita_duplex.train.formats import Folders, Item, read_items
from vita_duplex.train.sample import Medium, Sample, SampleError

SHORTEST_S, LONGEST_S = 0.5, 30.0
"""Of a clip; the limits of the original's `check_audio_lost.py`."""
WIDEST = 12
"""Of an image, its longer side by its shorter one; the limit of the original's `check_image_space_ratio.py`."""
CONTROL = re.compile("|".join(re.escape(one) for one in sorted({w for s in STYLES.values() for w in s["reserved"]})))

Progress = Callable[[Iterable[Item], str], Iterable[Item]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an item cannot be trained on."""

    item: str
    why: str

    def __str__(self) -> str:
        return f"{self.item}: {self.why}"


class MediaChecks:
    """What was found out about media files. Kept in a file, so that a second run looks at new and changed ones only."""

    def __init__(self, memory: Path | None) -> None:
        self._memory = memory
        known = memory.read_text(encoding="utf-8").splitlines() if memory and memory.exists() else []
        self._found: dict[str, str] = dict(json.loads(line) for line in known)

    def fault(self, medium: Medium) -> str:
        """Why a file cannot be used; empty if it can."""
        try:
            about = medium.path.stat()
        except OSError:
            return f"{medium.kind} file {medium.path} is missing"
        key = f"{medium.kind} {medium.path} {about.st_size} {about.st_mtime_ns}"
        if key not in self._found:
            self._found[key] = _fault(medium)
            if self._memory:
                with self._memory.open("a", encoding="utf-8") as memory:
                    memory.write(json.dumps([key, self._found[key]]) + "\n")
        return self._found[key]


def check(files: Sequence[Path], folders: Folders, media: MediaChecks, progress: Progress) -> Iterator[Fault]:
    """Every fault of every item of some files."""
    for file in files:
        try:
            items = list(read_items(file))
        except (SampleError, OSError, UnicodeDecodeError) as error:
            yield Fault(str(file), str(error))
            continue
        if not items:
            yield Fault(str(file), "it has no item")
        for item in progress(items, file.name):
            try:
                sample = item.sample(file, folders)
            except (SampleError, KeyError, TypeError, AttributeError) as error:
                yield Fault(item.name, str(error) if isinstance(error, SampleError) else f"a field is missing: {error}")
                continue
            yield from (Fault(item.name, why) for why in _faults(sample, media))


def _faults(sample: Sample, media: MediaChecks) -> Iterator[str]:
    yield from filter(None, map(media.fault, sample.media))
    for number, turn in enumerate(sample.turns, start=1):
        texts = [part for part in turn.user if isinstance(part, str)]
        for text in (*texts, turn.answer):
            if found := CONTROL.search(text):
                yield f"turn {number}: its text has {found[0]}, which is a token of control or of state"
        if not turn.user or (not turn.media and not "".join(texts).strip()):
            yield f"turn {number}: the user neither says nor shows anything"


def _fault(medium: Medium) -> str:
    try:
        if medium.kind == "audio":
            seconds = read_recording(medium.path).duration_s
            if not SHORTEST_S <= seconds <= LONGEST_S:
                return f"{medium.path} is {seconds:.2f} s long; a clip has {SHORTEST_S} to {LONGEST_S:.0f} s"
        elif medium.kind == "image":
            sides = sorted(open_image(medium.path.read_bytes()).size)
            if sides[1] > WIDEST * sides[0]:
                return f"{medium.path} is {sides[1] / sides[0]:.0f} times as long as wide; at most {WIDEST}"
        else:
            sample_frames(medium.path.read_bytes(), basic, mirrored=False)
    except (TalkError, UnusableImage, UnusableVideo, OSError) as error:
        return f"{medium.path}: {error}" if str(medium.path) not in str(error) else str(error)
    return ""
