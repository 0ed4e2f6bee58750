"""VITA through vLLM against the original: ids, embeddings, logits and tokens of eight recorded prompts.

Whole and in pieces, from the caches and not, alone and among others.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.tiny_vita import CASES, TOLERANCE, Case, Watch, check, check_everywhere, engine, greedy, logits

pytestmark = [pytest.mark.real, pytest.mark.vllm]

cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

ENCODERS = 1e-4


@pytest.fixture(scope="module")
def llm() -> Iterator[Any]:
    with engine() as llm:
        yield llm


@pytest.fixture(scope="module")
def chunked() -> Iterator[Any]:
    with engine(max_num_batched_tokens=PIECE, max_num_seqs=8) as llm:
        yield llm


PIECE = 64
"""Tokens in one step; the prompts have 360 to 600, and some pieces end inside a picture or a clip."""


def forget(llm: Any) -> None:
    """Empty the caches of prefixes, of processed media and of their embeddings."""
    assert llm.reset_prefix_cache()
    llm.reset_mm_cache()
    llm.llm_engine.reset_encoder_cache()


@pytest.mark.smoke
@cases
def test_logits_and_tokens_are_the_recorded_ones(llm: Any, case: Case) -> None:
    [output] = llm.generate(case.request(), greedy(all_logits=True), use_tqdm=False)
    error = check(case, output, 16)
    found = logits(output, len(output.prompt_token_ids))
    check_everywhere(found, case.tensor("argmax_all"), case.tensor("logprobs_last"), error)
    print(f"{case.name}: {error:.1e}")


@cases
def test_what_the_language_model_gets_is_what_it_got(llm: Any, case: Case) -> None:
    forget(llm)
    with Watch(llm) as seen:
        [output] = llm.generate(case.request(), greedy(1), use_tqdm=False)
    embeds = seen.embeds[0]
    ids = torch.tensor(output.prompt_token_ids)
    assert len(embeds) == len(ids)
    for modality, placeholder in (("image", 500), ("audio", 501)):
        inserted = embeds[ids == placeholder]
        if modality not in case.media():
            assert len(inserted) == 0
            continue
        recorded = case.tensor(f"{modality}_embeds").flatten(0, -2)
        assert inserted.shape == recorded.shape
        assert float((inserted - recorded).abs().max()) <= ENCODERS
    if case.name == "history_two_audios":
        assert float((embeds - case.tensor("inputs_embeds")).abs().max()) <= ENCODERS
    if case.name in ("audio", "video_audio"):
        for place, states in enumerate([embeds, *seen.hidden[:2]]):
            assert float((states[-8:] - case.tensor(f"hidden{place}_last8")).abs().max()) <= TOLERANCE, place


@cases
def test_a_prompt_in_pieces_gives_the_same(chunked: Any, case: Case) -> None:
    forget(chunked)
    with Watch(chunked) as seen:
        [output] = chunked.generate(case.request(), greedy(all_logits=True), use_tqdm=False)
    check(case, output, 16)
    assert [len(step) for step in seen.embeds[:5]] == [PIECE] * 5


@cases
def test_a_prefix_from_the_cache_gives_the_same(llm: Any, case: Case) -> None:
    forget(llm)
    outputs = [llm.generate(case.request(), greedy(), use_tqdm=False)[0] for _ in range(2)]
    length = len(case.ids("expanded_ids"))
    assert [output.num_cached_tokens for output in outputs] == [0, (length - 1) // 32 * 32]
    for output in outputs:
        check(case, output)


@pytest.mark.parametrize("how", ["llm", "chunked"])
def test_all_at_once_among_clips_of_other_lengths_give_the_same(how: str, request: pytest.FixtureRequest) -> None:
    llm = request.getfixturevalue(how)
    forget(llm)
    noise = np.random.default_rng(0)
    others = [
        {
            "prompt_token_ids": [1, 300 + place, 501, 7],
            "multi_modal_data": {"audio": [noise.uniform(-0.5, 0.5, length).astype(np.float32)]},
        }
        for place, length in enumerate((1360, 40_000, 5_000, 100_000))
    ]
    mixed = [prompt for pair in zip(others, CASES.values(), strict=False) for prompt in (pair[0], pair[1].request())]
    mixed += [case.request() for case in list(CASES.values())[len(others) :]]
    with Watch(llm) as seen:
        outputs = llm.generate(mixed, greedy(all_logits=True), use_tqdm=False)
    by_prompt = {tuple(output.prompt_token_ids): output for output in outputs}
    for case in CASES.values():
        check(case, by_prompt[tuple(case.ids("expanded_ids"))], 16)
    if how == "llm":  # there is room for several prompts in a step
        assert any(len(set(frames)) > 1 for frames in seen.clips), "no clips of different lengths went together"


@pytest.mark.parametrize("steps", [1, 3])
def test_after_an_aborted_request_all_is_the_same(chunked: Any, steps: int) -> None:
    """Aborted while the prompt is read, the media of which are half encoded."""
    forget(chunked)
    aborted, *rest = [CASES[name] for name in ("history_two_audios", "video_audio", "image_tiled")]
    running = chunked.llm_engine
    name = running.add_request(f"aborted-{steps}", running.renderer.render_cmpl([aborted.request()])[0], greedy())
    for _ in range(steps):
        assert running.step() == []
    running.abort_request([name], internal=True)
    assert not running.has_unfinished_requests()
    for case in (aborted, *rest):
        [output] = chunked.generate(case.request(), greedy(), use_tqdm=False)
        check(case, output)


def test_an_abort_in_the_middle_of_an_answer_leaves_the_others_alone(llm: Any) -> None:
    forget(llm)
    running = llm.llm_engine
    prompts = running.renderer.render_cmpl([CASES[name].request() for name in ("audio", "image_audio", "text")])
    names = [running.add_request(str(place), prompt, greedy()) for place, prompt in enumerate(prompts)]
    done: list[Any] = []
    for step in range(100):
        done += [output for output in running.step() if output.finished]
        if step == 4:
            running.abort_request([names[1]], internal=True)
        if not running.has_unfinished_requests():
            break
    for output in done:
        check(CASES["audio" if 501 in output.prompt_token_ids else "text"], output)
    assert len(done) == 2
