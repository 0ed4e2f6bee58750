"""A chat with VITA over vLLM's chat completions API, in this process or on another node. Pure: no vLLM and no torch.

The prompt is that of training, by our chat template; the model writes its own state token wherever there is a medium.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.vita_dialogue import Unmarked, weighed
from vita_duplex.engine.instances.vllm_engine import sampling_fields
from vita_duplex.engine.messages import CallMessage, Chat, ChatAudio, ChatImage, ChatMessage, ChatVideo, Verdict
from vita_duplex.engine.wav import wav
from vita_duplex.models.prompts import State, Wording
from vita_duplex.models.tokens import StateTokens


def body(chat: Chat, states: StateTokens, max_tokens: int) -> dict[str, Any]:
    """Of a request. Without a wish of the client's the answer is greedy and of at most `max_tokens`."""
    sampling = chat.sampling
    return {
        "messages": [_message(message) for message in chat.messages],
        "max_completion_tokens": sampling.max_tokens or max_tokens,
        "temperature": 0,  # the original samples at one of 0.001, which is greedy but for ties
        "repetition_penalty": 1,
        "logprobs": True,
        "logprob_token_ids": list(states.deciding.values()),  # of the whole vocabulary
        **sampling_fields(sampling),
    }


def _message(message: ChatMessage | CallMessage) -> dict[str, Any]:
    if isinstance(message, CallMessage):  # the model knows no calls
        return {"role": "assistant", "content": [part(message.text)]}
    return {"role": message.role, "content": [part(one) for one in message.parts]}


def part(of_message: str | ChatAudio | ChatImage | ChatVideo) -> dict[str, Any]:
    match of_message:
        case ChatAudio(samples):
            return {"type": "input_audio", "input_audio": {"data": wav_in_base64(samples), "format": "wav"}}
        case ChatImage(url):
            return {"type": "image_url", "image_url": {"url": url}}
        case ChatVideo(url):
            return {"type": "video_url", "video_url": {"url": url}}
        case text:
            return {"type": "text", "text": text}


def wav_in_base64(samples: Samples) -> str:
    return base64.b64encode(wav(samples, "FLOAT")).decode()


class Reading:
    """What a streamed answer says: first the verdict, if there is one, then text without state tokens."""

    def __init__(self, chat: Chat, words: Wording, states: StateTokens) -> None:
        # In the training data an all-text sample has no state token.
        messages = [message for message in chat.messages if isinstance(message, ChatMessage)]
        has_media = any(not isinstance(part, str) for message in messages for part in message.parts)
        self._place = len(states.shared) if has_media else None
        self._rows = 0
        self._text = Unmarked(words)
        self._held = ""

    def push(self, delta: str, rows: Iterable[Mapping[State, float]]) -> list[Verdict | str]:
        """`rows`: natural log-probabilities of the state tokens where each token of `delta` was chosen."""
        told: list[Verdict | str] = []
        for row in rows:
            if self._rows == self._place:
                told.append(weighed(row))
            self._rows += 1
        self._held += self._text.push(delta)
        if self._held and (self._place is None or self._rows > self._place):
            told.append(self._held)
            self._held = ""
        return told

    def finish(self) -> str:
        """The rest."""
        return self._held + self._text.finish()
