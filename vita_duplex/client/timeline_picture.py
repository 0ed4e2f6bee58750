"""A session as a picture: who spoke, who listened, what was waited for, what was heard."""

import warnings
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from vita_duplex.client.errors import TalkError
from vita_duplex.client.latency import STEPS, steps_s
from vita_duplex.client.messages import Record, Roles
from vita_duplex.client.recording import OUTPUT_RATE
from vita_duplex.client.timeline import Sound, Span, Timeline

INK = "#22272e"
USER = "#3572b0"
VAD = "#7fa8d4"
PAUSE = "#c9d9ec"
REPLY = "#2a9d6f"
SENT = "#9bd1ba"
ACCEPTED = "#d3ecdf"
REJECTED = "#e6e6ea"
GENERATOR = "#fbeedd"
MONITOR = "#e8eff8"
JUDGING = "#e3a32b"
GENERATING = "#8d6cab"
HOLD = "#c9ced6"
CUT = "#c8443c"
STEP_COLOURS = ("#b4bac3", JUDGING, "#cf6f4a", "#b05c8b", "#7a6fc0", "#4f9fb8")

CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei")
"""Asked for glyphs that the default font lacks, where they are installed: the model speaks Chinese too."""
WORDS = 0.5
"""In the panels of sound, which reach from -1 to 1, what is above this height belongs to the words."""
BARS = {"steps": (0.6, 0.74), "generated": (0.48, 0.56), "sent": (0.38, 0.46), "heard": (0.2, 0.36)}
"""Heights in the row of a turn."""
COLUMNS = 2400
"""Points of a sound curve; more than the picture has pixels would only cost time."""


def draw(timeline: Timeline, path: Path) -> None:
    """Write the picture. Errors: `TalkError` when the file cannot be written."""
    installed = {font.name for font in fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in CJK_FONTS if name in installed)]
    with rc_context({"font.family": families}), warnings.catch_warnings():
        # words in a script without a font here show as boxes; that is not worth a line for each letter
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = _figure(timeline)
        FigureCanvasAgg(figure)
        try:
            figure.savefig(path, format=path.suffix.lstrip(".") or "png", dpi=130, facecolor="white")
        except (OSError, ValueError) as error:
            raise TalkError(f"cannot write {path}: {error}") from error


def _figure(timeline: Timeline) -> Figure:
    end = timeline.end + 0.6
    names = _instances(timeline)
    records = _in_order(timeline.records)
    n_rows = max(1, len(records))
    heights = [1.5, 1.2, 0.55 * max(1, len(names)), 0.9 * n_rows]
    if timeline.tracks is None:
        heights[:2] = 0.8, 0.5
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.03, hspace=0.03)
    figure = Figure(figsize=(min(20.0, max(13.0, 0.9 * end)), sum(heights) + 1.9), layout=layout)
    user, reply, instances, turns = figure.subplots(4, 1, sharex=True, height_ratios=heights)
    for axes in (user, reply, instances, turns):
        _plain(axes)
        axes.set_xlim(0, end)
    _draw_user(user, timeline, records)
    _draw_reply(reply, timeline, records)
    _draw_instances(instances, timeline, names, end)
    _draw_turns(turns, timeline, records)
    for number, roles in enumerate(_swaps(timeline.roles)):
        _draw_swap((user, reply, instances, turns), roles, label=number == 0)
    turns.tick_params(axis="x", bottom=True, labelbottom=True, colors=INK)
    turns.set_xlabel("seconds since the session began", color=INK)
    figure.suptitle(_title(timeline), x=0.01, ha="left", color=INK, fontsize=12, weight="bold", parse_math=False)
    figure.legend(handles=_legend(), loc="outside lower left", ncols=7, frameon=False, fontsize=8.5)
    return figure


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


def _in_order(records: Iterable[Record]) -> list[Record]:
    """By when the user began to speak: records come at the ends of turns."""
    ends = float("inf")
    return sorted(records, key=lambda one: one.speech_start if one.speech_start is not None else one.begun or ends)


def _instances(timeline: Timeline) -> list[str]:
    names = [name for roles in timeline.roles for name in (roles.generator, roles.monitor)]
    names += [record.instance for record in timeline.records if record.instance is not None]
    return sorted(set(names))


