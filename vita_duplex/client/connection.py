"""A session with a server, over its WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from vita_duplex.client.conversation import Witness
from vita_duplex.client.errors import TalkError
from vita_duplex.client.messages import ServerError, SessionCreated, decode
from vita_duplex.client.recording import OUTPUT_RATE, Pcm
from vita_duplex.engine.seams import INPUT_RATE

URL = "ws://127.0.0.1:8000/v1/realtime"
CONNECT_S = 10.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")

SESSION_UPDATE = {
    "type": "session.update",
    "session": {
        "type": "realtime",
        "audio": {
            "input": {"format": {"type": "audio/pcm", "rate": INPUT_RATE}},
            "output": {"format": {"type": "audio/pcm", "rate": OUTPUT_RATE}},
        },
    },
}


class Session:
    """An open session with a server."""

    def __init__(self, connection: ClientConnection, witness: Witness, began: float) -> None:
        self.witness = witness
        self._connection = connection
        self._began = began

    def now(self) -> float:
        """Seconds since `session.created`, which is the zero of the server's clock as well."""
        return asyncio.get_running_loop().time() - self._began

    async def send(self, frame: Pcm) -> None:
        await self._connection.send(frame.astype("<i2").tobytes())

    async def listen_until(self, end: float) -> None:
        """Take the server's events until that time of the session."""
        try:
            async with asyncio.timeout_at(self._began + end):
                while True:
                    await self.listen()
        except TimeoutError:
            self.witness.player.advance(self.now())

    async def listen(self) -> None:
        message = await self._connection.recv()
        event = decode(message, self.now())
        if event is not None:
            self.witness.receive(event)

    async def agree(self) -> None:
        """Settle the audio formats."""
        await self._connection.send(json.dumps(SESSION_UPDATE))
        while not self.witness.ready:
            await self.listen()
            for refusal in self.witness.conversation.errors:
                raise TalkError(f"refused by the server: {refusal.error.message or refusal.error.code}")


@asynccontextmanager
async def open_session(url: str = URL, witness: Witness | None = None) -> AsyncIterator[Session]:
    """Connect and agree on the audio formats. Errors, also later ones of the connection: `TalkError`."""
    try:
        # a proxy of the environment cannot reach a server on this machine
        proxy: Literal[True] | None = None if urlsplit(url).hostname in LOOPBACK else True
        connecting = connect(_with_events(url), max_size=None, open_timeout=CONNECT_S, proxy=proxy)
        async with connecting as connection:
            async with asyncio.timeout(CONNECT_S):
                first = decode(await connection.recv(), 0.0)
                session = Session(connection, witness or Witness(), asyncio.get_running_loop().time())
                if isinstance(first, ServerError):
                    raise TalkError(f"refused by the server: {first.error.message or first.error.code}")
                if not isinstance(first, SessionCreated):
                    raise TalkError(f"{url} does not answer as a realtime server")
                await session.agree()
            yield session
    except ConnectionClosed as error:
        raise TalkError(f"the server closed the connection ({_why(error)})") from error
    except InvalidStatus as error:
        raise TalkError(f"{url} refused the session: HTTP {error.response.status_code}") from error
    except InvalidURI as error:
        raise TalkError(f"{url} is not a WebSocket address (ws://… or wss://…)") from error
    except TimeoutError as error:
        raise TalkError(f"{url} did not answer within {CONNECT_S:.0f} s") from error
    except (OSError, InvalidHandshake) as error:
        raise TalkError(f"no server at {url}: {_os_reason(error)}") from error


def _with_events(url: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {"vita_events": "true"}
    return urlunsplit(parts._replace(query=urlencode(query)))


def _why(error: ConnectionClosed) -> str:
    if error.rcvd is None:
        return "without saying why"
    return f"{error.rcvd.code}{' ' if error.rcvd.reason else ''}{error.rcvd.reason}"


def _os_reason(error: OSError | InvalidHandshake) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "nobody listens there"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
