"""A language model on another server, behind OpenAI's `POST /v1/chat/completions`: vLLM, llama.cpp, Ollama, a cloud.

Source: OpenAI API reference, "Create chat completion"; `max_model_len` in `/models` is vLLM's.
"""

import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import httpx2
from pydantic import Field, SecretStr

from vita_duplex.engine.instances.remote_http import complaint
from vita_duplex.engine.instances.streamed_calls import StreamedCalls, offer
from vita_duplex.engine.instances.template import as_json, merge_roles
from vita_duplex.engine.instances.text_model import NO_TOOLS, PART, Dialogue, is_system
from vita_duplex.engine.instances.thoughts import Thoughts
from vita_duplex.engine.messages import Call, Finished, LeftOut, Sampling, Tools, Usage
from vita_duplex.engine.ports import PartFailed, Unanswerable
from vita_duplex.engine.section import Section
from vita_duplex.engine.truncation import RETAINED

CONNECT_LIMIT_S = 5.0
SILENCE_LIMIT_S = 60.0
"""A server that sends nothing for this long hangs; a local one may load its model with the first request."""
TOO_LONG = re.compile(r"context|too (long|many tokens)|exceed|maximum.*(length|tokens)", re.IGNORECASE)
"""What servers say of a dialogue that they cannot hold."""


class OpenAiTextConfig(Section):
    """Which server's model answers."""

    url: str = Field("http://127.0.0.1:11434/v1", pattern=r"^https?://[^/]+")
    """Address of the API, with `/v1`. The default is Ollama's on this machine."""
    model: str | None = None
    """Name of the model there. None takes the first that the server lists."""
    api_key: SecretStr | None = None
    """API key. Better in the environment than in a file."""
    temperature: float | None = Field(None, ge=0)
    """Sampling temperature. None is the server's own."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Share of the probability that tokens are sampled from. None is the server's own."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest answer, in tokens. None is the server's own."""


