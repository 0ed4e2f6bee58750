"""HTTP requests that keep a part of the server busy: each takes a place like a session, and counts for its key."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from vita_duplex.engine.ports import PartFailed
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.errors import ClientError, Refusal
from vita_duplex.server.server import Server

Result = TypeVar("Result")

STATUS = {
    "model_not_found": 404,
    "session_not_found": 404,
    "resume_gap": 409,
    "webrtc_not_installed": 501,
    "no_asr": 404,
    "response_not_found": 404,
    "session_limit_reached": 429,
    "key_session_limit_reached": 429,
    "key_minutes_used_up": 429,
    "rate_limit_exceeded": 429,
}
"""Of a refusal; all others are 503."""


class NoPlace(Exception):
    """This request is not served, or not now."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal

    @property
    def status(self) -> int:
        return STATUS.get(self.refusal.code, 503)

    @property
    def headers(self) -> dict[str, str]:
        wait = self.refusal.retry_after_s
        return {} if wait is None else {"Retry-After": str(max(1, round(wait)))}


class ClientLeft(Exception):
    """Nobody waits for this answer any more."""


def model_for(server: Server, wanted: str | None) -> str:
    """The model that a client means. Errors: `NoPlace`."""
    if refusal := server.refusal(wanted):
        raise NoPlace(refusal)
    assert server.parts is not None
    chosen = server.parts.chosen(wanted)
    assert chosen is not None
    return chosen


@contextmanager
def place(server: Server, caller: Caller, path: str, size: int) -> Iterator[None]:
    """While a request of `size` bytes is served. Errors: `NoPlace`."""
    clock = asyncio.get_running_loop().time
    began, usage = clock(), server.usage(caller.key)
    if refusal := usage.refusal(began):
        raise NoPlace(refusal)
    if wait := usage.bytes_in.wait(0, began):
        raise NoPlace(Refusal("rate_limit_exceeded", "This key sends more bytes a second than it may.", wait))
    ticket = server.admission.ask(caller.key, began, may_wait=False, is_session=False)
    if isinstance(ticket, Refusal):
        raise NoPlace(ticket)
    usage.bytes_in.spend(size, began)
    usage.sessions += 1
    status = "cancelled"
    try:
        yield
        status = "completed"
    except PartFailed as failure:
        server.metrics.failure(failure.part)
        status = "failed"
        raise
    except ClientError:
        status = "refused"
        raise
    finally:
        if usage.session_time is not None:
            usage.session_time.spend(clock() - began, clock())
        usage.sessions -= 1
        server.leave(ticket)
        server.metrics.request(path, status)


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled if the client goes away meanwhile. Errors: `ClientLeft`."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def chain(first: Result, rest: AsyncGenerator[Result]) -> AsyncGenerator[Result]:
    """What was taken of a stream already, so that its errors still had a status, and what follows."""
    yield first
    async for item in rest:
        yield item


class Streamed(StreamingResponse):
    """A streamed answer that closes its source whatever happens, also if nothing of it was ever sent."""

    def __init__(self, content: AsyncIterator[Any], source: Any, media_type: str, limit_s: float) -> None:
        """`limit_s`: the longest it may take; who does not read would keep the place for ever."""
        super().__init__(content, media_type=media_type, headers={"Cache-Control": "no-cache"})
        self._source = source
        self._limit_s = limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._source):
            # A failure was counted where it happened. The web server breaks an unfinished answer off.
            with suppress(PartFailed, TimeoutError):
                async with asyncio.timeout(self._limit_s):
                    await super().__call__(scope, receive, send)
