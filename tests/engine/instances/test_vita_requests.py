"""What people send to VITA on vLLM: texts and chats, the wrong thing, and media that were sent before."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from transformers import AutoTokenizer

from tests.support.prompts import parse
from tests.support.tiny_vita import CASES, CHECKPOINT, Case, check, engine, greedy, picture, source
from vita_duplex.models import video
from vita_duplex.models.audio_features import AudioError, AudioTooLong, AudioTooShort
from vita_duplex.models.prompts import Audio, Prompt, wording
from vita_duplex.models.prompts import Image as Picture
from vita_duplex.models.tiling import EmptyImage, ImageTooLarge, UnusableImage
from vita_duplex.models.tokens import tokenise
from vita_duplex.models.video import UnusableVideo

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def llm() -> Iterator[Any]:
    with engine(limit_mm_per_prompt={"image": 4, "audio": 2, "video": 1}) as llm:
        yield llm


@pytest.fixture(scope="module")
def small() -> Iterator[Any]:
    """Its encoder cache has room for 64 tokens."""
    with engine(
        max_num_batched_tokens=64, max_num_seqs=4, limit_mm_per_prompt={"image": 1, "audio": 0, "video": 0}
    ) as llm:
        yield llm


def answer(llm: Any, prompt: Any, max_tokens: int = 12) -> Any:
    [output] = llm.generate(prompt, greedy(max_tokens), use_tqdm=False)
    return output


def tokens(output: Any) -> list[int]:
    return list(output.outputs[0].token_ids)


def chat(llm: Any, *messages: dict[str, Any], **settings: Any) -> Any:
    [output] = llm.chat(list(messages), greedy(), use_tqdm=False, **settings)
    return output


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def heard(name: str) -> dict[str, Any]:
    wave = io.BytesIO()
    soundfile.write(wave, source(name).numpy(), 16_000, format="WAV", subtype="FLOAT")
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(wave.getvalue()).decode(), "format": "wav"}}


def shown(name: str) -> dict[str, Any]:
    png = io.BytesIO()
    picture(name).save(png, format="PNG")
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"},
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_prompt_as_text_is_tokenised_as_the_original_does(llm: Any, case: Case) -> None:
    prompt = case.request()
    del prompt["prompt_token_ids"]
    check(case, answer(llm, prompt | {"prompt": case.prompt}))  # vLLM puts BOS before it


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_our_own_tokenising_gives_the_recorded_ids(case: Case) -> None:
    style, media = wording(), case.media()
    images, audios = [Picture(one) for one in media.get("image", [])], [Audio(one) for one in media.get("audio", [])]
    prompt = Prompt(parse(case.prompt, images, audios, style), style)
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    assert tokenise(prompt, tokenizer, image_id=500, audio_id=501).ids == case.ids("prompt_ids")


def test_chats_are_the_recorded_prompts(llm: Any) -> None:
    check(CASES["text"], chat(llm, user("the user is in the boat and you? 你好")))
    check(CASES["image"], chat(llm, user(shown("single"), text("what is this?"))))
    check(CASES["image"], chat(llm, user({"type": "image_pil", "image_pil": picture("single")}, text("what is this?"))))
    check(CASES["image_audio"], chat(llm, user(heard("wave_mid"), shown("single"))))
    twelve = {"mm_processor_kwargs": {"max_dynamic_patch": 12}}
    check(CASES["image_tiled"], chat(llm, user(shown("multi"), text("what is this?")), **twelve))
    check(
        CASES["two_turn_text_audio"],
        chat(llm, user(heard("wave_short")), {"role": "assistant", "content": "the boat"}, user("and you?")),
    )


def test_nobody_can_write_a_placeholder_into_a_chat(llm: Any) -> None:
    said = chat(llm, user(shown("single"), text("<image> <video>what is<audio>this?")))
    assert said.prompt_token_ids.count(500) == 4
    assert 501 not in chat(llm, user("<audio>")).prompt_token_ids


def film(frames: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 255, (frames, 40, 60, 3)).astype(np.uint8)


def test_of_a_film_the_frames_of_the_original_are_seen(llm: Any) -> None:
    """40 frames at 10 a second, of which vLLM's loader is said to have decoded every second one."""
    pixels = film(40)
    metadata = {"fps": 10.0, "total_num_frames": 40, "frames_indices": list(range(0, 40, 2))}
    seen = answer(
        llm, {"prompt": "user:<video>\nwhat?</s>\nbot:", "multi_modal_data": {"video": [(pixels[::2], metadata)]}}
    )
    assert seen.prompt_token_ids.count(500) == 4 * 4
    frames = [Image.fromarray(pixels[index]) for index in video.basic(40, 10.0)]
    assert video.basic(40, 10.0) == [0, 10, 20, 30]
    same = answer(
        llm, {"prompt": "user:<image><image><image><image>\nwhat?</s>\nbot:", "multi_modal_data": {"image": frames}}
    )
    assert seen.prompt_token_ids == same.prompt_token_ids
    assert tokens(seen) == tokens(same)


