"""The model for training against the original's recorded logits, in batches as alone, and back to the same tensors."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.support.paths import GOLDEN, GOLDEN15
from tests.support.tiny_vita import MEDIA
from vita_duplex.models.audio_features import AudioFeatures
from vita_duplex.models.tiling import Tiling, mirror
from vita_duplex.train.folder import load_model, tensors
from vita_duplex.train.model import AUDIO, IMAGE, VitaForTraining
from vita_duplex.train.tensors import to_release

TINY = {"1.0": (GOLDEN, GOLDEN / "tiny_vita"), "1.5": (GOLDEN15, GOLDEN15 / "tiny_vita15")}
ALL = [
    (version, case["name"])
    for version, (folder, _) in TINY.items()
    for case in json.loads((folder / "full_model.json").read_text())["cases"]
]
LOGITS = 1e-4
FROM_SOUND = 3e-4
"""Of logits where our own features of a clip are at the start: these alone differ by up to 2e-3 from the recorded."""


@cache
def recorded(version: str) -> dict[str, Tensor]:
    return load_file(TINY[version][0] / "full_model.safetensors")


@cache
def case(version: str, name: str) -> dict[str, Any]:
    return next(
        one for one in json.loads((TINY[version][0] / "full_model.json").read_text())["cases"] if one["name"] == name
    )


@cache
def model(version: str) -> VitaForTraining:
    return load_model(TINY[version][1]).eval()


def expanded(prompt: list[int], about: dict[str, Any]) -> Tensor:
    """The prompt with the training's ids, as many as each medium has tokens."""
    kinds = {500: "image", 501: "audio"}
    places = dict(
        about.get("placeholder_positions") or [(at, kinds[one]) for at, one in enumerate(prompt) if one in kinds]
    )
    left = {kind: list(about[f"{kind}_tokens"]) for kind in ("image", "audio")}
    ids: list[int] = []
    for at, one in enumerate(prompt):
        kind = places.get(at)
        ids += [one] if kind is None else [IMAGE if kind == "image" else AUDIO] * left[kind].pop(0)
    assert not any(left.values())
    return torch.tensor(ids)


def given(version: str, name: str) -> dict[str, Any]:
    """A recorded prompt as a batch of one row."""
    source, about = recorded(version), case(version, name)
    ids = expanded(source[f"{name}.prompt_ids"].tolist(), about)
    shown, heard = MEDIA[name]
    tiling = Tiling(max_tiles=about["max_dynamic_patch"], tile=56, patch=14)
    pictures = [Image.fromarray(source[f"src.{one}"].numpy()) for one in shown]
    pictures = [mirror(one) if about.get("mirrored") else one for one in pictures]
    clips = [torch.from_numpy(AudioFeatures().extract(source[f"src.{one}"].numpy())) for one in heard]
    return {
        "input_ids": ids[None],
        "attention_mask": torch.ones_like(ids)[None],
        "pixel_values": torch.from_numpy(np.concatenate([tiling.pixels(one) for one in pictures])) if shown else None,
        "audio_features": torch.nn.utils.rnn.pad_sequence(clips, batch_first=True) if heard else None,
        "audio_frames": torch.tensor([len(one) for one in clips]) if heard else None,
    }


@pytest.mark.parametrize(("version", "name"), ALL)
def test_logits_are_the_recorded_ones(version: str, name: str) -> None:
    with torch.inference_mode():
        logits = model(version)(**given(version, name)).logits[0]
    assert len(logits) == case(version, name)["n_expanded"]
    wanted = recorded(version)[f"{name}.logits_last16"]
    allowed = FROM_SOUND if MEDIA[name][1] else LOGITS
    assert float((logits[-16:] - wanted).abs().max()) <= allowed
    first, second = logits.topk(2).values.T
    sure = first - second > 10 * allowed
    assert torch.equal(logits.argmax(-1)[sure], recorded(version)[f"{name}.argmax_all"][sure])


@pytest.mark.parametrize(("version", "name"), [one for one in ALL if MEDIA[one[1]][1]])
def test_with_the_recorded_sound_the_logits_are_exact(version: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embeds = recorded(version)[f"{name}.audio_embeds"]
    monkeypatch.setattr(model(version), "_hear", lambda *_: embeds)
    with torch.inference_mode():
        logits = model(version)(**given(version, name)).logits[0]
    assert float((logits[-16:] - recorded(version)[f"{name}.logits_last16"]).abs().max()) <= LOGITS


@pytest.mark.parametrize("version", TINY)
def test_a_row_of_a_padded_batch_has_the_logits_that_it_has_alone(version: str) -> None:
    names = [name for one, name in ALL if one == version]
    rows = [given(version, name) for name in names]
    longest = max(row["input_ids"].shape[1] for row in rows)
    clips = [
        clip[:frames]
        for row in rows
        if row["audio_frames"] is not None
        for clip, frames in zip(row["audio_features"], row["audio_frames"], strict=True)
    ]
    batch = {
        "input_ids": torch.cat(
            [torch.nn.functional.pad(row["input_ids"], (0, longest - row["input_ids"].shape[1])) for row in rows]
        ),
        "attention_mask": torch.cat(
            [torch.nn.functional.pad(row["attention_mask"], (0, longest - row["input_ids"].shape[1])) for row in rows]
        ),
        "pixel_values": torch.cat([row["pixel_values"] for row in rows if row["pixel_values"] is not None]),
        "audio_features": torch.nn.utils.rnn.pad_sequence(clips, batch_first=True),
        "audio_frames": torch.tensor([len(one) for one in clips]),
    }
    with torch.inference_mode():
        together = model(version)(**batch).logits
        for number, row in enumerate(rows):
            alone = model(version)(**row).logits[0]
            assert float((together[number, : len(alone)] - alone).abs().max()) <= LOGITS


@pytest.mark.parametrize("version", TINY)
def test_a_checkpoint_of_a_run_has_the_names_of_the_parameters(version: str, tmp_path: Path) -> None:
    model(version).save_pretrained(tmp_path)
    assert {name for name, _ in tensors(tmp_path)} == set(model(version).state_dict())


@pytest.mark.parametrize("version", TINY)
def test_every_tensor_of_the_release_goes_in_and_comes_out_again(version: str) -> None:
    folder = TINY[version][1]
    original = dict(tensors(folder))
    back = dict(to_release(load_model(folder).state_dict()))
    lost = {name for name in original if name not in back}
    assert lost == {name for name in original if "global_cmvn" in name}
    assert set(back) <= set(original)
    for name, tensor in back.items():
        assert torch.equal(tensor, original[name].float()), name
