"""`POST /v1/verdict`: whether a clip was meant for the assistant, asked by applications that have their own."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict

from vita_duplex.engine.messages import Query, Verdict
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import Asr, Instance, PartFailed
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.http.lending import ask
from vita_duplex.server.http.places import model_for, place, unless_gone
from vita_duplex.server.http.verdict_requests import VerdictRequest, parse, read
from vita_duplex.server.server import Server

PATH = "/v1/verdict"


class VerdictAnswer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["verdict"] = "verdict"
    model: str
    state: Literal["<1>", "<2>", "<3>"]
    """The most probable state token: `<1>` meant for the assistant, `<2>` not, `<3>` typed."""
    p1: float
    p2: float
    p3: float
    accepted: bool
    """Whether `p1` reaches the threshold: what a session of this server would answer."""
    threshold: float
    """The server's, for this situation."""
    transcript: str | None
    """The words heard; null where the model hears none and the server has no ASR."""


def _body() -> dict[str, object]:
    """The two forms of the body, for `/openapi.json`: it is parsed by hand."""
    schema = VerdictRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs")
    fields = {
        "file": {"type": "string", "format": "binary"},
        "situation": {"type": "string", "description": "as JSON"},
        "messages": {"type": "string", "description": "as JSON"},
        "model": {"type": "string"},
        "language": {"type": "string"},
    }
    form = {"type": "object", "required": ["file"], "properties": fields}
    inlined = _inline(schema, parts)
    content = {"application/json": {"schema": inlined}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _inline(schema: object, parts: dict[str, object]) -> object:
    """The schema with what it refers to in its place."""
    if isinstance(schema, list):
        return [_inline(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {name: _inline(one, parts) for name, one in schema.items()}


def router(server: Server, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter()

    @routes.post(
        PATH,
        openapi_extra=_body(),
        responses={
            "4XX": {"description": "an error in OpenAI's form"},
            "5XX": {"description": "an error in OpenAI's form"},
        },
    )
    async def judge(request: Request, caller: Annotated[Caller, Depends(caller)]) -> VerdictAnswer:
        """Judge a clip: was it said to the assistant? The clip is kept nowhere."""
        wanted = await parse(request)
        model = model_for(server, wanted.model)
        return await unless_gone(request, _answer(server, caller, wanted, model))

    return routes


async def _answer(server: Server, caller: Caller, wanted: VerdictRequest, model: str) -> VerdictAnswer:
    """Errors: `NoPlace`, `ClientError`, `PartFailed`."""
    assert server.parts is not None
    with place(server, caller, PATH, len(wanted.audio)):
        query = await asyncio.to_thread(read, wanted)
        limit_s = server.config.duplex.first_limit_s
        verdict, heard = await _ask(server.parts.pools[model], query, limit_s, server.parts.asr)
    threshold = server.config.duplex.threshold_in(query.situation.reply)
    return VerdictAnswer(
        model=model,
        state=verdict.state,
        p1=verdict.p1,
        p2=verdict.p2,
        p3=verdict.p3,
        accepted=verdict.p1 >= threshold,
        threshold=threshold,
        transcript=heard,
    )


async def _ask(pool: Pool, query: Query, limit_s: float, asr: Asr | None) -> tuple[Verdict, str | None]:
    """The verdict and the words, if any are known: an ASR that fails costs only those. Errors: `PartFailed`."""
    async with aclosing(ask(pool, lambda instance: _verdict(instance, query, limit_s))) as verdicts:
        verdict = await anext(verdicts)
    samples = query.utterances[0].samples
    if verdict.transcripts:
        return verdict, " ".join(verdict.transcripts)
    if asr is None or samples is None:
        return verdict, None
    with suppress(PartFailed):
        return verdict, (await asr.transcribe(samples, query.language)).text
    return verdict, None


async def _verdict(instance: Instance, query: Query, limit_s: float) -> AsyncGenerator[Verdict]:
    """One verdict; what an instance would answer is aborted. Errors: `PartFailed`."""
    try:
        async with asyncio.timeout(limit_s), aclosing(instance.answer(query)) as items:
            async for item in items:
                if isinstance(item, Verdict):
                    yield item
                    return
    except TimeoutError as late:
        raise PartFailed(instance.name, "it hangs") from late
    raise PartFailed(instance.name, "it gave no verdict")
