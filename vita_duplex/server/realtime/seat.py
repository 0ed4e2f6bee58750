"""A place for one client, and its session there, whatever transport it comes over."""

import secrets
from asyncio import get_running_loop
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from pydantic import BaseModel

from vita_duplex.server.access.admission import Ticket
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.access.limits import AudioAllowance, Lifetime
from vita_duplex.server.access.resumables import new_token
from vita_duplex.server.errors import Refusal
from vita_duplex.server.observe import logs
from vita_duplex.server.observe.watch import SessionWatch
from vita_duplex.server.realtime.client_events import SessionUpdateFields
from vita_duplex.server.realtime.conversation import Conversation
from vita_duplex.server.realtime.gateway import Gateway
from vita_duplex.server.realtime.items import Json
from vita_duplex.server.realtime.terms import Terms
from vita_duplex.server.realtime.transport import ClientKind, Transport
from vita_duplex.server.server import Server


class NoSeat(Exception):
    """This client gets no session now."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@contextmanager
def place(server: Server, caller: Caller, model: str | None, *, may_wait: bool) -> Iterator[Ticket]:
    """While a client has its session or waits for it. Errors: `NoSeat`."""
    clock = get_running_loop().time
    usage = server.usage(caller.key)
    no_session = server.refusal(model) or usage.refusal(clock())
    ticket = no_session or server.admission.ask(caller.key, clock(), may_wait=may_wait)
    if isinstance(ticket, Refusal):
        raise NoSeat(ticket)
    usage.sessions += 1
    try:
        yield ticket
    finally:
        usage.sessions -= 1
        server.leave(ticket)


async def converse(
    server: Server,
    caller: Caller,
    model: str | None,
    transport: Transport,
    kind: ClientKind,
    *,
    early: tuple[str, ...] = (),
    resumable: bool = False,
    call: str | None = None,
    speaks: type[Conversation] = Conversation,
) -> None:
    """Serve a client that has a place until it is gone for good. `early`: what it sent while it waited; `call`: the
    name under which other connections of its key may join; `speaks`: which events go over the transport.

    Errors: `NoSeat`, for things may have changed in the queue.
    """
    if reason := server.refusal(model):
        raise NoSeat(reason)
    assert server.parts is not None
    chosen = server.parts.chosen(model)
    assert chosen is not None
    clock = get_running_loop().time
    limits, usage = server.config.limits, server.usage(caller.key)
    session_id = f"sess_{secrets.token_hex(8)}"
    logs.session_id.set(session_id)
    lifetime = Lifetime(limits, usage.session_time, clock())
    token = new_token() if resumable else None
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
        early,
    )
    try:
        gateway = Gateway(transport, server.parts, chosen, terms, kind, speaks)
        with server.resumables.holding(token, caller.key, gateway), server.calls.holding(call, caller.key, gateway):
            await gateway.serve()
    finally:
        lifetime.charge(clock())


def merged(granted: BaseModel | None, of_call: SessionUpdateFields) -> SessionUpdateFields:
    """The settings that came with an ephemeral key and those of a call, which count more."""

    def join(one: Json, other: Json) -> Json:
        both = dict(one)
        for name, value in other.items():
            before = both.get(name)
            both[name] = join(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
        return both

    below = granted.model_dump(exclude_unset=True) if granted else {}
    return SessionUpdateFields.model_validate(join(below, of_call.model_dump(exclude_unset=True)))
