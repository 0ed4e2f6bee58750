"""A client of the WebSocket endpoint: who is it, is there room, and then its session."""

import json
import time
from dataclasses import replace

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from vita_duplex.server.access.auth import Caller, Denied, credentials
from vita_duplex.server.errors import Refusal, error_body
from vita_duplex.server.realtime.client_events import SessionUpdateFields
from vita_duplex.server.realtime.connection import Connection
from vita_duplex.server.realtime.conversation import NO_ASR, Conversation
from vita_duplex.server.realtime.event_writer import refusal
from vita_duplex.server.realtime.presence import POLICY_VIOLATION
from vita_duplex.server.realtime.resume import NOT_FOUND
from vita_duplex.server.realtime.seat import NoSeat, converse, place
from vita_duplex.server.realtime.transport import ClientKind
from vita_duplex.server.realtime.waiting import wait_for_place
from vita_duplex.server.server import Server

TRY_AGAIN_LATER = 1013
"""WebSocket close code (IANA registry): come back in a while."""


async def visit(server: Server, socket: WebSocket, speaks: type[Conversation] = Conversation) -> None:
    """Serve one connection from the handshake to its end; `speaks`: which events go over it."""
    offered = socket.scope.get("subprotocols", [])
    try:
        caller = server.access.admit(credentials(socket.scope["headers"], offered), time.time())
    except Denied as denied:
        await deny(server, socket, denied)
        return
    await socket.accept("realtime" if "realtime" in offered else None)
    if token := socket.query_params.get("resume_token"):
        await _resume(server, socket, caller, token)
        return
    if call := socket.query_params.get("call_id"):
        await _join(server, socket, caller, call)
        return
    try:
        await _serve(server, socket, caller, speaks)
    except NoSeat as none:
        await _refuse(server, socket, none.refusal)
    except WebSocketDisconnect:
        pass  # left the queue


async def deny(server: Server, socket: WebSocket, denied: Denied) -> None:
    """Refuse the handshake. Browsers do not tell a page why, so one whose origin is wrong is told by an event."""
    if denied.status == 403 and "origin" in socket.headers:
        await socket.accept("realtime" if "realtime" in socket.scope.get("subprotocols", []) else None)
        await _refuse(server, socket, Refusal(denied.code, denied.message), POLICY_VIOLATION)
        return
    server.metrics.refusal(denied.code)
    body = error_body(denied.code, denied.message)
    await socket.send_denial_response(JSONResponse(body, denied.status, denied.headers))


async def _serve(server: Server, socket: WebSocket, caller: Caller, speaks: type[Conversation]) -> None:
    model = socket.query_params.get("model")
    if socket.query_params.get("intent") == "transcription":
        model, caller = None, replace(caller, session=caller.session or SessionUpdateFields(type="transcription"))
        if server.parts and server.parts.transcriber is None:
            raise NoSeat(NO_ASR)
    with place(server, caller, model, may_wait=asked(socket, "queue")) as ticket:
        early = [] if ticket.began else await wait_for_place(socket, server.admission, ticket, server.changed)
        vita_events = asked(socket, "vita_events") or speaks is not Conversation
        pauses = vita_events and asked(socket, "pauses")  # on `vita.hold`, which comes to no other client
        kind = ClientKind(vita_events, asked(socket, "binary_audio"), pauses)
        connection, resumable = Connection(socket), asked(socket, "resume")
        await converse(server, caller, model, connection, kind, early=tuple(early), resumable=resumable, speaks=speaks)


async def _resume(server: Server, socket: WebSocket, caller: Caller, token: str) -> None:
    """Hand the connection to the session it belongs to; that one's first connection keeps the session running."""
    gateway = server.resumables.find(token, caller.key)
    last = socket.query_params.get("last_event_id", "").removeprefix("event_")
    number = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
    connection = Connection(socket)
    if refused := gateway.take_over(connection, number) if gateway else NOT_FOUND:
        await _refuse(server, socket, refused, POLICY_VIOLATION)
        return
    await connection.closed.wait()


async def _join(server: Server, socket: WebSocket, caller: Caller, call: str) -> None:
    """Let an application hear of a call that came over another transport, and steer it."""
    if gateway := server.calls.find(call, caller.key):
        await gateway.join(Connection(socket))
    else:
        await _refuse(server, socket, NOT_FOUND, POLICY_VIOLATION)


async def _refuse(server: Server, socket: WebSocket, reason: Refusal, close_code: int = TRY_AGAIN_LATER) -> None:
    server.metrics.refusal(reason.code)
    await socket.send_text(json.dumps(refusal(reason.code, reason.message, reason.retry_after_s)))
    await socket.close(close_code, reason.code)


def asked(socket: WebSocket, flag: str) -> bool:
    """Whether the client's address has a flag of the protocol."""
    return socket.query_params.get(flag) == "true"
