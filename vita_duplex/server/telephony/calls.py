"""A telephone call that comes as a WebSocket of a provider: who may call, and then its session."""

import asyncio
import base64
import json
import logging
import time
from dataclasses import replace

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from vita_duplex.config import TelephonyConfig
from vita_duplex.engine.notices import Notice, TurnEnded, TurnHeld, TurnResumed
from vita_duplex.server.access.auth import Caller, Credentials, Denied, credentials
from vita_duplex.server.audio.formats import PCMU
from vita_duplex.server.audio.in_order import InOrder
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.client_events import SessionUpdateFields
from vita_duplex.server.realtime.connection import Connection, Ended
from vita_duplex.server.realtime.event_writer import AUDIO_HEADER
from vita_duplex.server.realtime.presence import POLICY_VIOLATION
from vita_duplex.server.realtime.seat import NoSeat, converse, merged, place
from vita_duplex.server.realtime.transport import ClientKind, FromClient, KeyPressed, Played, Take
from vita_duplex.server.realtime.visit import TRY_AGAIN_LATER, deny
from vita_duplex.server.server import Server
from vita_duplex.server.telephony.dialects import DIALECTS, Dialect, Digit, Mark, Media, Message, Start, Stop
from vita_duplex.server.telephony.far_end import FarEnd
from vita_duplex.server.telephony.signature import is_signed

log = logging.getLogger(__name__)

START_S = 10.0
"""A provider says within this what call it is; Twilio does it in the same moment."""
FRAMES_WAITED = 3
"""Frames of 20 ms that may come before an earlier one. Telnyx does not promise their order."""
QUIET = b"\xff"
"""One sample of silence in G.711 µ-law."""
TELEPHONE = ClientKind(binary_audio=True, pauses=True, wire_in=PCMU, wire_out=PCMU)


def router(server: Server) -> APIRouter:
    routes = APIRouter()

    @routes.websocket("/v1/telephony/twilio")
    async def twilio(socket: WebSocket) -> None:
        await answer(server, socket, "twilio")

    @routes.websocket("/v1/telephony/telnyx")
    async def telnyx(socket: WebSocket) -> None:
        await answer(server, socket, "telnyx")

    @routes.websocket("/v1/telephony/plivo")
    async def plivo(socket: WebSocket) -> None:
        await answer(server, socket, "plivo")

    return routes


async def answer(server: Server, socket: WebSocket, name: str) -> None:
    """Serve one call from the handshake to its end. `name`: one of `DIALECTS`."""
    dialect = DIALECTS[name]
    try:
        if name == "twilio":
            _check_signature(server.config.telephony, socket)
    except Denied as denied:
        await deny(server, socket, denied)
        return
    await socket.accept()
    try:
        start = await _await_start(socket, dialect)
        caller = admit(server, socket, start)
        with place(server, caller, start.parameters.get("model"), may_wait=False):
            call = MediaStream(socket, dialect, start.stream)
            await converse(server, caller, start.parameters.get("model"), call, TELEPHONE, call=start.call)
    except WebSocketDisconnect:
        pass
    except (ClientError, Denied) as error:
        await _hang_up(server, socket, POLICY_VIOLATION, error.code, error.message)
    except NoSeat as none:
        await _hang_up(server, socket, TRY_AGAIN_LATER, none.refusal.code, none.refusal.message)


async def _hang_up(server: Server, socket: WebSocket, close_code: int, code: str, message: str) -> None:
    """A provider has no message for an error: the operator reads it here and in the provider's own log."""
    server.metrics.refusal(code)
    log.warning("a call is refused: %s", message)
    await socket.close(close_code, code)


def _check_signature(config: TelephonyConfig, socket: WebSocket) -> None:
    """Errors: `Denied`."""
    if not (token := config.twilio_token.get_secret_value()):
        return
    base = config.public_url or f"wss://{socket.headers.get('host', '')}"
    if not is_signed(base.rstrip("/") + socket.url.path, token, socket.headers.get("x-twilio-signature")):
        message = "This request is not signed by the Twilio account of this server; see telephony.public_url."
        raise Denied(403, "invalid_signature", message)