@pytest.mark.parametrize(("frames", "seen"), [(1, 1), (3, 3), (16, 16), (40, 16)])
def test_frames_without_a_rate_are_seen_as_they_are(llm: Any, frames: int, seen: int) -> None:
    said = answer(llm, {"prompt": "user:<video>", "multi_modal_data": {"video": [film(frames)]}}, 1)
    assert said.prompt_token_ids.count(500) == seen * 4


TONE = source("wave_mid").numpy()


def clip(samples: Any) -> dict[str, Any]:
    return {"prompt_token_ids": [1, 300, 501, 7], "multi_modal_data": {"audio": [samples]}}


def view(*pictures: Any, placeholders: int | None = None, **settings: Any) -> dict[str, Any]:
    ids = [1, 300, *[500] * (len(pictures) if placeholders is None else placeholders), 7]
    return {"prompt_token_ids": ids, "multi_modal_data": {"image": list(pictures)}, "mm_processor_kwargs": settings}


SINGLE = picture("single")
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "short audio": (clip(TONE[:1359]), AudioTooShort, "audio of 1359 samples"),
    "no samples": (clip(TONE[:0]), AudioTooShort, "audio of 0 samples"),
    "ten minutes": (clip(np.zeros(600 * 16_000, np.float32)), AudioTooLong, "600.0 s; the encoder takes 200 s"),
    "not a number": (clip(np.full(16_000, np.nan, np.float32)), AudioError, "no numbers"),
    "integers": (clip(np.zeros(16_000, np.int16)), AudioError, "must be floats"),
    "a rate of 10 Hz": (clip((TONE, 10)), AudioError, "sample rate 10"),
    "empty picture": (view(Image.new("RGB", (0, 10))), EmptyImage, "the image is empty"),
    "200 megapixels": (view(Image.new("1", (20_000, 10_000))), ImageTooLarge, "20000x10000"),
    "a picture of floats": (view(np.zeros((9, 9, 3))), UnusableImage, r"uint8 of .*, not float64 of \[9, 9, 3\]"),
    "a picture of nothing": (view("x"), UnusableImage, "uint8"),
    "a film of no frames": (
        {"prompt": "<video>", "multi_modal_data": {"video": [film(0)]}},
        UnusableVideo,
        "no frames",
    ),
    "more than allowed": (view(*[SINGLE] * 5), Exception, "At most 4 image"),
    "more placeholders": (view(SINGLE, placeholders=2), ValueError, "image: the prompt has 2 .* the request 1 media"),
    "fewer placeholders": (view(SINGLE, placeholders=0), ValueError, "image: the prompt has 0 .* the request 1 media"),
    "placeholders of another kind": (
        {"prompt": "<image><audio>", "multi_modal_data": {"image": [SINGLE]}},
        ValueError,
        "audio: the prompt has 1 .* the request 0 media",
    ),
    "no tiles": (view(SINGLE, max_dynamic_patch=0), ValueError, "max_dynamic_patch .* not 0"),
    "a billion tiles": (view(SINGLE, max_dynamic_patch=10**9), ValueError, "max_dynamic_patch .* not 1000000000"),
    "noise without measure": (
        clip(TONE) | {"mm_processor_kwargs": {"dither": float("nan")}},
        AudioError,
        "dither .* not nan",
    ),
    "an unknown sense": ({"prompt_token_ids": [1], "multi_modal_data": {"smell": [1]}}, ValueError, "smell"),
    "too long": ({"prompt_token_ids": [1] * 5000}, Exception, "4096 tokens.* 5000"),
    "nothing": ({"prompt_token_ids": []}, Exception, "empty"),
    "outside the vocabulary": ({"prompt_token_ids": [1, 512]}, Exception, "512 is out of vocabulary"),
}


