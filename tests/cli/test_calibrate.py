"""Calibration: labelled clips in, what each threshold would do out."""

import argparse
import asyncio
import math
from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tests.support.paths import DATA
from vita_duplex.cli import calibrate
from vita_duplex.cli import main as cli
from vita_duplex.cli.calibrate import CalibrateError, judge, read_clips, report, roc_of
from vita_duplex.cli.roc_picture import draw
from vita_duplex.config import Config, EngineConfig
from vita_duplex.engine.duplex_settings import DuplexConfig, Thresholds
from vita_duplex.engine.messages import Query, Situation, Verdict
from vita_duplex.roc import Roc, Share

CLIPS = DATA / "clips.tsv"


class LoudnessInstance:
    """Takes for a query what is loud; an answer that nobody reads to its end."""

    name, healthy = "a", True

    def __init__(self) -> None:
        self.closed = 0

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str]:
        [utterance] = query.utterances
        assert utterance.samples is not None
        p1 = float(np.abs(utterance.samples).max())
        try:
            yield Verdict(p1, 1 - p1, 0.0)
            yield "never asked for"
        finally:
            self.closed += 1

    async def warm(self, query: Query) -> None: ...

    def close(self) -> None: ...


def make_clips(folder: Path, queries: list[float], others: list[float]) -> Path:
    lines = ["path\tlabel"]
    for label, levels in (("query", queries), ("noise", others)):
        for number, level in enumerate(levels):
            soundfile.write(folder / f"{label}{number}.wav", np.full(1600, level, np.float32), 16_000, subtype="FLOAT")
            lines.append(f"{label}{number}.wav\t{label}")
    (folder / "clips.tsv").write_text("\n".join(lines) + "\n")
    return folder / "clips.tsv"


def test_clips_are_judged_reported_and_drawn(tmp_path: Path) -> None:
    instance = LoudnessInstance()
    clips = read_clips(make_clips(tmp_path, [0.9, 0.8, 0.7, 0.6], [0.65, 0.4, 0.2]))
    judged = asyncio.run(judge(instance, clips))
    assert instance.closed == 7
    assert [round(one.p1, 2) for one in judged] == [0.9, 0.8, 0.7, 0.6, 0.65, 0.4, 0.2]
    text = report(judged, DuplexConfig(verdict_threshold=0.62), 0.95)
    assert "best threshold 0.500" in text
    assert "recall 4/4 = 100.0% (51%–100%), false takes 1/3 = 33.3%" in text
    assert "configured 0.620: recall 3/4 = 75.0%" in text
    assert "2 of 7 within 0.05" in text
    assert "p1 0.650  noise  noise0.wav" in text
    roc = roc_of(judged)
    picture = str(draw(roc, roc.best(0.95)))
    assert ">threshold 0.500<" in picture
    assert f">AUC {roc.auc:.3f} (" in picture


def test_each_situation_has_a_threshold_of_its_own(tmp_path: Path) -> None:
    """A voice that is loud enough for silence is not loud enough for a reply."""
    make_clips(tmp_path, [0.9, 0.8, 0.4, 0.3], [0.6, 0.5, 0.1, 0.05])
    rows = (tmp_path / "clips.tsv").read_text().splitlines()
    into = ["speaking", "speaking", "after 2\tShall I go on?", "after 10.5"] * 2
    with_situations = [rows[0], *(f"{row}\t{one}" for row, one in zip(rows[1:], into, strict=True)), f"{rows[1]}\tidle"]
    (tmp_path / "clips.tsv").write_text("\n".join(with_situations) + "\n")
    clips = read_clips(tmp_path / "clips.tsv")
    assert clips[2].situation == Situation("after", 2.0, "Shall I go on?")
    config = DuplexConfig(threshold=Thresholds(after=0.35))
    text = report(asyncio.run(judge(LoudnessInstance(), clips)), config, 0.95)
    speaking, after, idle = text.split("said into ")[1:]
    assert speaking.startswith("speaking: 4 clips → duplex.threshold.speaking")
    assert "best threshold 0.700" in speaking
    assert "configured 0.500: recall 2/2 = 100.0% (34%–100%), false takes 2/2" in speaking
    assert "best threshold 0.200" in after
    assert "configured 0.350: recall 1/2" in after
    assert "clips of one kind only" in idle


