"""VITA-1.5 through vLLM against the original: logits and tokens of ten recorded prompts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_vita import TOLERANCE, engine

pytestmark = pytest.mark.real

GOLDEN = Path(__file__).parent / "golden15"
RECORDED = load_file(GOLDEN / "full_model.safetensors")
CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((GOLDEN / "full_model.json").read_text())["cases"]
}
ROWS = 544
FRAMES = ("frame0", "frame1", "frame2", "frame3")
MEDIA: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "text": ((), ()),
    "image": (("single",), ()),
    "image_tiled": (("multi",), ()),
    "audio": ((), ("wave_mid",)),
    "image_audio": (("single",), ("wave_mid",)),
    "video_audio": (FRAMES, ("wave_long",)),
    "history_two_audios": (FRAMES, ("wave_short", "wave_mid")),
    "history_two_audios_demo": (FRAMES, ("wave_short", "wave_mid")),
    "audio_history": ((), ("wave_long", "wave_short")),
    "two_turn_text_audio": ((), ("wave_short",)),
}
"""Pictures and clips of each case, in the order of its prompt."""


@pytest.fixture(scope="module")
def llm() -> Iterator[Any]:
    with engine(GOLDEN / "tiny_vita15", max_logprobs=ROWS) as llm:
        yield llm


def media(name: str) -> dict[str, list[Any]]:
    shown, heard = MEDIA[name]
    found = {
        "image": [Image.fromarray(RECORDED[f"src.{one}"].numpy()) for one in shown],
        "audio": [RECORDED[f"src.{one}"].numpy() for one in heard],
    }
    return {modality: items for modality, items in found.items() if items}


def answered(llm: Any, case: dict[str, Any], prompt: dict[str, Any], media: dict[str, list[Any]]) -> Any:
    from vllm import SamplingParams

    tiles = {"max_dynamic_patch": case["max_dynamic_patch"]}
    request = prompt | ({"multi_modal_data": media, "mm_processor_kwargs": tiles} if media else {})
    sampling = SamplingParams(max_tokens=len(case["greedy_ids"]), temperature=0, logprobs=ROWS)
    [output] = llm.generate(request, sampling, use_tqdm=False)
    return output


@pytest.mark.parametrize("name", CASES)
def test_logits_and_tokens_are_the_recorded_ones(llm: Any, name: str) -> None:
    case, config = CASES[name], llm.llm_engine.model_config.hf_config
    ids = RECORDED[f"{name}.prompt_ids"].tolist()
    for place, kind in case["placeholder_positions"]:  # the original's own are ordinary words
        ids[place] = config.image_token_index if kind == "image" else config.audio_token_index
    output = answered(llm, case, {"prompt_token_ids": ids}, media(name))
    assert len(output.prompt_token_ids) == len(RECORDED[f"{name}.expanded_ids"])
    found = torch.tensor([output.outputs[0].logprobs[0][one].logprob for one in range(ROWS)])
    error = float((found - RECORDED[f"{name}.logits_last16"][-1]).abs().max())
    assert error <= TOLERANCE
    states = [found.log_softmax(0)[one].item() for one in (315, 291, 267)]
    assert states == pytest.approx(list(case["state_token_logprobs"].values()), abs=TOLERANCE)
    assert min(case["greedy_margins"]) > 10 * error
    assert list(output.outputs[0].token_ids) == case["greedy_ids"]

    as_text = answered(llm, case, {"prompt": case["prompt"]}, media(name))
    assert as_text.prompt_token_ids == output.prompt_token_ids
    assert list(as_text.outputs[0].token_ids) == case["greedy_ids"]


def test_the_words_that_were_placeholders_stand_beside_an_image_and_a_clip(llm: Any) -> None:
    typed = CASES["image_audio"] | {"greedy_ids": [0]}
    words = "<|im_start|>user\n<image>\nA sequential Idea<audio><|im_end|>\n<|im_start|>assistant\n"
    output = answered(llm, typed, {"prompt": words}, media("image_audio"))
    ids = output.prompt_token_ids
    assert (ids.count(459), ids.count(363)) == (1, 1)
    assert (ids.count(ROWS - 2), ids.count(ROWS - 1)) == (4, 12)


def test_a_chat_is_written_in_vitas_words_not_the_text_models(llm: Any) -> None:
    from vllm import SamplingParams

    case = CASES["image"]
    asked = case["prompt"].split("<image>\n")[1].split("<|im_end|>")[0]
    parts = [{"type": "image_pil", "image_pil": media("image")["image"][0]}, {"type": "text", "text": asked}]
    greedy = SamplingParams(max_tokens=12, temperature=0)
    [output] = llm.chat([{"role": "user", "content": parts}], greedy, use_tqdm=False)
    assert list(output.outputs[0].token_ids) == case["greedy_ids"]
