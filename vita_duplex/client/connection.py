"""A session with a server, over its WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from vita_duplex.client.conversation import Witness
from vita_duplex.client.errors import TalkError
from vita_duplex.client.messages import ServerError, SessionCreated, decode, event_id
from vita_duplex.client.recording import OUTPUT_RATE, Pcm
from vita_duplex.engine.audio import INPUT_RATE

URL = "ws://127.0.0.1:8000/v1/realtime"
CONNECT_S = 10.0
AGAIN_S = 0.5
"""Between attempts to come back."""
ACK_MS = 500
"""How much is heard between two acknowledgements."""
BROKEN = (1001, 1011, 1014, 4002)
"""Close codes (RFC 6455 section 7.4.1 and its registry; 4002: no sign of life came) after which the session may still
be there; others are meant."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")

ABILITIES = {"vita_events": "true", "pauses": "true"}
"""What this client can do, as query parameters of the protocol."""

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


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and who comes to it."""

    url: str
    key: str | None = None
    abilities: Mapping[str, str] = field(default_factory=lambda: ABILITIES)
    """What the client can do."""

    async def connect(self, query: Mapping[str, str]) -> ClientConnection:
        parts = urlsplit(self.url)
        asked = dict(parse_qsl(parts.query)) | dict(self.abilities) | dict(query)
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        # a proxy of the environment cannot reach a server on this machine
        proxy: Literal[True] | None = None if parts.hostname in LOOPBACK else True
        url = urlunsplit(parts._replace(query=urlencode(asked)))
        return await connect(url, additional_headers=headers, max_size=None, open_timeout=CONNECT_S, proxy=proxy)


class Session:
    """An open session with a server. When its connection breaks, it goes on in a new one."""

    def __init__(
        self, connection: ClientConnection, opened: SessionCreated, address: Address, witness: Witness
    ) -> None:
        self.witness = witness
        self.returns = 0
        """How often it went on in a new connection."""
        self._connection = connection
        self._address = address
        self._token, self._resume_s = opened.resume_token, opened.resume_s
        self._last = "event_1"
        self._acknowledged: tuple[str, int] = "", 0
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()

    def now(self) -> float:
        """Seconds since `session.created`, which is the zero of the server's clock as well."""
        return self._clock() - self._began

    async def send(self, frame: Pcm) -> None:
        """Microphone audio."""
        await self._send(frame.astype("<i2").tobytes())

    async def listen_until(self, end: float) -> None:
        """Take the server's events until that time of the session, or until a broken connection was replaced."""
        try:
            async with asyncio.timeout_at(self._began + end):
                while True:
                    await self.listen()
        except TimeoutError:
            self.witness.player.advance(self.now())
        except ConnectionClosed as closed:
            await self._come_back(closed)
        await self._acknowledge()

    async def listen(self) -> None:
        message = await self._connection.recv()
        event = decode(message, self.now())
        self._last = event_id(message) or self._last
        if event is not None:
            self.witness.receive(event)

    async def agree(self) -> None:
        """Settle the audio formats."""
        await self._send(json.dumps(SESSION_UPDATE))
        while not self.witness.ready:
            await self.listen()
            for refusal in self.witness.conversation.errors:
                raise TalkError(f"refused by the server: {refusal.error.message or refusal.error.code}")

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as closed:
            await self._come_back(closed)
            await self._connection.send(message)

    async def _acknowledge(self) -> None:
        """Say what of the newest reply was heard: the server need not keep it, and knows where it was cut."""
        reply = next(reversed(self.witness.conversation.replies.values()), None)
        if reply is None or not reply.item_id:
            return
        played_ms = self.witness.player.played(reply.id) * 1000 // OUTPUT_RATE
        item_id, before_ms = self._acknowledged
        if item_id == reply.item_id and played_ms < before_ms + ACK_MS:
            return
        self._acknowledged = reply.item_id, played_ms
        await self._send(json.dumps({"type": "playback.ack", "item_id": reply.item_id, "played_ms": played_ms}))

    async def _come_back(self, closed: ConnectionClosed) -> None:
        """Try again and again for as long as the session waits. Errors: `closed`, `TalkError`."""
        if self._token is None or (closed.rcvd is not None and closed.rcvd.code not in BROKEN):
            raise closed
        query = {"resume": "true", "resume_token": self._token, "last_event_id": self._last}
        try:
            async with asyncio.timeout(self._resume_s):
                while True:
                    with suppress(OSError, InvalidHandshake, ConnectionClosed):
                        self._connection = await self._address.connect(query)
                        first = decode(await self._connection.recv(), self.now())
                        break
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            raise closed from None
        if isinstance(first, ServerError):
            raise TalkError(f"the session is lost: {first.error.message or first.error.code}")
        if first is not None:
            self.witness.receive(first)
        self.returns += 1

    async def close(self) -> None:
        await self._connection.close()


@asynccontextmanager
async def open_session(
    url: str = URL, witness: Witness | None = None, key: str | None = None
) -> AsyncIterator[Session]:
    """Connect, with an API key if there is one, and agree on the audio formats.

    Errors, also later ones of the connection: `TalkError`.
    """
    address = Address(url, key)
    try:
        connection = await address.connect({"resume": "true"})
        try:
            async with asyncio.timeout(CONNECT_S):
                first = decode(await connection.recv(), 0.0)
                if isinstance(first, ServerError):
                    raise TalkError(f"refused by the server: {first.error.message or first.error.code}")
                if not isinstance(first, SessionCreated):
                    raise TalkError(f"{url} does not answer as a realtime server")
                session = Session(connection, first, address, witness or Witness())
                await session.agree()
        except BaseException:
            await connection.close()
            raise
        try:
            yield session
        finally:
            await session.close()
    except ConnectionClosed as error:
        raise TalkError(f"the server closed the connection ({_why(error)})") from error
    except InvalidStatus as error:
        hint = "; give an API key with --api-key" if error.response.status_code == 401 and key is None else ""
        raise TalkError(f"{url} refused the session: HTTP {error.response.status_code}{hint}") from error
    except InvalidURI as error:
        raise TalkError(f"{url} is not a WebSocket address (ws://… or wss://…)") from error
    except TimeoutError as error:
        raise TalkError(f"{url} did not answer within {CONNECT_S:.0f} s") from error
    except (OSError, InvalidHandshake) as error:
        raise TalkError(f"no server at {url}: {_os_reason(error)}") from error


def _why(error: ConnectionClosed) -> str:
    if error.rcvd is None:
        return "without saying why"
    return f"{error.rcvd.code}{' ' if error.rcvd.reason else ''}{error.rcvd.reason}"


def _os_reason(error: OSError | InvalidHandshake) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "nobody listens there"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