def test_the_best_threshold_has_the_fewest_false_takes_at_the_recall_wanted() -> None:
    roc = Roc([0.2, 0.6, 0.7, 0.8], [0.1, 0.3, 0.65, 0.65])
    assert roc.best(1.0).threshold == pytest.approx(0.15)
    assert roc.best(0.75).threshold == pytest.approx(0.45)
    assert (roc.best(0.75).recall.hits, roc.best(0.75).false_takes.hits) == (3, 2)
    assert (roc.best(0.5).threshold, roc.best(0.5).false_takes.hits) == (pytest.approx(0.675), 0)


chances = st.lists(st.sampled_from([n / 16 for n in range(17)]), min_size=1, max_size=12)


@given(chances, chances, st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_no_threshold_is_better_than_the_best(queries: list[float], others: list[float], recall: float) -> None:
    roc = Roc(queries, others)
    best = roc.best(recall)
    assert best.recall.value >= recall
    for threshold in [n / 32 for n in range(33)]:
        point = roc.at(threshold)
        assert point.recall.hits == sum(p1 >= threshold for p1 in queries)
        assert point.false_takes.hits == sum(p1 >= threshold for p1 in others)
        assert point.recall.value < recall or point.false_takes.hits >= best.false_takes.hits
    pairs = [(q > o) + (q == o) / 2 for q in queries for o in others]
    assert roc.auc == pytest.approx(sum(pairs) / len(pairs))
    low, high = roc.auc_interval
    assert 0 <= low <= roc.auc + 1e-9
    assert roc.auc <= high + 1e-9 <= 1 + 2e-9
    assert high - low > 0.05


def test_the_interval_of_a_share_is_wilsons() -> None:
    # 8 of 10: Brown, Cai and DasGupta, Statistical Science 16 (2001), formula (4)
    assert Share(8, 10).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Share(0, 20).interval[0] == 0.0
    assert Share(0, 20).interval[1] == pytest.approx(1.96**2 / (20 + 1.96**2), abs=1e-5)
    assert not math.isnan(Share(20, 20).interval[1])


def test_what_cannot_be_calibrated_is_refused_in_one_line(tmp_path: Path) -> None:
    for text, reason in (
        ("a.wav\tquery\n", "both kinds"),
        ("a.wav\tquery\nb.wav\tcough\n", "line 2: wants a path, a tab, and query or noise"),
        ("a.wav query\n", "line 1"),
        ("a.wav\tquery\tlater\n", r"line 1: was it said into a reply \(speaking\), after N seconds, or idle"),
        ("a.wav\tquery\tafter soon\n", "line 1: was it said"),
        ("a.wav\tquery\tidle\twords\tmore\n", "line 1: wants"),
    ):
        (tmp_path / "clips.tsv").write_text(text)
        with pytest.raises(CalibrateError, match=reason):
            read_clips(tmp_path / "clips.tsv")
    with pytest.raises(CalibrateError, match="cannot read"):
        read_clips(tmp_path / "missing.tsv")
    (tmp_path / "clips.tsv").write_text("a.wav\tquery\nb.wav\tnoise\n")
    with pytest.raises(CalibrateError, match=r"cannot read .*a\.wav"):
        asyncio.run(judge(LoudnessInstance(), read_clips(tmp_path / "clips.tsv")))
    arguments = argparse.Namespace(clips=tmp_path / "clips.tsv", out=None, recall=0.95)
    with pytest.raises(CalibrateError, match="hears nothing"):
        calibrate.run(arguments, Config(engine=EngineConfig(kind="scripted")), lambda share, phase: None)
    arguments.out = tmp_path / "roc.txt"
    with pytest.raises(CalibrateError, match="cannot draw"):
        calibrate.run(arguments, Config(), lambda share, phase: None)


@pytest.mark.real
def test_the_cpu_default_is_calibrated_on_human_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "roc.svg"
    monkeypatch.setattr(
        "sys.argv", ["vita-duplex", "calibrate", str(CLIPS), "--config", "configs/cpu.yaml", "-o", str(picture)]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "recall 4/4 = 100.0%" in out
    assert "AUC 1.000" in out
    assert picture.stat().st_size > 2_000