async def _await_start(socket: WebSocket, dialect: Dialect) -> Start:
    """Errors: `ClientError`, `WebSocketDisconnect`."""
    try:
        async with asyncio.timeout(START_S):
            while True:
                match dialect.read(await socket.receive_text()):
                    case Start() as start:
                        return start
                    case None:
                        pass
                    case _:
                        raise ClientError("start_expected", "A call begins with `start`.")
    except TimeoutError as late:
        raise ClientError("start_expected", f"No `start` came in {START_S:.0f} s.") from late
    except KeyError as binary:  # starlette looks for the text of a frame that has none
        raise ClientError("invalid_json", "A message of a call is text.") from binary


def admit(server: Server, socket: WebSocket, start: Start) -> Caller:
    """The caller with the settings of the call. The parameter `key` is for providers that can send no header.

    Errors: `Denied`, `ClientError`.
    """
    own = credentials(socket.scope["headers"])
    key = start.parameters.get("key")
    given = own if key is None else Credentials(f"Bearer {key}", (), own.origin, own.host)
    caller = server.access.admit(given, time.time())
    wanted = {name: start.parameters[name] for name in ("instructions",) if name in start.parameters}
    voice, language = start.parameters.get("voice"), start.parameters.get("language")
    audio = {
        **({"input": {"transcription": {"language": language}}} if language else {}),
        **({"output": {"voice": voice}} if voice else {}),
    }
    try:
        of_call = SessionUpdateFields.model_validate({"type": "realtime", **wanted, "audio": audio})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ClientError("invalid_value", f"Parameter {first['loc'][-1]}: {first['msg']}") from error
    return replace(caller, session=merged(caller.session, of_call))


class MediaStream(Connection):
    """The transport of a call: audio in JSON, `clear` on a hold, marks that prove what was heard."""

    def __init__(self, socket: WebSocket, dialect: Dialect, stream: str) -> None:
        super().__init__(socket)
        self._dialect = dialect
        self._stream = stream
        self._far_end = FarEnd()
        self._media: InOrder[bytes] = InOrder(FRAMES_WAITED)
        self._frame = 160  # bytes of the latest one, 20 ms
        self._now = asyncio.get_running_loop().time

    def tell(self, notice: Notice) -> None:
        match notice:
            case TurnHeld():
                self._clear_if(self._far_end.hold(self._now()))
            case TurnResumed():
                if again := self._far_end.resume(self._now()):
                    self._play(*again)
            case TurnEnded(status="cancelled"):
                self._clear_if(self._far_end.cut(self._now()))
            case _:
                pass

    def send(self, data: str | bytes, size: int) -> None:
        if isinstance(data, str):
            return  # the telephone has no place for events; whoever wants them joins the call
        turn, _ = AUDIO_HEADER.unpack_from(data)
        audio = data[AUDIO_HEADER.size :]
        self._play(audio, self._far_end.add(turn, audio, self._now()))

    async def run(self, take: Take) -> bool:
        async def read(frame: FromClient) -> None:
            try:
                for one in self._translate(self._dialect.read(frame if isinstance(frame, str) else "")):
                    await take(one)
            except ClientError as error:
                await take(error)

        return await super().run(read)

    def _translate(self, message: Message | None) -> list[FromClient]:
        match message:
            case Media(chunk, audio):
                self._frame = len(audio)
                return [self._frame * QUIET if one is None else one for one in self._media.push(chunk, audio)]
            case Mark(name):
                ms = self._far_end.note_mark(name, self._now())
                return [] if ms is None else [Played(self._far_end.turn, ms)]
            case Digit(digit):
                return [KeyPressed(digit)]
            case Stop():
                raise Ended(left=True)
            case Start():
                raise ClientError("unexpected_start", "The call has begun already.")
            case None:
                return []

    def _clear_if(self, anything: bool) -> None:
        if anything:
            self._put(self._dialect.clear(self._stream))

    def _play(self, audio: bytes, mark: str) -> None:
        self._put(self._dialect.media(self._stream, base64.b64encode(audio).decode()))
        self._put(self._dialect.mark(self._stream, mark))

    def _put(self, message: dict[str, object]) -> None:
        text = json.dumps(message)
        super().send(text, len(text))