def _swaps(all_roles: Iterable[Roles]) -> Iterable[Roles]:
    """The moments at which the roles changed; the first `vita.roles` only names them."""
    swaps = 0
    for roles in all_roles:
        if roles.swaps > swaps:
            yield roles
        swaps = roles.swaps


# --- sound ------------------------------------------------------------------------------------------------


def _draw_user(axes: Axes, timeline: Timeline, records: list[Record]) -> None:
    _name(axes, "user")
    labels = []
    for record in records:
        start, end = record.speech_start, record.speech_end
        if start is None or end is None:
            continue
        accepted = record.status != "rejected"
        axes.axvspan(start, end, color=ACCEPTED if accepted else REJECTED, lw=0)
        p1 = f"  p1 {record.p1:.2f}" if record.p1 is not None else ""
        head = f"{record.state or 'no verdict'}{p1}{', asked twice' if record.abstained else ''}"
        labels.append((start, head, timeline.words.get(record.utterances, "")))
    _captions(axes, labels)
    if timeline.tracks is None:
        _blocks(axes, timeline.speech, -0.6, 0.1, VAD)
        _blocks(axes, timeline.pauses, -0.6, 0.1, PAUSE)
    else:
        _curve(axes, timeline.tracks[:, 0], USER, middle=-0.25, height=0.65)
        _blocks(axes, timeline.speech, -1, -0.93, VAD)
    axes.set_ylim(-1, 1)


