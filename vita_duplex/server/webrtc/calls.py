"""`POST /v1/realtime/calls`: a session over WebRTC, as OpenAI has it, and its end."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError

from vita_duplex.config import WebRtcConfig
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.audio.formats import pcm
from vita_duplex.server.errors import ClientError, Refusal
from vita_duplex.server.realtime.client_events import SessionUpdateFields
from vita_duplex.server.realtime.presence import NORMAL
from vita_duplex.server.realtime.resume import NOT_FOUND
from vita_duplex.server.realtime.seat import NoSeat, converse, merged, place
from vita_duplex.server.realtime.transport import ClientKind, Farewell
from vita_duplex.server.server import Server
from vita_duplex.server.webrtc.opus import NoOpus

if TYPE_CHECKING:
    from vita_duplex.server.webrtc.peer import Peer

MISSING = (
    "WebRTC, or its libopus, is not installed here: pip install 'vita-duplex[webrtc]'. /v1/realtime is a WebSocket."
)
IN_WIRE, OUT_WIRE = pcm(16_000), pcm(24_000)
FORM_LIMIT = 100_000
"""Bytes of `session` in a form."""
FLAGS = ("vita_events", "resume")


class Calls:
    """The sessions over WebRTC; each is a task that outlives the request that began it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, caller: Caller, sdp: str, model: str | None, flags: set[str]) -> tuple[str, str]:
        """The call's id and the answer. Errors: `ClientError`, `NoSeat`."""
        call = f"rtc_{secrets.token_hex(12)}"
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._serve(call, caller, sdp, model, flags, answered), name=call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait((task, answered), return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            await task  # raises what came before the answer
        return call, await answered

    async def _serve(
        self, call: str, caller: Caller, sdp: str, model: str | None, flags: set[str], answered: asyncio.Future[str]
    ) -> None:
        """Errors: `ClientError`, `NoSeat`, before there is an answer."""
        kind = ClientKind("vita_events" in flags, True, True, True, IN_WIRE, OUT_WIRE)
        with place(self._server, caller, model, may_wait=False):
            peer, answer = await answer_offer(sdp, self._server.config.webrtc)
            answered.set_result(answer)
            try:
                await converse(self._server, caller, model, peer, kind, resumable="resume" in flags, call=call)
            except NoSeat:
                pass  # the server has begun to stop in between
            finally:
                await peer.close(Farewell(NORMAL, "over"))

    async def resume(self, caller: Caller, sdp: str, token: str, last_event: int) -> str:
        """The answer for a client that comes back. Errors: `ClientError`, `NoSeat`."""
        gateway = self._server.resumables.find(token, caller.key)
        if gateway is None:
            raise NoSeat(NOT_FOUND)
        peer, answer = await answer_offer(sdp, self._server.config.webrtc)
        if refused := gateway.take_over(peer, last_event):
            await peer.close(Farewell(NORMAL, refused.code))
            raise NoSeat(refused)
        return answer

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def answer_offer(sdp: str, config: WebRtcConfig) -> "tuple[Peer, str]":
    """The transport and the answer. Errors: `ClientError`, `NoSeat`."""
    try:  # imported with the first call: a second of work, and only the extra has it
        from vita_duplex.server.webrtc import peer

        return await peer.answer_offer(sdp, config)
    except (ImportError, NoOpus) as error:
        raise NoSeat(Refusal("webrtc_not_installed", MISSING)) from error


@asynccontextmanager
async def closing(calls: Calls) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await calls.close()


def router(server: Server, calls: Calls, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter()
    errors: dict[int | str, dict[str, Any]] = {"4XX": {"description": "an error in OpenAI's form"}}

    @routes.post("/v1/realtime/calls", status_code=201, response_class=Response, responses=errors)
    async def begin(request: Request, caller: Annotated[Caller, Depends(caller)]) -> Response:
        """Answers an SDP offer, sent as it is (`application/sdp`) or in a form with `sdp` and `session`."""
        sdp, session = await _read(request)
        query = request.query_params
        if token := query.get("resume_token"):
            last = query.get("last_event_id", "").removeprefix("event_")
            number = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
            return Response(await calls.resume(caller, sdp, token, number), 201, media_type="application/sdp")
        model = query.get("model") or session.get("model")
        flags = {flag for flag in FLAGS if query.get(flag) == "true"}
        call, answer = await calls.begin(_with(caller, session), sdp, model and str(model), flags)
        headers = {"Location": f"/v1/realtime/calls/{call}"}
        return Response(answer, 201, headers, "application/sdp")

    @routes.post("/v1/realtime/calls/{call}/hangup", responses=errors)
    async def hang_up(call: str, caller: Annotated[Caller, Depends(caller)]) -> Response:
        """Ends a session that came over WebRTC, or over the telephone."""
        if (gateway := server.calls.find(call, caller.key)) is None:
            raise NoSeat(NOT_FOUND)
        gateway.hang_up()
        return Response(status_code=200)

    return routes


async def _read(request: Request) -> tuple[str, dict[str, Any]]:
    """The offer, and the session's settings. Errors: `ClientError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/sdp":
        return _text(await request.body()), {}
    if kind != "multipart/form-data":
        raise ClientError("invalid_value", "Send the offer as application/sdp, or a form with `sdp` and `session`.")
    async with request.form(max_files=2, max_fields=4, max_part_size=FORM_LIMIT) as form:
        parts = {name: value if isinstance(value, str) else _text(await value.read()) for name, value in form.items()}
    if "sdp" not in parts:
        raise ClientError("invalid_value", "The form has no `sdp`.", param="sdp")
    try:
        session = json.loads(parts.get("session") or "{}")
    except ValueError as error:
        raise ClientError("invalid_json", "`session` is not valid JSON.", param="session") from error
    if not isinstance(session, dict):
        raise ClientError("invalid_value", "`session` is an object.", param="session")
    return parts["sdp"], session


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ClientError("invalid_offer", "The offer is not UTF-8.", param="sdp") from error


def _with(caller: Caller, session: dict[str, Any]) -> Caller:
    """The caller with the settings of this call, which count more than those of an ephemeral key.

    Errors: `ClientError`.
    """
    if not session:
        return caller
    try:
        wanted = SessionUpdateFields.model_validate({"type": "realtime", **session})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(["session", *(str(part) for part in first["loc"])])
        raise ClientError("invalid_value", f"{param}: {first['msg']}", param=param) from error
    return replace(caller, session=merged(caller.session, wanted))