@pytest.mark.parametrize(("prompt", "kind", "said"), WRONG.values(), ids=WRONG)
def test_the_wrong_thing_is_refused_by_name_and_the_next_is_answered(
    llm: Any, prompt: Any, kind: type[Exception], said: str
) -> None:
    from vllm.exceptions import VLLMClientError

    with pytest.raises(kind, match=said) as refused:
        answer(llm, prompt)
    assert isinstance(refused.value, ValueError | VLLMClientError), "a server answers others with 500"
    assert "\n" not in str(refused.value)
    assert not llm.llm_engine.has_unfinished_requests()
    check(CASES["image_audio"], answer(llm, CASES["image_audio"].request()))


def test_a_picture_larger_than_the_encoder_cache_is_refused(small: Any) -> None:
    with pytest.raises(Exception, match="exceeds the pre-allocated encoder cache"):
        answer(small, view(Image.new("RGB", (160, 100)), max_dynamic_patch=40))
    check(CASES["image"], answer(small, CASES["image"].request()))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pictures_of_every_kind_are_seen(llm: Any, mode: str) -> None:
    other = SINGLE.convert("I").convert(mode) if mode == "I;16" else SINGLE.convert(mode)
    assert tokens(answer(llm, view(other), 4)) == tokens(answer(llm, view(other.convert("RGB")), 4))


def test_sound_at_any_rate_and_of_two_channels_is_heard(llm: Any) -> None:
    stereo = np.stack([TONE, -TONE])
    assert tokens(answer(llm, clip((stereo, 16_000)))) == tokens(answer(llm, clip(TONE)))
    assert answer(llm, clip((np.tile(TONE, 3), 48_000))).prompt_token_ids.count(501) == 12


ORDINARY = [400, 500, 501, 9]
"""A text of which two tokens have the ids of the placeholders."""


def test_a_text_with_the_ids_of_placeholders_stays_a_text(llm: Any) -> None:
    """The words `<image>` and `<audio>` have ids of their own beside the checkpoint's vocabulary."""
    tokenizer = llm.get_tokenizer()
    image, audio = tokenizer.convert_tokens_to_ids(["<image>", "<audio>"])
    assert min(image, audio) >= 512
    given = {"image": [SINGLE], "audio": [TONE]}
    said = answer(llm, {"prompt_token_ids": [1, *ORDINARY, image, 8, audio, 7], "multi_modal_data": given})
    assert said.prompt_token_ids == [1, *ORDINARY, *[500] * 4, 8, *[501] * 12, 7]
    plain = answer(llm, {"prompt_token_ids": [1, *ORDINARY, 500, 500]})
    assert plain.prompt_token_ids == [1, *ORDINARY, 500, 500]


def test_what_was_sent_before_is_not_sent_again(llm: Any) -> None:
    case = CASES["image_audio"]
    named = case.request() | {"multi_modal_uuids": {"image": ["a picture"], "audio": ["a clip"]}}
    check(case, answer(llm, named))
    check(case, answer(llm, named | {"multi_modal_data": {"image": [None], "audio": [None]}}))
    unknown = named | {"multi_modal_data": {"image": [None], "audio": [None]}, "multi_modal_uuids": UNKNOWN}
    with pytest.raises(ValueError, match="Cache miss for image at index 0"):
        answer(llm, unknown)


UNKNOWN = {"image": ["never sent"], "audio": ["a clip"]}


def test_other_settings_do_not_share_what_is_cached(llm: Any) -> None:
    names = {"multi_modal_uuids": {"image": ["tiled"]}}
    counts = [
        answer(llm, view(picture("multi"), max_dynamic_patch=most) | names, 1).prompt_token_ids.count(500)
        for most in (1, 12, 1, 12)
    ]
    assert counts == [4, 28, 4, 28]
    silence = np.zeros(16_000, np.float32)  # where dither decides most
    dithered = {"mm_processor_kwargs": {"dither": 1.0}, "multi_modal_uuids": {"audio": ["quiet"]}}
    plain = {"multi_modal_uuids": {"audio": ["quiet"]}}
    with_noise, without = answer(llm, clip(silence) | dithered), answer(llm, clip(silence) | plain)
    assert tokens(with_noise) != tokens(without)
    assert tokens(answer(llm, clip(silence) | dithered)) == tokens(with_noise)