class OpenAiText:
    """As `TextModel`. Nothing is sent before the first question: the server may come up later."""

    calls = True  # as far as its server's model can, which it does not tell

    def __init__(self, config: OpenAiTextConfig) -> None:
        self._config = config
        key = config.api_key.get_secret_value() if config.api_key else ""
        self._http = httpx2.AsyncClient(
            base_url=config.url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(SILENCE_LIMIT_S, connect=CONNECT_LIMIT_S),
            limits=httpx2.Limits(max_connections=None),
        )
        self._model = config.model
        self._limit_name = "max_tokens"
        self.healthy = True
        """False from a broken connection until the server is found again."""

    def restart(self) -> None:
        """It is somebody else's to start, and noticed when it is back."""

    def close(self) -> None:
        self.healthy = False

    async def warm(self, messages: Dialogue, tools: Tools = NO_TOOLS) -> None:
        """Ask whether the server is there, where nothing else is asked: computing ahead would cost."""
        if not any(message[1] for message in messages if isinstance(message, tuple)):
            await self._look()

    async def reply(
        self,
        messages: Dialogue,
        begun: str = "",
        max_tokens: int | None = None,
        tools: Tools = NO_TOOLS,
        retained: float | None = RETAINED,
    ) -> AsyncGenerator[str | Call | Usage | LeftOut, None]:
        """As `TextModel.reply`; where the server says that the dialogue is too long, its older half is left out."""
        if begun:
            raise PartFailed(PART, "its server cannot go on with an answer that was begun elsewhere")
        instructions = [m for m in messages if is_system(m)]
        newest = dialogue = [m for m in messages if not is_system(m)]
        sampling = Sampling(max_tokens)
        while True:
            missing = len(dialogue) - len(newest)
            try:
                async with aclosing(self._chat([*instructions, *newest], sampling, tools)) as items:
                    async for item in items:
                        if missing:
                            yield LeftOut(missing)
                            missing = 0
                        yield item.usage if isinstance(item, Finished) else item
                return
            except Unanswerable as too_long:
                if len(newest) < 2 or retained is None or not TOO_LONG.search(str(too_long)):
                    raise PartFailed(PART, f"its server refuses: {too_long}") from too_long
                newest = newest[(len(newest) + 1) // 2 :]

    async def chat(
        self, messages: Dialogue, sampling: Sampling, tools: Tools = NO_TOOLS
    ) -> AsyncGenerator[str | Call | Finished, None]:
        async with aclosing(self._chat(messages, sampling, tools)) as items:
            async for item in items:
                if item != "":
                    yield item

    async def _chat(
        self, messages: Dialogue, sampling: Sampling, tools: Tools
    ) -> AsyncGenerator[str | Call | Finished, None]:
        """Errors: `Unanswerable` for what the server refuses, before anything is yielded."""
        response = await self._ask(messages, sampling, tools)
        thoughts, streamed, told, reason = Thoughts(), StreamedCalls(), Usage(0, 0), None
        async with aclosing(response):
            with self._failures():
                async for event in httpx2.EventSource(response):
                    if event.data == "[DONE]":
                        continue  # to the end, or the connection could not be used again
                    chunk: Any = json.loads(event.data)
                    if "error" in chunk:
                        raise PartFailed(PART, complaint(chunk))
                    told = _usage(chunk.get("usage")) or told
                    for choice in chunk.get("choices") or ():
                        reason = choice.get("finish_reason") or reason
                        delta = choice.get("delta") or {}
                        streamed.push(delta.get("tool_calls") or ())
                        yield thoughts.push(delta.get("content") or "")
        if reason is None:
            raise PartFailed(PART, "the answer broke off")
        yield thoughts.finish()
        cut = reason == "length"
        calls = list(streamed.finish(tools, cut=cut))
        for call in calls:
            yield call
        usage = Usage(told.input_tokens, told.output_tokens, cut, told.thought_tokens)
        yield Finished("length" if cut else "calls" if calls else "stop", usage)

    async def _ask(self, messages: Dialogue, sampling: Sampling, tools: Tools) -> httpx2.Response:
        model = self._model or await self._look()
        body: dict[str, Any] = {
            "model": model,
            "messages": as_json(merge_roles(messages), json.dumps),
            "stream": True,
            "stream_options": {"include_usage": True},
            **offer(tools),
        }
        own = self._config
        wished = {
            "temperature": own.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": sampling.top_p or own.top_p,
            "seed": sampling.seed,
            "stop": list(sampling.stop) or None,
            "response_format": None if sampling.schema is None else _format(sampling.schema),
        }
        body |= {name: value for name, value in wished.items() if value is not None}
        if most := sampling.max_tokens or own.max_tokens:
            body[self._limit_name] = most
        with self._failures():
            request = self._http.build_request("POST", "chat/completions", json=body)
            response = await self._http.send(request, stream=True)
            if response.is_success:
                self.healthy = True
                return response
            await response.aread()
        refusal = complaint(response.text)
        if "max_completion_tokens" in refusal and self._limit_name == "max_tokens":  # OpenAI's own newer models
            self._limit_name = "max_completion_tokens"
            return await self._ask(messages, sampling, tools)
        if response.status_code in (400, 413, 422):
            raise Unanswerable(refusal)
        raise PartFailed(PART, f"{response.status_code}, {refusal}")

    async def _look(self) -> str:
        """The model that is asked: the one of the settings, or the first that the server lists."""
        with self._failures():
            response = await self._http.get("models")
            if not response.is_success:
                raise PartFailed(PART, f"{response.status_code}, {complaint(response.text)}")
            listed = [str(one["id"]) for one in response.json()["data"]]
        self.healthy = True
        if self._config.model is None and not listed:
            raise PartFailed(PART, "its server has no model; name one with engine.openai.model")
        self._model = self._config.model or listed[0]
        return self._model

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Tell what goes wrong with the network or the form of an answer as a failure of this part."""
        try:
            yield
        except httpx2.HTTPError as exc:
            self.healthy = False
            raise PartFailed(PART, f"its server cannot be reached ({type(exc).__name__})") from exc
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise PartFailed(PART, f"its server does not answer as OpenAI's API does ({type(exc).__name__})") from exc


def _format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's `response_format`; its `name` has to be there, and means nothing."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}


def _usage(told: Any) -> Usage | None:
    if not told:
        return None
    details = told.get("completion_tokens_details") or {}
    thought = int(details.get("reasoning_tokens") or 0)
    return Usage(told["prompt_tokens"], told["completion_tokens"], thought_tokens=thought)
