"""A client of the WebSocket endpoint: who is it, is there room, and then its session."""

import json
import secrets
import time
from asyncio import get_running_loop

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from vita_duplex.server import logs
from vita_duplex.server.admission import Ticket
from vita_duplex.server.auth import Caller, Denied, credentials
from vita_duplex.server.gateway import Gateway
from vita_duplex.server.limits import AudioAllowance, Lifetime, Refusal, Usage
from vita_duplex.server.server import Server
from vita_duplex.server.server_events import error_body, refusal
from vita_duplex.server.terms import Terms
from vita_duplex.server.waiting import wait_for_place
from vita_duplex.server.watch import SessionWatch

TRY_AGAIN_LATER = 1013
"""WebSocket close code (IANA registry): come back in a while."""


async def visit(server: Server, socket: WebSocket) -> None:
    """Serve one connection from the handshake to its end."""
    offered = socket.scope.get("subprotocols", [])
    try:
        caller = server.access.admit(credentials(socket.scope["headers"], offered), time.time())
    except Denied as denied:
        server.metrics.refusal(denied.code)
        await socket.send_denial_response(
            JSONResponse(error_body(denied.code, denied.message), denied.status, denied.headers)
        )
        return
    await socket.accept("realtime" if "realtime" in offered else None)
    clock = get_running_loop().time
    usage = server.usage(caller.key)
    may_wait = socket.query_params.get("vita_events") == "true"
    place = server.refusal() or usage.refusal(clock()) or server.admission.ask(caller.key, clock(), may_wait=may_wait)
    if isinstance(place, Refusal):
        await _refuse(server, socket, place)
        return
    usage.sessions += 1
    try:
        await _seat(server, socket, caller, usage, place)
    except WebSocketDisconnect:
        pass  # left the queue
    finally:
        usage.sessions -= 1
        server.leave(place)


async def _seat(server: Server, socket: WebSocket, caller: Caller, usage: Usage, ticket: Ticket) -> None:
    early = [] if ticket.began else await wait_for_place(socket, server.admission, ticket, server.changed)
    if reason := server.refusal():  # things may have changed in the queue
        await _refuse(server, socket, reason)
        return
    assert server.parts is not None
    clock = get_running_loop().time
    limits = server.config.limits
    session_id = f"sess_{secrets.token_hex(8)}"
    logs.session_id.set(session_id)
    lifetime = Lifetime(limits, usage.session_time, clock())
    terms = Terms(
        session_id,
        lifetime,
        AudioAllowance(limits.audio_ahead_s, clock()),
        usage.bytes_in,
        server.drain,
        SessionWatch(server.metrics, server.tracer, session_id),
        caller.session,
        tuple(early),
    )
    try:
        await Gateway(socket, server.parts, server.config.model_name, terms).serve()
    finally:
        lifetime.charge(clock())


async def _refuse(server: Server, socket: WebSocket, reason: Refusal) -> None:
    server.metrics.refusal(reason.code)
    await socket.send_text(json.dumps(refusal(reason.code, reason.message, reason.retry_after_s)))
    await socket.close(TRY_AGAIN_LATER, reason.code)
