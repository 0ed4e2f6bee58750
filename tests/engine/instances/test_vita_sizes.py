"""Checkpoints of sizes for which nothing is recorded, drawn by a seed: vLLM against VITA written down plainly.

Widths, heads, layers, experts, tiles and vocabulary rows; clips of odd lengths and pictures of odd shapes, several
prompts in one batch.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from tests.support.plain_vita import PlainVita
from tests.support.seed import SEED
from tests.support.tiny_vita import CASES, CHECKPOINT, GOLDEN, TOLERANCE, engine, greedy, logits, weights
from vita_duplex.models.audio_features import AudioFeatures
from vita_duplex.models.checkpoint import expected_shapes
from vita_duplex.models.configuration import of_folder
from vita_duplex.models.tiling import Tiling

pytestmark = [pytest.mark.real, pytest.mark.vllm]

ENCODERS = 1e-4
ORIGINALS = {"1.0": CHECKPOINT, "1.5": GOLDEN.parent / "golden15" / "tiny_vita15"}
WORDS = 480
"""Ids from 6 up to here are ordinary in both vocabularies."""


def drawn(settings: dict[str, Any], draw: np.random.Generator) -> dict[str, Any]:
    """Other sizes."""

    def one_of(*values: int) -> int:
        return int(draw.choice(values))

    heads, width = one_of(2, 4, 6), one_of(32, 64)
    text = settings["text_config"] | {
        "hidden_size": heads * width,
        "num_attention_heads": heads,
        "num_key_value_heads": one_of(1, 2),
        "num_hidden_layers": one_of(1, 3),
        "intermediate_size": one_of(64, 128),
    }
    if "num_local_experts" in text:
        text |= {"num_local_experts": one_of(3, 5, 8), "num_experts_per_tok": one_of(2, 3)}
    else:
        text |= {"vocab_size": one_of(544, 576, 640)}
    seeing, hearing = one_of(2, 3), one_of(2, 3, 5)
    vision = settings["vision_config"] | {
        "image_size": 14 * one_of(2, 6, 8),
        "hidden_size": seeing * one_of(16, 32),
        "num_attention_heads": seeing,
        "num_hidden_layers": one_of(1, 3),
        "intermediate_size": one_of(40, 72),
    }
    audio = settings["audio_config"] | {
        "hidden_size": hearing * one_of(48, 64),
        "num_attention_heads": hearing,
        "num_hidden_layers": one_of(1, 3),
        "intermediate_size": one_of(40, 72),
    }
    return settings | {"text_config": text, "vision_config": vision, "audio_config": audio}


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Of a size that keeps what goes through the model of its size."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        one = torch.randn(shape, generator=random)
        if name.endswith("embed_tokens.weight"):
            tensors[name] = one
        elif len(shape) > 1 and not name.endswith(("pos_bias_u", "pos_bias_v", "embedding")):
            tensors[name] = one * 1.5 / one[0].numel() ** 0.5
        elif name.endswith("bias"):
            tensors[name] = one * 0.2
        else:
            tensors[name] = 1 + 0.2 * one
    return tensors


def asked(draw: np.random.Generator, image: int, audio: int) -> dict[str, Any]:
    """A prompt of words, pictures and sounds in any order."""
    pictures = [
        Image.fromarray(draw.integers(0, 256, (*draw.integers(9, 300, 2), 3), dtype=np.uint8))
        for _ in range(draw.integers(0, 3))
    ]
    clips = [draw.normal(0, 0.1, draw.integers(1360, 40_000)).astype(np.float32) for _ in range(draw.integers(0, 3))]
    ids = draw.integers(6, WORDS, draw.integers(5, 60)).tolist()
    for placeholder in [image] * len(pictures) + [audio] * len(clips):
        ids.insert(int(draw.integers(1, len(ids))), placeholder)
    media = {"image": pictures, "audio": clips}
    return {
        "prompt_token_ids": ids,
        "multi_modal_data": {modality: items for modality, items in media.items() if items},
        "mm_processor_kwargs": {"max_dynamic_patch": int(draw.choice([1, 2, 5, 9]))},
    }


def embedded(request: dict[str, Any], plain: PlainVita, config: Any) -> tuple[list[int], dict[int, list[Tensor]]]:
    """The prompt at its full length, and the embeddings of its media by placeholder."""
    vision = config.vision_config
    tiling = Tiling(request["mm_processor_kwargs"]["max_dynamic_patch"], 1, vision.image_size, vision.patch_size)
    media = request["multi_modal_data"]
    with torch.inference_mode():
        found = {
            config.image_token_index: [
                plain.seen(torch.from_numpy(tiling.pixels(one))) for one in media.get("image", ())
            ],
            config.audio_token_index: [
                plain.heard(torch.from_numpy(AudioFeatures().extract(one))) for one in media.get("audio", ())
            ],
        }
    left = {placeholder: list(items) for placeholder, items in found.items()}
    given = request["prompt_token_ids"]
    ids = [one for id in given for one in ([id] * len(left[id].pop(0)) if id in left else [id])]
    return ids, {placeholder: items for placeholder, items in found.items() if items}


@pytest.mark.parametrize("version", ORIGINALS)
def test_any_sizes_give_what_is_written_down_plainly(tmp_path: Path, version: str) -> None:
    draw = np.random.default_rng([SEED, *version.encode()])
    original, folder = ORIGINALS[version], tmp_path / "drawn"
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("model*"))
    settings = drawn(json.loads((original / "config.json").read_text()), draw)
    (folder / "config.json").write_text(json.dumps(settings))
    config = of_folder(folder)
    assert config is not None
    tensors = random_tensors(expected_shapes(config), SEED)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    plain = PlainVita(settings, tensors)
    vocabulary = settings["text_config"]["vocab_size"]

    requests = [asked(draw, config.image_token_index, config.audio_token_index) for _ in range(6)]
    with engine(folder, max_logprobs=vocabulary, max_num_batched_tokens=1024) as llm:
        outputs = llm.generate(requests, greedy(1, all_logits=True, vocabulary=vocabulary), use_tqdm=False)
    for request, output in zip(requests, outputs, strict=True):
        ids, media = embedded(request, plain, config)
        assert output.prompt_token_ids == ids
        found = logits(output, len(ids), vocabulary)
        expected = plain.logits(ids, media, len(ids))
        error = float((found - expected).abs().max())
        print(f"{version}: {len(ids)} tokens, {error:.1e} of {float(expected.abs().max()):.1f}")
        assert error <= TOLERANCE
        assert output.outputs[0].token_ids[0] == int(expected[-1].argmax())


@pytest.mark.parametrize("name", ["image_tiled", "image_audio"])
def test_what_is_written_down_plainly_is_the_original(name: str) -> None:
    """So that it may stand for it."""
    case = CASES[name]
    plain = PlainVita(json.loads((CHECKPOINT / "config.json").read_text()), weights())
    config = of_folder(CHECKPOINT)
    ids, media = embedded(case.request(), plain, config)
    assert ids == case.ids("expanded_ids")
    for modality, placeholder in (("image", 500), ("audio", 501)):
        if placeholder in media:
            recorded = case.tensor(f"{modality}_embeds").flatten(0, -2)
            torch.testing.assert_close(torch.cat(media[placeholder]), recorded, rtol=0, atol=ENCODERS)
    recorded = case.tensor("logits_last16")
    torch.testing.assert_close(plain.logits(ids, media, 16), recorded, rtol=0, atol=TOLERANCE)
