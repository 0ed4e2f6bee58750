"""A server with scripted parts on a real port, in this process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from vita_duplex.cli.serve import listen
from vita_duplex.server.http.app import create_app
from vita_duplex.server.http.patience import PatientHttp
from vita_duplex.server.realtime.websocket import FairWebSocket
from vita_duplex.server.server import Server


@asynccontextmanager
async def serving(server: Server, send_buffer: int | None = None) -> AsyncIterator[int]:
    """`send_buffer`: bytes that the kernel takes for a client that does not read; None: as many as it likes."""
    listening = listen("127.0.0.1", 0)
    if send_buffer is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    config = uvicorn.Config(
        create_app(server),
        http=PatientHttp,
        ws=FairWebSocket,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
    )
    runner = uvicorn.Server(config)
    running = asyncio.create_task(runner.serve(sockets=[listening]))
    while not runner.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield listening.getsockname()[1]
    runner.should_exit = True
    await running
