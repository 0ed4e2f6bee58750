"""The audio tower against the original's numbers, alone and in batches; its names, sizes and precision."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.paths import GOLDEN

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from tests.support.tiny_vita import weights  # noqa: E402
from vita_duplex.models.audio_encoder import (  # noqa: E402
    CHECKPOINT_UNUSED,
    AudioTower,
    AudioTowerConfig,
    positions,
    tower_name,
)
from vita_duplex.models.audio_features import AudioFeatures, AudioTooShort, token_count  # noqa: E402

ITEMS = json.loads((GOLDEN / "audio_encoder.json").read_text())["items"]
PREFIX = "model.audio_encoder."
TINY = AudioTowerConfig(hidden=32, layers=2, heads=4, feed_forward=64, text_hidden=128)

Tensors = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def golden() -> Tensors:
    return load_file(GOLDEN / "audio_encoder.safetensors")


@pytest.fixture(scope="module")
def features() -> Tensors:
    return load_file(GOLDEN / "audio_features.safetensors")


@pytest.fixture(scope="module")
def tower() -> AudioTower:
    return load(AudioTower(TINY))


def load(tower: AudioTower) -> AudioTower:
    """With the tiny checkpoint's weights; strictly: every parameter filled, every tensor used."""
    named = {
        tower_name(name.removeprefix(PREFIX)): tensor for name, tensor in weights().items() if name.startswith(PREFIX)
    }
    assert named.pop(None).shape == (80,)
    tower.load_state_dict(named, strict=True)
    return tower.eval()


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).abs().max())


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"T{item['T']}")
def test_a_clip_gives_the_original_encoding_and_tokens(
    tower: AudioTower, golden: Tensors, item: dict[str, Any]
) -> None:
    frames = item["T"]
    clip = golden[f"T{frames}.input"]
    encoded, lengths = tower.encoder(clip[None], [frames])
    [tokens] = tower.encode([clip])
    assert (lengths, len(tokens), token_count(frames)) == ([item["T2"]], item["tokens"], item["tokens"])
    assert difference(encoded[0], golden[f"T{frames}.encoder"]) < 1e-4
    assert difference(tokens, golden[f"T{frames}.tokens"]) < 1e-4


def test_the_clips_are_cut_out_of_the_recorded_features(golden: Tensors, features: Tensors) -> None:
    for item in ITEMS:
        rows = features["features_cmvn"][item["offset"] : item["offset"] + item["T"]]
        assert difference(golden[f"T{item['T']}.input"], rows) < 1e-6


def test_every_step_of_a_clip_is_the_original_one(tower: AudioTower, golden: Tensors) -> None:
    seen: Tensors = {}
    first = tower.encoder.layers[0]
    watched = {
        "subsampling": tower.encoder.subsampling,
        "layer0_attn_out": first.self_attn,
        "layer0": first,
        "layer1": tower.encoder.layers[1],
        "after_norm": tower.encoder.after_norm,
        "conv1d": tower.connector.conv,
        "norm": tower.connector.norm,
    }
    hooks = [
        module.register_forward_hook(lambda _module, _input, output, name=name: seen.update({name: output[0]}))
        for name, module in watched.items()
    ]
    hooks.append(first.register_forward_pre_hook(lambda _module, given: seen.update(embedding_scaled=given[0][0])))
    tower.encode([golden["T98.input"]])
    for hook in hooks:
        hook.remove()
    seen["conv1d"] = seen["conv1d"].T
    seen["positions"] = positions(23, TINY.hidden)
    steps = {name.removeprefix("steps_T98."): step for name, step in golden.items() if name.startswith("steps_T98.")}
    assert set(seen) == set(steps)
    for name, step in steps.items():
        assert difference(seen[name], step) < 1e-4, name


def test_a_batch_is_the_original_one(tower: AudioTower, golden: Tensors, features: Tensors) -> None:
    lengths = golden["batch.lengths"].tolist()
    clips = [features["features_cmvn"][:length] for length in lengths]
    tokens, counts = tower(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), lengths)
    mask = torch.arange(tokens.shape[1]) < torch.tensor(counts)[:, None]
    assert counts == golden["batch.token_counts"].tolist()
    assert torch.equal(mask, golden["batch.mask"])
    assert difference(tokens[mask], golden["batch.tokens_padded"][mask]) < 1e-4