def _captions(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Write each at its moment: a short line, then as many words as there is room before the next one."""
    end = axes.get_xlim()[1]
    per_second = 11.5 * _width(axes) / end  # letters of this size
    for (start, head, words), (until, _, _) in pairwise([*labels, (end, "", "")]):
        room = max(6, round((until - start) * per_second))
        short = words if len(words) <= room else words[: room - 1].rstrip() + "…"
        lines = [line for line in (head, f"“{short}”" if short else "") if line]
        _write(axes, "\n".join(lines), (start, 1.0), (3, -3), va="top")


def _width(axes: Axes) -> float:
    figure = axes.get_figure(root=True)
    return figure.get_figwidth() if figure is not None else 0.0


def _draw_reply(axes: Axes, timeline: Timeline, records: list[Record]) -> None:
    _name(axes, "heard")
    labels = []
    for record in records:
        sound = timeline.sounds.get(record.response_id or "")
        if sound is None:
            continue
        for start, end in sound.held:
            _hatched(axes, start, end, -1, WORDS)
        if not sound.heard:
            continue
        if timeline.tracks is None:
            _blocks(axes, sound.heard, -0.6, 0.1, REPLY)
        labels.append((sound.heard[0][0], "", sound.text))
        if record.status == "cancelled":
            axes.vlines(sound.heard[-1][1], -1, WORDS, color=CUT, lw=1.6, zorder=4)
    _captions(axes, labels)
    if timeline.tracks is not None:
        _curve(axes, timeline.tracks[:, 1], REPLY, middle=-0.25, height=0.7)
    axes.set_ylim(-1, 1)


def _curve(axes: Axes, track: NDArray[np.int16], colour: str, middle: float, height: float) -> None:
    if not len(track):
        return
    width = max(1, -(-len(track) // COLUMNS))
    padded = np.pad(track, (0, -len(track) % width)).reshape(-1, width)
    level = np.abs(padded.astype(np.float32) / 32768).max(axis=1)
    # a square root shows quiet speech beside loud speech
    level = height * np.sqrt(level / max(1e-4, float(level.max())))
    at = (np.arange(len(level)) + 0.5) * width / OUTPUT_RATE
    axes.fill_between(at, middle - level, middle + level, where=level > 0.02, color=colour, lw=0, zorder=3)


# --- instances --------------------------------------------------------------------------------------------


def _draw_instances(axes: Axes, timeline: Timeline, names: list[str], end: float) -> None:
    rows = {name: len(names) - 1 - index for index, name in enumerate(names)}
    for roles, until in zip(timeline.roles, [*(one.at for one in timeline.roles[1:]), end], strict=False):
        _block(axes, roles.at, until, rows[roles.monitor], 0.0, 1.0, MONITOR)
        # one instance can have both roles
        bottom = 0.5 if roles.generator == roles.monitor else 0.0
        _block(axes, roles.at, until, rows[roles.generator], bottom, 1.0, GENERATOR)
    for record in timeline.records:
        if record.instance is not None:
            _draw_work(axes, record, rows[record.instance], end)
    axes.set_yticks([row + 0.5 for row in rows.values()], [f"instance {name}" for name in rows], parse_math=False)
    axes.set_ylim(0, max(1, len(names)))
    for row in range(1, len(names)):
        axes.axhline(row, color="white", lw=2, zorder=2)


def _draw_work(axes: Axes, record: Record, row: int, end: float) -> None:
    judged = next((at for at in (record.verdict, record.finished) if at is not None), end)
    if record.begun is not None:
        _block(axes, record.begun, judged, row, 0.2, 0.8, JUDGING)
    if record.status == "rejected" or record.verdict is None:
        return
    stops = [at for at in (record.aborted, record.generated, record.finished) if at is not None]
    until = min(stops, default=end)
    _block(axes, record.verdict, until, row, 0.2, 0.8, GENERATING)
    if until - record.verdict > 0.8:
        after = max(record.verdict, record.first_token or 0.0)
        _write(axes, f"turn {record.turn}", (after, row + 0.5), (5, 0), va="center", color="white")
    if record.first_token is not None:
        axes.plot([record.first_token] * 2, [row + 0.12, row + 0.88], color=INK, lw=1.4, zorder=5)
    if record.aborted is not None:
        axes.plot(record.aborted, row + 0.5, "x", color=CUT, ms=8, mew=2.2, zorder=6)


# --- turns ------------------------------------------------------------------------------------------------


def _draw_turns(axes: Axes, timeline: Timeline, records: list[Record]) -> None:
    n_rows = len(records)
    labels = []
    for index, record in enumerate(records):
        row = n_rows - 1 - index
        labels.append(_row_name(record))
        if index:
            axes.axhline(row + 1, color="#e4e7eb", lw=1, zorder=1)
        _draw_waiting(axes, record, row)
        sound = timeline.sounds.get(record.response_id or "")
        if record.is_reply and sound is not None:
            _draw_bars(axes, record, sound, row)
            _draw_answer(axes, timeline, record, row)
        _draw_reactions(axes, timeline, record, row)
    axes.set_yticks([n_rows - 0.5 - index for index in range(n_rows)], labels)
    axes.set_ylim(0, max(1, n_rows))


def _row_name(record: Record) -> str:
    utterances = "+".join(f"u{number}" for number in record.utterances) or "typed"
    if record.status == "rejected":
        return f"{utterances}\nrejected"
    return f"turn {record.turn} ({utterances})\n{record.status}"


def _draw_waiting(axes: Axes, record: Record, row: int) -> None:
    """The steps from the end of speech to the first audio, one after the other."""
    if record.speech_start is not None and record.speech_end is not None:
        _block(axes, record.speech_start, record.speech_end, row, *BARS["steps"], USER)
    if record.speech_end is None:
        return
    at = record.speech_end
    for (name, _), colour in zip(STEPS, STEP_COLOURS, strict=True):
        length = steps_s(record)[name]
        _block(axes, at, at + length, row, *BARS["steps"], colour)
        at += length


def _draw_bars(axes: Axes, record: Record, sound: Sound, row: int) -> None:
    """What was generated, sent and heard, one under the other."""
    bottom, top = BARS["heard"][0], BARS["generated"][1]
    for start, end in sound.held:
        _hatched(axes, start, end, row + bottom, row + top)
    stops = [at for at in (record.aborted, record.generated, record.finished) if at is not None]
    if record.first_token is not None and stops:
        _block(axes, record.first_token, min(stops), row, *BARS["generated"], GENERATING)
    _blocks(axes, sound.sent, row + BARS["sent"][0], row + BARS["sent"][1], SENT)
    _blocks(axes, sound.heard, row + BARS["heard"][0], row + BARS["heard"][1], REPLY)
    if record.status == "cancelled" and sound.heard:
        axes.plot([sound.heard[-1][1]] * 2, [row + bottom - 0.05, row + top + 0.05], color=CUT, lw=2.4, zorder=5)


def _draw_answer(axes: Axes, timeline: Timeline, record: Record, row: int) -> None:
    heard = timeline.first_heard(record.response_id)
    if heard is not None and record.speech_end is not None:
        _arrow(axes, record.speech_end, heard, row + 0.84, f"{heard - record.speech_end:.2f} s")


def _draw_reactions(axes: Axes, timeline: Timeline, record: Record, row: int) -> None:
    """How long a barge-in took to pause the reply, and how long until it was decided."""
    if record.speech_start is None or record.verdict is None:
        return
    for start, end in (span for sound in timeline.sounds.values() for span in sound.held):
        if not record.speech_start - 0.05 <= start <= record.verdict:
            continue
        paused = f"hold {start - record.speech_start:.2f} s"
        _arrow(axes, record.speech_start, start, row + 0.1, paused, before=True)
        if record.speech_end is not None and end > record.speech_end:
            what = "resume" if record.status == "rejected" else "cut"
            _arrow(axes, record.speech_end, end, row + 0.1, f"{what} {end - record.speech_end:.2f} s")


# --- strokes ----------------------------------------------------------------------------------------------


def _block(axes: Axes, start: float, end: float, row: float, bottom: float, top: float, colour: str) -> None:
    width = max(0.0, end - start)
    axes.broken_barh([(start, width)], (row + bottom, top - bottom), facecolors=colour, lw=0, zorder=3)


def _blocks(axes: Axes, spans: Iterable[Span], bottom: float, top: float, colour: str) -> None:
    for start, end in spans:
        _block(axes, start, end, 0, bottom, top, colour)


def _hatched(axes: Axes, start: float, end: float, bottom: float, top: float) -> None:
    span, rows = [(start, end - start)], (bottom, top - bottom)
    axes.broken_barh(span, rows, facecolors="#f4f5f7", edgecolor=HOLD, hatch="////", lw=0, zorder=2)


def _arrow(axes: Axes, start: float, end: float, at: float, text: str, before: bool = False) -> None:
    look = {"arrowstyle": "<|-|>", "color": INK, "lw": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
    axes.annotate("", (end, at), xytext=(start, at), arrowprops=look, zorder=6)
    if before:
        _write(axes, text, (start, at), (-5, 0), va="center", ha="right")
    else:
        _write(axes, text, (end, at), (5, 0), va="center")


def _write(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    shift: tuple[float, float],
    *,
    va: str = "baseline",
    ha: str = "left",
    color: str = INK,
) -> None:
    """Text beside a point; `shift` is in points."""
    points = "offset points"
    axes.annotate(text, at, shift, textcoords=points, va=va, ha=ha, fontsize=9, color=color, zorder=6, parse_math=False)


def _draw_swap(panels: Iterable[Axes], roles: Roles, label: bool) -> None:
    for index, axes in enumerate(panels):
        free = (WORDS + 1) / 2 if index < 2 else 1.0
        axes.axvline(roles.at, ymax=free, color=INK, lw=1, ls=(0, (2, 2)), zorder=4)
        if index == 0:
            _write(axes, "roles swap" if label else "swap", (roles.at, -1), (3, 3))


def _name(axes: Axes, text: str) -> None:
    axes.set_yticks([-0.25], [text])


def _plain(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#d5d9df")
    axes.tick_params(axis="y", length=0, colors=INK, labelsize=9)
    axes.tick_params(axis="x", bottom=False, labelbottom=False)
    axes.grid(axis="x", color="#eef0f3", lw=0.8)
    axes.set_axisbelow(True)


def _legend() -> list[Artist]:
    patches: list[Artist] = [
        Patch(color=USER, label="user speaks"),
        Patch(color=VAD, label="speech noticed"),
        Patch(color=PAUSE, label="short silence"),
        Line2D([], [], color=INK, marker="|", ls="", ms=11, mew=1.4, label="first token came"),
        Patch(color=ACCEPTED, label="utterance for us"),
        Patch(color=REJECTED, label="utterance not for us"),
        Patch(color=GENERATOR, label="role: generator"),
        Patch(color=MONITOR, label="role: monitor"),
        Patch(color=GENERATING, label="generating"),
        Patch(color=SENT, label="sent"),
        Patch(color=REPLY, label="heard"),
        Patch(facecolor="#f4f5f7", edgecolor=HOLD, hatch="////", lw=0, label="hold"),
        Line2D([], [], color=CUT, lw=2.4, label="cut, aborted"),
    ]
    steps = zip(STEPS, STEP_COLOURS, strict=True)
    patches += [
        Patch(color=colour, label="judging / verdict" if name == "verdict" else name) for (name, _), colour in steps
    ]
    return patches
