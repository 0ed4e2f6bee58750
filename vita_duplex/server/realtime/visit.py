"""A client of the WebSocket endpoint: who is it, is there room, and then its session."""

import json
import secrets
import time
from asyncio import get_running_loop
from typing import cast

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from vita_duplex.server.access.admission import Ticket
from vita_duplex.server.access.auth import Caller, Denied, credentials
from vita_duplex.server.access.limits import AudioAllowance, Lifetime, Usage
from vita_duplex.server.access.resumables import new_token
from vita_duplex.server.errors import Refusal, error_body
from vita_duplex.server.observe import logs
from vita_duplex.server.observe.watch import SessionWatch
from vita_duplex.server.realtime.client_events import SessionUpdateFields
from vita_duplex.server.realtime.event_writer import refusal
from vita_duplex.server.realtime.gateway import Gateway, asked
from vita_duplex.server.realtime.presence import POLICY_VIOLATION
from vita_duplex.server.realtime.resume import NOT_FOUND
from vita_duplex.server.realtime.terms import Terms
from vita_duplex.server.realtime.waiting import wait_for_place
from vita_duplex.server.server import Server

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
    if token := socket.query_params.get("resume_token"):
        await _resume(server, socket, caller, token)
        return
    clock = get_running_loop().time
    usage = server.usage(caller.key)
    no_session = server.refusal(socket.query_params.get("model")) or usage.refusal(clock())
    place = no_session or server.admission.ask(caller.key, clock(), may_wait=asked(socket, "queue"))
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
    model = socket.query_params.get("model")
    if reason := server.refusal(model):  # things may have changed in the queue
        await _refuse(server, socket, reason)
        return
    assert server.parts is not None
    chosen = server.parts.chosen(model)
    assert chosen is not None
    clock = get_running_loop().time
    limits = server.config.limits
    session_id = f"sess_{secrets.token_hex(8)}"
    logs.session_id.set(session_id)
    lifetime = Lifetime(limits, usage.session_time, clock())
    token = new_token() if asked(socket, "resume") else None
    terms = Terms(
        session_id,
        lifetime,
        AudioAllowance(limits.audio_ahead_s, clock()),
        usage.bytes_in,
        server.drain,
        SessionWatch(server.metrics, server.tracer, session_id),
        server.shedding,
        token,
        cast(SessionUpdateFields | None, caller.session),
        tuple(early),
    )
    try:
        gateway = Gateway(socket, server.parts, chosen, terms)
        with server.resumables.holding(token, caller.key, gateway):
            await gateway.serve()
    finally:
        lifetime.charge(clock())


async def _resume(server: Server, socket: WebSocket, caller: Caller, token: str) -> None:
    """Hand the connection to the session it belongs to; that one's first connection keeps the session running."""
    gateway = server.resumables.find(token, caller.key)
    last = socket.query_params.get("last_event_id", "").removeprefix("event_")
    number = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
    connection = gateway.take_over(socket, number) if gateway else NOT_FOUND
    if isinstance(connection, Refusal):
        await _refuse(server, socket, connection, POLICY_VIOLATION)
        return
    await connection.closed.wait()


async def _refuse(server: Server, socket: WebSocket, reason: Refusal, close_code: int = TRY_AGAIN_LATER) -> None:
    server.metrics.refusal(reason.code)
    await socket.send_text(json.dumps(refusal(reason.code, reason.message, reason.retry_after_s)))
    await socket.close(close_code, reason.code)
