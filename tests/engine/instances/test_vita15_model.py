"""VITA-1.5 through vLLM against the original: logits and tokens of ten recorded prompts."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.support.paths import GOLDEN15 as GOLDEN
from tests.support.tiny_vita import MEDIA, TOLERANCE, Watch, check_everywhere, engine, greedy, logits

pytestmark = [pytest.mark.real, pytest.mark.vllm]

RECORDED = load_file(GOLDEN / "full_model.safetensors")
CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((GOLDEN / "full_model.json").read_text())["cases"]
}
ROWS = 544
ENCODERS = 1e-4


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
    """With the logits of the whole prompt."""
    tiles = {"max_dynamic_patch": case["max_dynamic_patch"]}
    request = prompt | ({"multi_modal_data": media, "mm_processor_kwargs": tiles} if media else {})
    sampling = greedy(len(case["greedy_ids"]), all_logits=True, vocabulary=ROWS)
    [output] = llm.generate(request, sampling, use_tqdm=False)
    return output


def given_ids(llm: Any, name: str) -> list[int]:
    """A prompt's ids with this model's placeholders; the original's own are ordinary words."""
    config = llm.llm_engine.model_config.hf_config
    ids: list[int] = RECORDED[f"{name}.prompt_ids"].tolist()
    for place, kind in CASES[name]["placeholder_positions"]:
        ids[place] = config.image_token_index if kind == "image" else config.audio_token_index
    return ids


@pytest.mark.smoke
@pytest.mark.parametrize("name", CASES)
def test_logits_and_tokens_are_the_recorded_ones(llm: Any, name: str) -> None:
    case = CASES[name]
    output = answered(llm, case, {"prompt_token_ids": given_ids(llm, name)}, media(name))
    found = logits(output, len(output.prompt_token_ids), ROWS)
    error = float((found[-16:] - RECORDED[f"{name}.logits_last16"]).abs().max())
    assert error <= TOLERANCE
    check_everywhere(found, RECORDED[f"{name}.argmax_all"], RECORDED[f"{name}.logprobs_last"], error)
    states = [found[-1].log_softmax(0)[one].item() for one in (315, 291, 267)]
    assert states == pytest.approx(list(case["state_token_logprobs"].values()), abs=TOLERANCE)
    assert min(case["greedy_margins"]) > 10 * error
    assert list(output.outputs[0].token_ids) == case["greedy_ids"]

    as_text = answered(llm, case, {"prompt": case["prompt"]}, media(name))
    assert as_text.prompt_token_ids == output.prompt_token_ids
    assert list(as_text.outputs[0].token_ids) == case["greedy_ids"]


@pytest.mark.parametrize("name", CASES)
def test_what_the_language_model_gets_and_makes_of_it_is_recorded(llm: Any, name: str) -> None:
    config = llm.llm_engine.model_config.hf_config
    with Watch(llm) as seen:
        output = answered(llm, CASES[name], {"prompt_token_ids": given_ids(llm, name)}, media(name))
    embeds, ids = seen.embeds[0], torch.tensor(output.prompt_token_ids)
    is_medium = torch.zeros(len(ids), dtype=torch.bool)
    for modality, placeholder in (("image", config.image_token_index), ("audio", config.audio_token_index)):
        inserted = embeds[ids == placeholder]
        is_medium |= ids == placeholder
        recorded = RECORDED.get(f"{name}.{modality}_embeds", embeds[:0]).flatten(0, -2)
        assert inserted.shape == recorded.shape
        torch.testing.assert_close(inserted, recorded, rtol=0, atol=ENCODERS)
    assert torch.equal(ids[~is_medium], RECORDED[f"{name}.expanded_ids"][~is_medium])
    if name == "history_two_audios":
        torch.testing.assert_close(embeds, RECORDED[f"{name}.inputs_embeds"], rtol=0, atol=ENCODERS)
    if name in ("audio", "video_audio"):
        for place, states in enumerate([embeds, *seen.hidden[:2]]):
            recorded = RECORDED[f"{name}.hidden{place}_last8"]
            torch.testing.assert_close(states[-8:], recorded, rtol=0, atol=TOLERANCE)


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
