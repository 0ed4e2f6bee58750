"""`POST /v1/chat/completions`: text, sound, pictures and films in, text out, in OpenAI's form."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from vita_duplex.engine.messages import Call, Finished, Usage, Verdict
from vita_duplex.engine.ports import PartFailed
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.errors import ClientError, error_body
from vita_duplex.server.http import sse
from vita_duplex.server.http.chat_requests import ChatRequest, check, read
from vita_duplex.server.http.lending import ask
from vita_duplex.server.http.places import Streamed, chain, model_for, place, unless_gone
from vita_duplex.server.realtime.items import Json
from vita_duplex.server.server import Server

PATH = "/v1/chat/completions"

REASONS = {"stop": "stop", "length": "length", "calls": "tool_calls"}
"""Why an answer ended, as OpenAI's API has it."""

Items = AsyncGenerator[Verdict | str | Call | Finished]


def router(server: Server, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter()

    @routes.post(
        PATH,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "a completion, or its chunks with `stream`"},
            "4XX": {"description": "an error in OpenAI's form"},
            "5XX": {"description": "an error in OpenAI's form"},
        },
    )
    async def create(body: ChatRequest, request: Request, caller: Annotated[Caller, Depends(caller)]) -> Response:
        """Answer the last message of a chat.

        `vita`, in the answer or in the first chunk, is an addition: the model's verdict about that message, with the
        transcripts where the model has an ASR. The question is answered whatever the verdict.
        """
        size = len(await request.body())
        answer = Answer(model_for(server, body.model), bool(body.stream_options and body.stream_options.include_usage))
        items = items_of(server, caller, body, answer.model, PATH, size)
        try:
            first = await unless_gone(request, anext(items))
            if body.stream:
                limit_s = server.config.limits.session_s
                return Streamed(_events(answer, first, items), items, "text/event-stream", limit_s)
            return JSONResponse(await unless_gone(request, answer.whole(first, items)))
        except BaseException:
            await items.aclose()
            raise

    return routes


class Answer:
    """One answer in OpenAI's form."""

    def __init__(self, model: str, tells_usage: bool) -> None:
        self.model = model
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._tells_usage = tells_usage

    async def whole(self, first: Verdict | str | Call | Finished, items: Items) -> Json:
        """A `chat.completion`."""
        text, verdict, finished, calls = "", None, None, list[Json]()
        async for item in chain(first, items):
            match item:
                case Verdict():
                    verdict = item
                case Finished():
                    finished = item
                case Call():
                    calls.append(_call(item))
                case delta:
                    text += delta
        assert finished is not None
        message: Json = {"role": "assistant", "content": None if calls and not text else text, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": REASONS[finished.reason]}
        fields = {"choices": [choice], "usage": _usage(finished.usage), "vita": _verdict(verdict)}
        return self._resource("chat.completion", **fields)

    async def chunks(self, first: Verdict | str | Call | Finished, items: Items) -> AsyncIterator[Json]:
        """Its `chat.completion.chunk`s."""
        verdict, calls = first if isinstance(first, Verdict) else None, 0
        yield self._chunk({"role": "assistant", "content": ""}, vita=_verdict(verdict))
        async for item in chain(first, items):
            match item:
                case Verdict():
                    pass
                case Call():
                    yield self._chunk({"tool_calls": [{"index": calls, **_call(item)}]})
                    calls += 1
                case Finished(reason, usage):
                    yield self._chunk({}, REASONS[reason])
                    if self._tells_usage:
                        yield self._resource("chat.completion.chunk", choices=[], usage=_usage(usage))
                case delta:
                    yield self._chunk({"content": delta})

    def _chunk(self, delta: Json, reason: str | None = None, **more: Any) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._tells_usage else {}
        return self._resource("chat.completion.chunk", choices=[choice], **usage, **more)

    def _resource(self, kind: str, **fields: Any) -> Json:
        return {"id": self._id, "object": kind, "created": self._created, "model": self.model, **fields}


async def items_of(server: Server, caller: Caller, body: ChatRequest, model: str, path: str, size: int) -> Items:
    """What an instance says. Errors: `NoPlace`, `ClientError`, `PartFailed`."""
    assert server.parts is not None
    pool = server.parts.pools[model]
    check(body)
    if body.shows and not any(instance.sees for instance in pool.instances):
        message = f"{model} cannot see: it takes no pictures and no films"
        raise ClientError("unsupported_modality", message, param="messages")
    if (body.tools or body.tool_choice == "required") and not server.parts.can_call(model):
        raise ClientError("unsupported_parameter", f"{model} cannot call tools", param="tools")
    if body.schema_wanted is not None and not any(instance.follows_schemas for instance in pool.instances):
        message = f"{model} cannot be made to answer in JSON: its answers begin with a state token"
        raise ClientError("unsupported_value", message, param="response_format")
    with place(server, caller, path, size):
        chat = await asyncio.to_thread(read, body)
        async with aclosing(ask(pool, lambda instance: instance.chat(chat))) as items:
            async for item in items:
                if isinstance(item, Finished):
                    server.metrics.tokens(item.usage)
                yield item


async def _events(answer: Answer, first: Verdict | str | Call | Finished, items: Items) -> AsyncIterator[str]:
    """Server-sent events; an error in mid-answer is one, too."""
    try:
        async for chunk in answer.chunks(first, items):
            yield sse.event(chunk)
    except PartFailed as failure:
        yield sse.event(error_body("part_failed", str(failure), kind="server_error"))
    yield sse.DONE


def _usage(usage: Usage) -> Json:
    total = usage.input_tokens + usage.output_tokens
    return {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens, "total_tokens": total}


def _call(call: Call) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _verdict(verdict: Verdict | None) -> Json | None:
    if verdict is None:
        return None
    transcript = " ".join(verdict.transcripts) or None
    return {"state": verdict.state, "p1": verdict.p1, "p2": verdict.p2, "p3": verdict.p3, "transcript": transcript}
