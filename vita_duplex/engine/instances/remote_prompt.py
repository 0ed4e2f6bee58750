"""Prompts as parts of a chat message for a vLLM server that has our plugin, and the state tokens it knows."""

import base64
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast

from PIL import Image as Pillow

from vita_duplex.engine.instances.vita import Names, audible
from vita_duplex.engine.instances.vita_chat import wav_in_base64
from vita_duplex.engine.instances.vita_dialogue import Manner, as_shown
from vita_duplex.engine.messages import Pixels, Utterance
from vita_duplex.models.prompts import Audio, Image, Prompt, Wording
from vita_duplex.models.tokens import StateTokens, state_tokens

Part = dict[str, Any]
"""One part of a chat message's content."""


def content(prompt: Prompt, begun: str, names: Names, known: Collection[str]) -> list[Part]:
    """A prompt and the beginning of its answer as the parts of one message; media in `known` are only named.

    Sound goes as 32-bit samples and pictures without loss, so that the model gets the very numbers it would get
    in our own process: 85 kB for a second of sound.
    """
    parts: list[Part] = []
    for piece in prompt.pieces:
        match piece:
            case Audio(sound):
                samples = cast(Utterance, sound).samples
                assert samples is not None
                name = names.of(samples)
                data = None if name in known else {"data": wav_in_base64(audible(samples)), "format": "wav"}
                parts.append({"type": "input_audio", "input_audio": data, "uuid": name})
            case Image(picture):
                frame = cast(Pixels, picture)
                name = names.of(frame)
                shown = as_shown(frame, Manner(prompt.wording))
                url = None if name in known else {"url": f"data:image/bmp;base64,{bmp(shown)}"}
                parts.append({"type": "image_url", "image_url": url, "uuid": name})
            case _:
                parts.append({"type": "text", "text": piece})
    return [*parts, {"type": "text", "text": begun}] if begun else parts


def is_only_named(part: Part) -> bool:
    return "uuid" in part and part[part["type"]] is None


def bmp(frame: Pixels) -> str:
    """In base64. Not packed: PNG saves a third, and costs 40 ms of a core for 640x480 instead of half of one."""
    file = io.BytesIO()
    Pillow.fromarray(frame).save(file, "BMP")
    return base64.b64encode(file.getvalue()).decode()


def shared_beginning(words: Wording) -> str:
    """What the state tokens have in common as text: nothing but where each is several tokens."""
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*words.states.values(), strict=False))
    return "".join(first for first, *_ in columns)


def beginnings(words: Wording) -> list[str]:
    """The texts whose tokens tell the state tokens from what stands before them."""
    before = words.turn_end + words.bot_prefix
    return [before, before + shared_beginning(words), *(before + state for state in words.states.values())]


def states_of(ids: Mapping[str, list[int]], words: Wording) -> StateTokens:
    """The state tokens by the token ids of the `beginnings`.

    Errors: `ValueError` where they cannot be used.
    """
    states = state_tokens(Looked(ids), words)
    before, begun, *_ = (ids[text] for text in beginnings(words))
    if states.shared and begun != [*before, *states.shared]:
        raise ValueError("what the state tokens begin with has other tokens when it stands alone")
    return states


@dataclass(frozen=True, slots=True)
class Looked:
    """A tokenizer that has been asked before."""

    ids: Mapping[str, list[int]]
    bos_token_id: int | None = None

    def encode(self, text: str) -> list[int]:
        return self.ids[text]
