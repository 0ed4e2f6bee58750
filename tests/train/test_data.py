"""Training data in files: read, converted, checked, packed and mixed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.support.paths import DATA, GOLDEN
from vita_duplex.cli.data import run as data
from vita_duplex.cli.main import _parser
from vita_duplex.cli.train import TrainError
from vita_duplex.client.recording import read_recording
from vita_duplex.models.configuration import of_folder
from vita_duplex.train.batch import Encoder, Rows, collate
from vita_duplex.train.check import MediaChecks, check
from vita_duplex.train.folder import load_tokenizer
from vita_duplex.train.formats import Folders, Item, read_items, to_messages, to_vita
from vita_duplex.train.labels import LabelSettings
from vita_duplex.train.model import IGNORED
from vita_duplex.train.rewrite import pack
from vita_duplex.train.sample import Medium, Sample, SampleError, Turn

TINY = GOLDEN / "tiny_vita"


def conversation(question: str, answer: str = "yes.", **fields: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], **fields}


@pytest.fixture
def media(tmp_path: Path) -> Path:
    (tmp_path / "audio").mkdir()
    for name, seconds in (("good", 1.0), ("short", 0.3), ("long", 31.0)):
        noise = 0.05 * np.random.default_rng(1).standard_normal(round(seconds * 16_000))
        soundfile.write(tmp_path / "audio" / f"{name}.wav", noise, 16_000)
    (tmp_path / "audio" / "broken.wav").write_bytes(b"RIFF no sound")
    Image.new("RGB", (60, 40)).save(tmp_path / "good.png")
    Image.new("RGB", (1300, 100)).save(tmp_path / "wide.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    return tmp_path


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "audio missing": (conversation("<audio>", audio="gone.wav"), "gone.wav is missing"),
    "audio broken": (conversation("<audio>", audio="broken.wav"), "broken.wav"),
    "audio short": (conversation("<audio>", audio="short.wav"), "is 0.30 s long; a clip has 0.5 to 30 s"),
    "audio long": (conversation("<audio>", audio="long.wav"), "is 31.00 s long"),
    "image missing": (conversation("<image>\nwhat?", set="s", image="gone.png"), "gone.png is missing"),
    "image broken": (conversation("<image>\nwhat?", set="s", image="broken.png"), "broken.png"),
    "image wide": (conversation("<image>\nwhat?", set="s", image="wide.png"), "13 times as long as wide"),
    "video broken": (conversation("<video>\nwhat?", set="s", video="broken.mp4"), "broken.mp4"),
    "too many placeholders": (conversation("<audio><audio>", audio="good.wav"), "more <audio> than audio files"),
    "too few placeholders": (conversation("hello", audio="good.wav"), "1 audio file more than <audio>"),
    "unknown set": (
        conversation("<image>\nwhat?", set="t", image="good.png"),
        "the set 't' has no folder; known are s",
    ),
    "empty answer": (conversation("hello", "  "), "an answer is empty; nothing of it would be trained"),
    "nothing asked": (conversation("  "), "the user neither says nor shows anything"),
    "state token in the text": (conversation("hello", "<1>yes"), "has <1>, which is a token of control or of state"),
    "end token in the text": (conversation("hello<|im_end|>"), "has <|im_end|>"),
    "answer missing": ({"conversations": [{"from": "human", "value": "hello"}]}, "1 messages"),
    "roles twice": (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]},
        "roles 'user' and 'user'",
    ),
    "no text": ({"conversations": [{"from": "human"}, {"from": "gpt", "value": "b"}]}, "has to be a string"),
    "no conversation": ({"id": 3}, "neither `conversations`"),
    "unknown state": (
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "state": "4"}]},
        "`state` is '4'; it can be query, noise or typed",
    ),
}


def faults(folder: Path, items: list[Any], memory: Path | None = None) -> list[str]:
    (folder / "data.json").write_text(json.dumps(items))
    folders = Folders(sets={"s": folder}, audio=folder)
    return [str(one) for one in check([folder / "data.json"], folders, MediaChecks(memory), lambda items, _: items)]


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_with_its_item(name: str, media: Path) -> None:
    item, wanted = FAULTS[name]
    good = conversation("<audio>", audio="good.wav")
    [told] = faults(media, [good, item, good])
    assert told.startswith("data.json[1]: ")
    assert wanted in told


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', "[]"])
def test_a_file_that_is_no_data_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(text)
    [told] = check([tmp_path / "data.json"], Folders(), MediaChecks(None), lambda items, _: items)
    assert "data.json" in str(told)


def test_media_that_were_checked_are_not_read_again(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = conversation("<audio>", audio="short.wav")
    first = faults(media, [item], media / "memory")
    monkeypatch.setattr("vita_duplex.train.check.read_recording", lambda _: pytest.fail("read again"))
    assert faults(media, [item], media / "memory") == first


def test_both_formats_say_the_same(media: Path) -> None:
    fields = conversation("<image>\n<audio>", set="s", image="good.png", audio="good.wav", inserted_id=1, end_tag=False)
    sample = Item("a", fields).sample(media / "data.json", Folders(sets={"s": media}, audio=media))
    messages = to_messages(sample, media)
    assert messages["images"] == ["good.png"]
    again = Item("a", messages).sample(media / "data.jsonl", Folders())
    assert again == sample
    assert Item("a", to_vita(again)).sample(media / "data.json", Folders()) == sample


def test_what_the_other_format_cannot_say_is_told() -> None:
    turn = Turn((Medium("audio", Path("a.wav")),), "no.", "noise")
    with pytest.raises(SampleError, match="one <2>"):
        to_vita(Sample((turn, turn), "a"))


def command(*arguments: object) -> int:
    return data(_parser().parse_args(["data", *map(str, arguments)]))


def test_the_commands_from_faulty_data_to_packed_data(media: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [conversation(f"<audio>\nnumber {n}", audio="good.wav", inserted_id=1 if n % 2 else None) for n in range(6)]
    (media / "data.json").write_text(json.dumps([*good, FAULTS["audio short"][0]]))
    (media / "folders.yaml").write_text(f"audio: {media}\nsets: {{s: {media}}}\n")
    named = ("--folders", media / "folders.yaml")
    assert command("check", media / "data.json", *named) == 1
    assert "1 faults" in capsys.readouterr().out
    assert command("drop", media / "data.json", media / "dropped.jsonl", *named) == 0
    assert command("check", media / "dropped.jsonl") == 0
    picture = media / "stats.png"
    assert command("stats", media / "dropped.jsonl", "--model", TINY, "-o", picture) == 0
    told = capsys.readouterr().out
    assert "items        6 (0 cannot be used)" in told
    assert "query 3, noise 3" in told
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert command("pack", media / "dropped.jsonl", media / "packed.jsonl", "--model", TINY, "--tokens", 900) == 0
    packed = list(read_items(media / "packed.jsonl"))
    assert 1 < len(packed) < 6
    assert sum(len(item.fields["messages"]) for item in packed) == 12
    assert command("convert", media / "dropped.jsonl", media / "back.json") == 0
    assert command("check", media / "back.json") == 0


def test_a_command_that_cannot_go_on_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="has no recordings"):
        command("mix", tmp_path / "out", "--queries", tmp_path)
    with pytest.raises(TrainError, match="No such file"):
        command("convert", tmp_path / "no.json", tmp_path / "x.jsonl")


def encoder(max_length: int = 4000) -> Encoder:
    config = of_folder(TINY)
    assert config is not None
    return Encoder(config, load_tokenizer(TINY), LabelSettings(), 1, max_length)


def test_an_item_that_breaks_in_mid_epoch_is_noted_and_the_next_one_takes_its_place(media: Path) -> None:
    clips = ("good", "broken", "good")
    turns = [Turn((Medium("audio", media / "audio" / f"{name}.wav"),), "yes.", "query") for name in clips]
    samples = [Sample((turn,), f"item {number}") for number, turn in enumerate(turns)]
    rows = Rows(samples, encoder(), media / "skipped.jsonl")
    assert rows[1].ids == rows[2].ids
    [line] = (media / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["item"] == "item 1"
    with pytest.raises(SampleError, match="none of the items"):
        Rows(samples, encoder(max_length=64), media / "skipped.jsonl")[0]


def test_an_answer_behind_noise_is_masked_and_the_state_token_weighs_more(media: Path) -> None:
    clip = Medium("audio", media / "audio" / "good.wav")
    row = encoder().encode(Sample((Turn((clip,), "a long answer", "noise"),), "item"))
    trained = [(one, weight) for one, weight in zip(row.labels, row.weights, strict=True) if one != IGNORED]
    assert trained == [(4, 4.0)]  # <2> alone
    batch = collate([row, row])
    assert batch["states"].sum() == 2
    assert batch["labels"][batch["states"]].tolist() == [4, 4]


def test_packing_keeps_each_turn_and_its_order(media: Path) -> None:
    clip = Medium("audio", media / "audio" / "good.wav")
    samples = [Sample((Turn((clip,), f"answer {n}", "query"),), f"item {n}") for n in range(5)]
    packed = list(pack(samples, encoder(), 10**6))
    assert [turn.answer for one in packed for turn in one.turns] == [f"answer {n}" for n in range(5)]
    assert len(packed) == 1


@pytest.fixture
def mixed(tmp_path: Path) -> Callable[[str, int], Path]:
    (tmp_path / "q").mkdir()
    (tmp_path / "o").mkdir()
    for name, kind in (("goforward", "q"), ("something", "q"), ("jfk-ask", "o"), ("sense-0870", "o")):
        (tmp_path / kind / f"{name}.flac").write_bytes((DATA / f"{name}.flac").read_bytes())

    def make(name: str, seed: int) -> Path:
        folders = ("--queries", tmp_path / "q", "--others", tmp_path / "o", "--noise", tmp_path / "o")
        more = ("--assistant", tmp_path / "o", "--count", 24, "--seed", seed)
        assert command("mix", tmp_path / name, *folders, *more) == 0
        return tmp_path / name

    return make


def test_equal_seeds_mix_equal_clips_and_others_do_not(mixed: Callable[[str, int], Path]) -> None:
    first, again, other = mixed("a", 1), mixed("b", 1), mixed("c", 2)
    names = [one.name for one in sorted(first.glob("*.wav"))]
    assert len(names) == 24
    assert all((first / one).read_bytes() == (again / one).read_bytes() for one in names)
    assert any((first / one).read_bytes() != (other / one).read_bytes() for one in names)


def test_mixed_clips_are_of_both_labels_and_usable_lengths_and_levels(mixed: Callable[[str, int], Path]) -> None:
    folder = mixed("a", 3)
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    states = [item["messages"][1]["state"] for item in items]
    assert states.count("query") == states.count("noise") == 12
    assert {item["kind"] for item in items} == {"query", "other talk", "background", "noise", "own voice"}
    assert all(item["situation"] == "speaking" for item in items if item["kind"] == "own voice")
    lengths = set()
    for item in items:
        recording = read_recording(folder / item["audios"][0])
        assert 0.5 <= recording.duration_s <= 17
        assert np.abs(recording.samples).max() > 300
        lengths.add(len(recording.samples))
    assert len(lengths) > 12  # cut at random times
