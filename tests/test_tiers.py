"""The program behind `make test` and `make test-all`."""

import sys
from pathlib import Path

import pytest

from tests.support import tiers
from tests.support.paths import ROOT
from tests.support.tiers import Shard, shards


def test_every_file_of_the_slow_tests_is_in_make_test_all_once() -> None:
    run = [word for shard in shards("all", ()) for word in shard.command if word.startswith("tests/")]
    slow = [path for path in ROOT.glob("tests/**/test_*.py") if {"real", "long"} & tiers.marks(path)]
    assert sorted(run) == sorted({str(path.relative_to(ROOT)) for path in slow} - {*tiers.APART})


def test_make_test_is_real() -> None:
    names = {shard.name for shard in shards("test", ())}
    assert names == {
        "quick tests",
        "tests/page/test_browser.py",
        "tests/server/test_spoken_conversation.py",
        "vLLM in one process",
    }


def python(name: str, script: str, alone: bool = False) -> Shard:
    return Shard(name, (sys.executable, "-c", script), alone)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in a tree of its own; a file with the names of the shards that ran."""
    note = f"import sys; open({str(tmp_path / 'ran')!r}, 'a').write(sys.argv[0] + '%s '); %s"
    seen = tmp_path / "sound"
    fail = f"import pathlib; pathlib.Path({str(seen)!r}).exists() or sys.exit('FAILED the second')"
    todo = [python(name, note % (name, then), name == "c") for name, then in (("a", ""), ("b", fail), ("c", ""))]
    monkeypatch.setattr(tiers, "shards", lambda tier, more: todo)
    monkeypatch.setattr(tiers, "STAMPS", tmp_path / "stamps")
    monkeypatch.setattr(tiers, "digest_of_the_files", lambda: "these files")
    monkeypatch.setattr(tiers, "AT_ONCE", 1)
    monkeypatch.delenv("SEED")
    return tmp_path


def test_a_failure_hides_nothing_and_what_passed_is_not_run_again(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tiers.main("all") == 1
    first = capsys.readouterr().out
    assert (runs / "ran").read_text().replace("-c", "").split() == ["a", "b", "c"]
    assert "2 of 3 passed" in first
    assert first.rstrip().endswith("FAILED the second")
    (runs / "sound").touch()
    assert tiers.main("all") == 0
    again = capsys.readouterr().out
    assert (runs / "ran").read_text().replace("-c", "").split() == ["a", "b", "c", "b"]
    assert again.splitlines()[0] == first.splitlines()[0], "the seed of the run that goes on"
    assert not list((runs / "stamps").iterdir()), "the next one is new"


def test_a_fresh_run_and_one_of_other_files_begin_anew(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers.main("all")
    monkeypatch.delenv("SEED")
    monkeypatch.setattr(tiers, "digest_of_the_files", lambda: "other files")
    tiers.main("all")
    monkeypatch.delenv("SEED")
    monkeypatch.setenv("FRESH", "1")
    tiers.main("all")
    assert (runs / "ran").read_text().replace("-c", "").split() == ["a", "b", "c"] * 3
