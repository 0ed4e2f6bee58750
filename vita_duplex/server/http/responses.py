"""`POST /v1/responses`: what chats do, in the form of OpenAI's Responses API."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from vita_duplex.engine.messages import Finished
from vita_duplex.engine.ports import PartFailed
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.errors import ClientError, Refusal
from vita_duplex.server.http import sse
from vita_duplex.server.http.chat import Items, items_of
from vita_duplex.server.http.places import NoPlace, Streamed, chain, model_for, unless_gone
from vita_duplex.server.http.responses_events import ResponseEvents
from vita_duplex.server.http.responses_requests import ResponsesRequest, chat_request, messages
from vita_duplex.server.http.responses_store import Kept, ResponsesStore
from vita_duplex.server.realtime.items import Json
from vita_duplex.server.server import Server

PATH = "/v1/responses"


def router(server: Server, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter()
    store = ResponsesStore()

    @routes.post(
        PATH,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "a response, or its events with `stream`"},
            "4XX": {"description": "an error in OpenAI's form"},
            "5XX": {"description": "an error in OpenAI's form"},
        },
    )
    async def create(body: ResponsesRequest, request: Request, caller: Annotated[Caller, Depends(caller)]) -> Response:
        """Answer a dialogue. Unless `store` is false the response is kept in memory for an hour, to go on from."""
        size = len(await request.body())
        model = model_for(server, body.model)
        dialogue = _dialogue(body, store, caller)
        items = items_of(server, caller, chat_request(body, dialogue), model, PATH, size)
        answer = ResponseEvents(body, model, int(time.time()))

        def finished() -> None:
            if body.store:
                now = asyncio.get_running_loop().time()
                whole = [*dialogue, *answer.said.values()]
                length = sum(len(str(message)) for message in whole)
                store.keep(Kept(caller.key, now, length, answer.response, whole, answer.said))

        try:
            first = await unless_gone(request, anext(items))
            events = _events(answer, chain(first, items), finished)
            if body.stream:
                told = (sse.event(event) async for event in events)
                return Streamed(told, items, "text/event-stream", server.config.limits.session_s)
            await unless_gone(request, _exhaust(events))
        except BaseException:
            await items.aclose()
            raise
        if error := answer.response["error"]:
            raise PartFailed("engine", error["message"])
        return JSONResponse(answer.response)

    @routes.get(PATH + "/{response_id}")
    async def retrieve(response_id: str, caller: Annotated[Caller, Depends(caller)]) -> JSONResponse:
        """A response that is still in memory."""
        kept = store.find(response_id, caller.key, asyncio.get_running_loop().time())
        if kept is None:
            raise _gone(response_id)
        return JSONResponse(kept.response)

    @routes.delete(PATH + "/{response_id}")
    async def delete(response_id: str, caller: Annotated[Caller, Depends(caller)]) -> Json:
        """Forget a response."""
        if not store.forget(response_id, caller.key, asyncio.get_running_loop().time()):
            raise _gone(response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    return routes


def _gone(response_id: str) -> NoPlace:
    return NoPlace(Refusal("response_not_found", f"There is no response {response_id[:64]!r}, or not any more."))


def _dialogue(body: ResponsesRequest, store: ResponsesStore, caller: Caller) -> list[Json]:
    """What was said before, and what is said now. Errors: `ClientError`."""
    now = asyncio.get_running_loop().time()
    earlier: list[Json] = []
    if body.previous_response_id is not None:
        kept = store.find(body.previous_response_id, caller.key, now)
        if kept is None:
            message = "There is no such response, or not any more: send the dialogue as `input`."
            raise ClientError("previous_response_not_found", message, param="previous_response_id")
        earlier = kept.dialogue
    return messages(body, earlier, lambda item_id: store.item(item_id, caller.key, now))


async def _events(answer: ResponseEvents, items: Items, finished: Callable[[], None]) -> AsyncGenerator[Json]:
    """All events of an answer; an error in the middle is one, too."""
    for event in answer.begin():
        yield event
    try:
        async for item in items:
            told = answer.push(item)
            if isinstance(item, Finished):
                finished()  # before the client is told, which may go on from it at once
            for event in told:
                yield event
    except PartFailed as failure:
        for event in answer.fail(str(failure)):
            yield event


async def _exhaust(events: AsyncGenerator[Json]) -> None:
    async with aclosing(events):
        async for _ in events:
            pass
