"""Models by name: what a name leads to, and what is said of half a download."""

import json
import os
from pathlib import Path

import pytest

from vita_duplex.models.naming import NoModel, check_whole, is_vita_name, locate

VITA = {"model_type": "vita-Qwen2", "architectures": ["VITAQwen2ForCausalLM"]}


def shard(path: Path, *, cut: int = 0) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    path.write_bytes((len(header).to_bytes(8, "little") + header + b"\0" * 16)[: -cut or None])


def model(folder: Path, settings: dict[str, object] | None = None, shards: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings or {"model_type": "qwen2"}))
    (folder / "tokenizer.json").write_text("{}")
    names = [f"model-{n}-of-{shards}.safetensors" for n in range(1, shards + 1)]
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: name for name in names}}))
    for name in names:
        shard(folder / name)
    return folder


def cached(home: Path, owner: str, name: str, inside: str = "", settings: dict[str, object] | None = None) -> Path:
    folder = home / "hub" / f"models--{owner}--{name}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc\n")
    return model(folder / "snapshots" / "abc" / inside, settings)


def test_a_folder_is_itself_or_the_one_inside_it_that_has_a_model(tmp_path: Path) -> None:
    assert locate(str(model(tmp_path / "a"))) == tmp_path / "a"
    assert locate(str(model(tmp_path / "b" / "VITA_ckpt").parent)) == tmp_path / "b" / "VITA_ckpt"
    model(tmp_path / "b" / "other")
    with pytest.raises(NoModel, match=r"several models; name one: .*VITA_ckpt, .*other"):
        locate(str(tmp_path / "b"))


@pytest.mark.parametrize("name", ["./nosuch", "/no/such", "a/b/c", "~/nosuch-model", "1.5", ".", "-x/y", "owner/.x"])
def test_what_can_be_no_model_is_named_without_asking_anybody(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoModel, match="there is no"):
        locate(name)


def test_nothing_and_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(NoModel, match="no model is named"):
        locate(" ")
    (tmp_path / "m.gguf").touch()
    with pytest.raises(NoModel, match=r"engine\.kind=openai"):
        locate(str(tmp_path / "m.gguf"))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(NoModel, match=f"name its folder: {tmp_path}"):
        locate(str(tmp_path / "model.safetensors"))


def test_a_downloaded_model_is_found_by_its_hub_id_also_in_its_subfolder(tmp_path: Path) -> None:
    environment = {"HF_HOME": str(tmp_path)}
    assert locate("owner/name", environment) == "owner/name"
    assert locate("owner/name", {"HF_HUB_CACHE": str(tmp_path / "hub")}) == "owner/name"
    there = cached(tmp_path, "owner", "name")
    assert locate("owner/name", environment) == there
    released = cached(tmp_path, "VITA-MLLM", "VITA", "VITA_ckpt", {"model_type": "vita-mixtral"})
    assert locate("VITA-MLLM/VITA", environment) == released


def test_vita_is_known_by_hub_id_by_folder_and_by_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert is_vita_name("VITA-MLLM/VITA-1.5"), "before it is downloaded"
    assert is_vita_name(str(model(tmp_path / "v" / "VITA_ckpt", VITA).parent))
    cached(tmp_path, "me", "tuned", settings=VITA)
    assert is_vita_name("me/tuned")
    assert not is_vita_name("Qwen/Qwen2.5-1.5B-Instruct")
    assert not is_vita_name(str(model(tmp_path / "q")))
    assert not is_vita_name("./nosuch")


def test_a_whole_model_is_whole_also_of_links_that_nobody_may_write(tmp_path: Path) -> None:
    whole = model(tmp_path / "blobs", shards=2)
    links = tmp_path / "links"
    links.mkdir()
    for file in whole.iterdir():
        (links / file.name).symlink_to(file)
    links.chmod(0o555)
    for folder in (whole, links):
        check_whole(folder)
    links.chmod(0o755)


def spoil(folder: Path, what: str) -> None:
    second = folder / "model-2-of-2.safetensors"
    match what:
        case "missing":
            second.unlink()
        case "dangling":
            second.unlink()
            second.symlink_to(folder / "gone")
        case "cut":
            shard(second, cut=5)
        case "cut in its header":
            second.write_bytes(second.read_bytes()[:20])
        case "empty":
            second.write_bytes(b"")
        case "pointer":
            second.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
            (folder / ".git").mkdir()
        case "pointer for a configuration":
            (folder / "config.json").write_text("version https://git-lfs.github.com/spec/v1\n")
        case "no configuration":
            (folder / "config.json").write_text('{"model_type"')
        case "no index":
            (folder / "model.safetensors.index.json").write_text("{")
        case "no weights":
            for file in folder.glob("*.safetensors*"):
                file.unlink()
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "adapter":
            for file in folder.glob("model*"):
                file.unlink()
            (folder / "adapter_config.json").touch()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "model-2-of-2.safetensors is missing; the download is not whole"),
        ("dangling", "model-2-of-2.safetensors is missing"),
        ("cut", "is cut short: [0-9]+ of [0-9]+ bytes"),
        ("cut in its header", "is damaged"),
        ("empty", "is damaged"),
        ("pointer", "is a git-lfs pointer, not the weights; run: git -C .* lfs pull"),
        ("pointer for a configuration", "config.json is a git-lfs pointer"),
        ("no configuration", "config.json cannot be read as JSON"),
        ("no index", "index.json cannot be read"),
        ("no weights", "has no weights"),
        ("no tokenizer", "has no tokenizer"),
        ("adapter", "is a LoRA adapter; merge it"),
    ],
)
def test_half_a_download_is_named_with_what_to_do(what: str, message: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "m", shards=2)
    spoil(folder, what)
    with pytest.raises(NoModel, match=message) as caught:
        check_whole(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    next(folder.glob("*-1-of-1*")).chmod(0)
    with pytest.raises(NoModel, match="may not be read by this user"):
        check_whole(folder)
