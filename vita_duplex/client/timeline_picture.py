"""A session as a picture: who spoke, what was decided, what was generated, sent and heard. Pure."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vita_duplex.client.latency import STEPS, steps_s
from vita_duplex.client.messages import Record
from vita_duplex.client.recording import OUTPUT_RATE
from vita_duplex.client.svg import GRID, INK, Svg
from vita_duplex.client.timeline import Span, Timeline

USER = "#3572b0"
PAUSE = "#c9d9ec"
REPLY = "#2a9d6f"
SENT = "#9bd1ba"
ACCEPTED = "#d3ecdf"
REJECTED = "#e6e6ea"
GENERATOR = "#fbeedd"
MONITOR = "#e8eff8"
PENDING = "#e3a32b"
GENERATING = "#8d6cab"
HOLD = "#d9dde3"
CUT = "#c8443c"
STEP_COLOURS = ("#b4bac3", PENDING, "#cf6f4a", "#b05c8b", "#7a6fc0", "#4f9fb8")
LEGEND = (
    [("user", USER), ("short silence", PAUSE), ("utterance for us", ACCEPTED), ("not for us", REJECTED)]
    + [("generator", GENERATOR), ("monitor", MONITOR), ("generating", GENERATING), ("sent", SENT), ("heard", REPLY)]
    + [("hold", HOLD), ("cut", CUT)]
    + [(name, colour) for (name, _), colour in zip(STEPS, STEP_COLOURS, strict=True)]
)

LEFT, RIGHT = 130, 20
SECOND = 80
"""Pixels for each second, as long as the picture is no wider than a wall."""
NARROWEST, WIDEST = 1000, 20_000
HEAD, SOUND, INSTANCE, TURN, FOOT = 50, 90, 34, 70, 80
"""Heights of the title, of a row of sound, of an instance, of a turn, and of the axis with the legend."""
LETTER = 6.5


def draw(timeline: Timeline) -> Svg:
    """The whole session."""
    names = sorted(
        {name for roles in timeline.roles for name in (roles.generator, roles.monitor)}
        | {record.instance for record in timeline.records}
    )
    return _Picture(timeline, names).svg


class _Picture:
    def __init__(self, timeline: Timeline, names: list[str]) -> None:
        self.timeline = timeline
        self.records = sorted(
            timeline.records, key=lambda one: one.begun if one.speech_start is None else one.speech_start
        )
        self.end = timeline.end + 0.6
        width = min(WIDEST, max(NARROWEST, LEFT + RIGHT + SECOND * self.end))
        self.scale = (width - LEFT - RIGHT) / self.end
        self.instances = {name: HEAD + 2 * SOUND + INSTANCE * row for row, name in enumerate(names)}
        turns = HEAD + 2 * SOUND + INSTANCE * len(names)
        self.bottom = turns + TURN * len(self.records)
        self.svg = Svg(width, self.bottom + FOOT)
        self._axis()
        self._user()
        self._heard()
        self._roles()
        for row, record in enumerate(self.records):
            self._work(record)
            self._turn(record, turns + TURN * row)
        for before, after in pairwise(timeline.roles):
            if after.swaps > before.swaps:
                self._mark(after.at, HEAD, self.bottom, INK, dashes="3 3")

    # --- rows

    def _axis(self) -> None:
        self.svg.text(8, 24, _title(self.timeline), size=15)
        step = next(one for one in (1, 2, 5, 10, 30, 60, 300, 3600) if one * self.scale >= 60 or one == 3600)
        for second in range(0, int(self.end) + 1, step):
            self._mark(second, HEAD, self.bottom, GRID)
            self.svg.text(self.x(second), self.bottom + 16, f"{second} s", anchor="middle")
        for index, (name, colour) in enumerate(LEGEND):
            x, y = 8 + index % 8 * 120, self.bottom + 34 + index // 8 * 20
            self.svg.box(x, y, x + 12, y + 12, colour)
            self.svg.text(x + 17, y + 11, name)

    def _user(self) -> None:
        self._name("user", HEAD + 65)
        labels = []
        for record in self.records:
            if record.speech_start is None or record.speech_end is None:
                continue
            colour = REJECTED if record.status == "rejected" else ACCEPTED
            self._bar((record.speech_start, record.speech_end), HEAD, SOUND - 4, colour, "utterance")
            p1 = f" p1 {record.p1:.2f}" if record.p1 is not None else ""
            head = f"{record.state or 'no verdict'}{p1}{', asked twice' if record.abstained else ''}"
            labels.append((record.speech_start, head, self.timeline.words.get(tuple(record.utterances), "")))
        self._captions(labels, HEAD)
        height = 30 if self.timeline.tracks is None else 6
        for span in self.timeline.speech:
            self._bar(span, HEAD + 80 - height, height, USER, "speech")
        for span in self.timeline.pauses:
            self._bar(span, HEAD + 80 - height, height, PAUSE, "short silence")
        if self.timeline.tracks is not None:
            self._curve(self.timeline.tracks[:, 0], HEAD + 54, USER)

    def _heard(self) -> None:
        top = HEAD + SOUND
        self._name("heard", top + 55)
        labels = []
        for sound in self.timeline.sounds.values():
            for span in sound.held:
                self._bar(span, top + 30, SOUND - 35, HOLD, "hold")
            if sound.heard:
                labels.append((sound.heard[0][0], "", sound.text))
            if self.timeline.tracks is None:
                for span in sound.heard:
                    self._bar(span, top + 40, 30, REPLY, "heard")
        if self.timeline.tracks is not None:
            self._curve(self.timeline.tracks[:, 1], top + 55, REPLY)
        self._captions(labels, top)

    def _roles(self) -> None:
        for name, top in self.instances.items():
            self._name(f"instance {name}", top + 21)
        ends = [*(one.at for one in self.timeline.roles[1:]), self.end]
        for roles, end in zip(self.timeline.roles, ends, strict=False):
            span = roles.at, end
            self._bar(span, self.instances[roles.monitor], INSTANCE - 2, MONITOR, f"{roles.monitor} monitors")
            self._bar(span, self.instances[roles.generator], INSTANCE / 2, GENERATOR, f"{roles.generator} generates")

    def _work(self, record: Record) -> None:
        top = self.instances[record.instance] + 6
        decided = next((at for at in (record.verdict, record.finished) if at is not None), self.end)
        self._bar((record.begun, decided), top, INSTANCE - 14, PENDING, f"verdict of turn {record.turn}")
        if record.status == "rejected" or record.verdict is None:
            return
        self._bar((record.verdict, self._stop(record)), top, INSTANCE - 14, GENERATING, f"turn {record.turn}")
        if record.first_token is not None:
            self._mark(record.first_token, top - 3, top + INSTANCE - 11, INK)
        if record.aborted is not None:
            self._mark(record.aborted, top - 3, top + INSTANCE - 11, CUT, 3)

    def _turn(self, record: Record, top: float) -> None:
        utterances = "+".join(f"u{number}" for number in record.utterances) or "typed"
        self._name(f"turn {record.turn} ({utterances})", top + 24)
        self._name(record.status or "", top + 42)
        self.svg.line([(LEFT, top), (self.svg.width - RIGHT, top)], GRID)
        if record.speech_start is not None and record.speech_end is not None:
            self._bar((record.speech_start, record.speech_end), top + 20, 10, USER, "speech")
        self._steps(record, top)
        self._reactions(record, top + TURN - 8)
        sound = self.timeline.sounds.get(record.response_id or "")
        if not record.is_reply or sound is None:
            return
        for span in sound.held:
            self._bar(span, top + 33, 24, HOLD, "hold")
        if record.first_token is not None:
            self._bar((record.first_token, self._stop(record)), top + 33, 6, GENERATING, "generated")
        for name, spans, y, colour in (("sent", sound.sent, 40, SENT), ("heard", sound.heard, 47, REPLY)):
            for span in spans:
                self._bar(span, top + y, 6 if name == "sent" else 10, colour, name)
        if record.status == "cancelled" and sound.heard:
            self._mark(sound.heard[-1][1], top + 30, top + 60, CUT, 2.5)
        if sound.heard and record.speech_end is not None:
            start, end = record.speech_end, sound.heard[0][0]
            self._arrow(start, end, top + 12, f"{end - start:.2f} s")

    def _steps(self, record: Record, top: float) -> None:
        """What was waited for from the end of speech to the first audio, one after the other."""
        at = record.speech_end
        if at is None:
            return
        for (name, length), colour in zip(steps_s(record).items(), STEP_COLOURS, strict=True):
            self._bar((at, at + length), top + 20, 10, colour, f"{name} {length:.3f} s")
            at += length

    def _reactions(self, record: Record, y: float) -> None:
        """How long a barge-in took to pause the reply, and how long until it was decided."""
        if record.speech_start is None or record.speech_end is None or record.verdict is None:
            return
        for start, end in (span for sound in self.timeline.sounds.values() for span in sound.held):
            if record.speech_start - 0.05 <= start <= record.verdict:
                decided = "resume" if record.status == "rejected" else "cut"
                spoken = end > record.speech_end
                after = f"{end - record.speech_end:.2f} s after" if spoken else f"{end - start:.2f} s later"
                text = f"hold {start - record.speech_start:.2f} s, {decided} {after}"
                self._arrow(record.speech_start, start, y, text)

    # --- shapes

    def x(self, second: float) -> float:
        return LEFT + self.scale * second

    def _stop(self, record: Record) -> float:
        return min(
            (at for at in (record.aborted, record.generated, record.finished) if at is not None), default=self.end
        )

    def _bar(self, span: Span, top: float, height: float, colour: str, tip: str) -> None:
        start, end = span[0], min(span[1], self.end)
        self.svg.box(self.x(start), top, self.x(end), top + height, colour, f"{tip}: {start:.2f} to {end:.2f} s")

    def _mark(self, at: float, top: float, bottom: float, colour: str, width: float = 1, dashes: str = "none") -> None:
        self.svg.line([(self.x(at), top), (self.x(at), bottom)], colour, width, dashes)

    def _arrow(self, start: float, end: float, y: float, text: str) -> None:
        left, right = self.x(start), self.x(end)
        self.svg.line([(left, y - 3), (left, y + 3), (left, y), (right, y), (right, y - 3), (right, y + 3)], INK)
        self.svg.text(right + 5, y + 4, text)

    def _name(self, text: str, y: float) -> None:
        self.svg.text(LEFT - 8, y, text, anchor="end")

    def _captions(self, labels: Iterable[tuple[float, str, str]], top: float) -> None:
        """Each at its moment: a short line, then as many words as there is room for before the next one."""
        for (start, head, words), (until, _, _) in pairwise([*labels, (self.end, "", "")]):
            room = max(6, round((until - start) * self.scale / LETTER))
            self.svg.text(self.x(start) + 3, top + 12, head)
            self.svg.text(self.x(start) + 3, top + 26, words if len(words) <= room else f"{words[: room - 1]}…")

    def _curve(self, track: NDArray[np.int16], middle: float, colour: str) -> None:
        """The loudest sample of every two pixels; a square root shows quiet speech beside loud speech."""
        step = max(1, round(2 * OUTPUT_RATE / self.scale))
        levels = np.abs(np.pad(track, (0, -len(track) % step)).reshape(-1, step).astype(np.float32) / 2**15).max(axis=1)
        heights = 24 * np.sqrt(levels / max(1e-4, float(levels.max(initial=0.0))))
        upper = [(self.x((n + 0.5) * step / OUTPUT_RATE), middle - float(h)) for n, h in enumerate(heights)]
        self.svg.area([*upper, *((x, 2 * middle - y) for x, y in reversed(upper))], colour)


def _title(timeline: Timeline) -> str:
    answers = [
        heard - record.speech_end
        for record in timeline.records
        if record.speech_end is not None and (heard := timeline.first_heard(record.response_id)) is not None
    ]
    parts = [timeline.title]
    if len(answers) > 3:
        parts.append(f"{len(answers)} answers, after {np.median(answers):.2f} s (median)")
    else:
        parts.append(f"answered after {', '.join(f'{one:.2f} s' for one in answers)}" if answers else "no answer")
    if timeline.roles and (swaps := timeline.roles[-1].swaps):
        parts.append(f"{swaps} role swap{'s' * (swaps != 1)}")
    return " · ".join(parts)