@pytest.mark.parametrize("frames", [[98, 48, 198, 31], [7, 298], [298, 7, 8], [100, 100], [64]], ids=str)
def test_a_batch_gives_what_its_clips_give_alone(tower: AudioTower, features: Tensors, frames: list[int]) -> None:
    clips = [features["features_cmvn"][-length:] for length in frames]
    for clip, together in zip(clips, tower.encode(clips), strict=True):
        assert len(together) == token_count(len(clip))
        assert difference(together, tower.encode([clip])[0]) < 1e-5


def test_what_lies_beyond_a_clip_has_no_effect(tower: AudioTower, features: Tensors) -> None:
    clip = features["features_cmvn"][:50]
    rubbish = torch.cat([clip, torch.full((40, 80), 1e3)])[None]
    tokens, [count] = tower(rubbish, [50])
    assert difference(tokens[0, :count], tower.encode([clip])[0]) < 1e-5


def test_waveform_to_tokens(tower: AudioTower, golden: Tensors, features: Tensors) -> None:
    ours = torch.from_numpy(AudioFeatures().extract(features["wave"].numpy()))
    tokens = tower.encode([ours, ours[:198]])
    assert difference(tokens[1], tower.encode([features["features_cmvn"][:198]])[0]) < 1e-4
    assert len(tokens[0]) == 37


@pytest.mark.parametrize(("kind", "limit"), [("bfloat16", 0.01), ("float16", 0.002), ("float64", 1e-6)])
def test_weights_of_any_type_give_about_the_same(golden: Tensors, kind: str, limit: float) -> None:
    """The mean error, of values whose mean size is 0.5. Features come as float32 in any case."""
    tower = load(AudioTower(TINY)).to(getattr(torch, kind))
    [tokens] = tower.encode([golden["T198.input"]])
    assert tokens.dtype == getattr(torch, kind)
    error = (tokens.double() - golden["T198.tokens"].double()).abs().mean()
    print(f"{kind}: mean error {error:.2e} of {golden['T198.tokens'].abs().mean():.2f}")
    assert error < limit


def test_the_sizes_of_the_release() -> None:
    with torch.device("meta"):
        tower = AudioTower(AudioTowerConfig())
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in tower.named_children()}
    assert count == {"encoder": 357_950_464, "connector": 5 * 1024 * 2048 + 3 * 2048 + 2048 * 4096 + 4096}
    shapes = {name: list(parameter.shape) for name, parameter in tower.named_parameters()}
    assert shapes[str(tower_name("encoder.enc.0.core.out.0.weight"))] == [1024, 1024 * 19]
    assert shapes[str(tower_name("encoder.enc.1.encoders.23.self_attn.pos_bias_u"))] == [16, 64]
    assert shapes[str(tower_name("encoder.enc.1.encoders.0.feed_forward.w_2.weight"))] == [1024, 4096]
    assert shapes[str(tower_name("adpter.conv1d2.weight"))] == [2048, 1024, 5]
    assert shapes[str(tower_name("adpter.project.weight"))] == [4096, 2048]


def test_a_tensor_without_a_place_is_named() -> None:
    assert {tower_name(name) for name in CHECKPOINT_UNUSED} == {None}
    with pytest.raises(KeyError, match="conv1d1"):
        tower_name("adpter.conv1d1.weight")


def test_sizes_come_from_the_checkpoint_and_others_are_refused() -> None:
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    assert AudioTowerConfig.of_settings({**settings, "qkv_bias": False}, 128) == TINY
    assert AudioTowerConfig.of_settings({}, 3584) == AudioTowerConfig(text_hidden=3584)
    for wrong, text_hidden, name in (
        ({"hidden_act": "gelu"}, 128, "hidden_act"),
        ({"normalize_before": False}, 128, "normalize_before"),
        ({"hidden_size": "32"}, 128, "hidden_size"),
        ({"num_attention_heads": 5}, 128, "heads"),
        ({}, 129, "narrow"),
    ):
        with pytest.raises(ValueError, match=name):
            AudioTowerConfig.of_settings({**settings, **wrong}, text_hidden)


def test_a_clip_too_short_for_a_token_is_refused(tower: AudioTower) -> None:
    with pytest.raises(AudioTooShort):
        tower.encode([torch.zeros(98, 80), torch.zeros(6, 80)])
    assert tower.encode([]) == []
