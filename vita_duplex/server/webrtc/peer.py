"""One WebRTC connection as a transport: events over the data channel `oai-events`, audio as RTP."""

import asyncio
import logging
from typing import Any

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError

from vita_duplex.config import WebRtcConfig
from vita_duplex.engine.notices import Notice, TurnEnded, TurnHeld, TurnResumed
from vita_duplex.server.audio.playout import Playout
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.connection import CLOSE_S, Ended
from vita_duplex.server.realtime.event_writer import AUDIO_HEADER
from vita_duplex.server.realtime.presence import NORMAL
from vita_duplex.server.realtime.transport import Farewell, FromClient, Played, Take
from vita_duplex.server.webrtc.heard import HeardPackets, Sent
from vita_duplex.server.webrtc.incoming import RATE, Incoming, Lost, Packet, Piece, Silence
from vita_duplex.server.webrtc.media import FRAME_S, Media
from vita_duplex.server.webrtc.offers import check_offer, prefer_fec
from vita_duplex.server.webrtc.opus import IN_RATE, OUT_FRAME, OUT_RATE, Decoder, Encoder
from vita_duplex.server.webrtc.ports import use_ports

log = logging.getLogger(__name__)

CONNECT_S = 30.0
"""From the offer to the first packet of the data channel."""
CHANNEL = "oai-events"
TAIL, STILL = 10, 20
"""Frames of silence that are sent after a reply, and then one of so many: a sign of life in 400 ms, as with DTX."""
INCOMING_LIMIT = 1_000_000
"""Bytes of events and audio that may wait to be taken."""


async def answer_offer(sdp: str, config: WebRtcConfig) -> tuple["Peer", str]:
    """The connection for an offer, and the answer to be sent back. Errors: `ClientError`, `NoOpus`."""
    check_offer(sdp)
    servers = [RTCIceServer(one.urls, one.username, one.credential.get_secret_value()) for one in config.ice_servers]
    connection = RTCPeerConnection(RTCConfiguration(servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    peer = Peer(connection)
    try:
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        for transceiver in connection.getTransceivers():
            if transceiver.kind == "video":
                transceiver.direction = "inactive"
        use_ports(connection, config)
        await connection.setLocalDescription(await connection.createAnswer())
    except (ValueError, LookupError, AttributeError, TypeError, AssertionError, OperationError, InvalidAccessError,
            InvalidStateError) as error:  # fmt: skip
        await connection.close()
        raise ClientError("invalid_offer", "The offer is no SDP that can be answered.", param="sdp") from error
    return peer, prefer_fec(connection.localDescription.sdp)


class Peer:
    """The transport. It plays the audio itself, so that a hold is silence with the next frame of 20 ms."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        """Errors: `NoOpus`."""
        self.number = 1
        self.closed = asyncio.Event()
        self._connection = connection
        self._now = asyncio.get_running_loop().time
        self._encoder, self._decoder = Encoder(), Decoder()
        self._playout = Playout(2 * OUT_FRAME)
        self._still = TAIL + 1  # frames of silence since the last sound
        self._heard = HeardPackets()
        self._sending: tuple[int, float] | None = None  # turn and its milliseconds up to the end of the packet
        self._microphone = Incoming(self._now())
        self._channel: RTCDataChannel | None = None
        self._early: list[str] = []  # events from before the channel was open
        self._incoming: asyncio.Queue[FromClient] = asyncio.Queue()
        self._waiting = 0  # bytes in it
        self._opened = asyncio.Event()
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._media = Media(connection, self._next_packet, self._note_sent)
        self._media.listen(self._on_packet, self._on_report)
        connection.on("datachannel", self._on_channel)
        connection.on("connectionstatechange", self._on_state)

    # ── the session's side ─────────────────────────────────────────────────────────────

    @property
    def unread(self) -> int:
        return self._channel.bufferedAmount if self._channel else 0

    def tell(self, notice: Notice) -> None:
        match notice:
            case TurnHeld():
                self._playout.hold()
                self._tell_played(self._heard.by_now(self._now(), self._media.round_trip_s))
            case TurnResumed():
                self._playout.resume()
            case TurnEnded(status="cancelled"):
                self._playout.drop()
            case _:
                pass

    def send(self, data: str | bytes, size: int) -> None:
        if isinstance(data, bytes):
            turn, _ = AUDIO_HEADER.unpack_from(data)
            self._playout.add(turn, data[AUDIO_HEADER.size :])
        elif self._channel is None:
            self._early.append(data)
        elif self._channel.readyState == "open":
            self._channel.send(data)

    def end(self, farewell: Farewell, *, flushed: bool) -> None:
        self._end(left=flushed or farewell.code == NORMAL)

    async def run(self, take: Take) -> bool:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._wait_for_channel(), name="connect")
                tasks.create_task(self._wait(), name="ended")
                tasks.create_task(self._read(take), name="read")
        except* Ended:
            pass
        finally:
            await self._close()
            self.closed.set()
        return self._ended.done() and self._ended.result()

    async def close(self, farewell: Farewell) -> None:
        await self._close()

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._connection.close()
        except TimeoutError:
            pass

    async def _wait_for_channel(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._opened.wait()
        except TimeoutError:
            log.warning(
                "a call over WebRTC had no data channel after %.0f s: its network lets no UDP through", CONNECT_S
            )
            self._end(left=True)

    async def _wait(self) -> None:
        raise Ended(await self._ended)

    async def _read(self, take: Take) -> None:
        while True:
            item = await self._incoming.get()
            self._waiting -= size_of(item)
            await take(item)

    def _end(self, *, left: bool) -> None:
        if not self._ended.done():
            self._ended.set_result(left)

    def _put(self, item: FromClient) -> None:
        if self._waiting > INCOMING_LIMIT:
            self._end(left=True)
            return
        self._waiting += size_of(item)
        self._incoming.put_nowait(item)

    # ── the connection's side ──────────────────────────────────────────────────────────

    def _on_state(self) -> None:
        match self._connection.connectionState:
            case "closed":
                self._end(left=True)
            case "failed":
                self._end(left=False)
            case _:
                pass

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL or self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self._on_message)
        channel.on("close", lambda: self._end(left=True))
        for data in self._early:
            channel.send(data)
        self._early.clear()
        self._opened.set()

    def _on_message(self, message: Any) -> None:
        if isinstance(message, str):
            self._put(message)
        else:
            self._put(ClientError("invalid_json", "Events are text; audio goes over the audio track."))

    def _on_packet(self, sequence: int, packet: Packet) -> None:
        self._hear(self._microphone.push(sequence, packet, self._now()))

    def _hear(self, pieces: list[Piece]) -> None:
        if pieces:
            self._put(b"".join(map(self._decoded, pieces)))

    def _decoded(self, piece: Piece) -> bytes:
        match piece:
            case Packet(data=data):
                return self._decoder.decode(data)
            case Lost(samples, following):
                made_up = max(0.0, samples / RATE - FRAME_S)
                concealed = self._decoder.conceal(made_up) if made_up else b""
                return concealed + self._decoder.recover(following, FRAME_S)
            case Silence(samples):
                return bytes(2 * (samples * IN_RATE // RATE))

    def _next_packet(self) -> bytes | None:
        """What is sent in these 20 ms. Called from the first packet on that can be sent, until the end."""
        self._hear(self._microphone.tick(self._now()))
        frame = self._playout.take()
        self._sending = (frame.turn, 1000 * frame.end / 2 / OUT_RATE) if frame else None
        if frame:
            self._still = 0
            return self._encoder.encode(frame.data)
        self._still += 1
        if self._still > TAIL and self._still % STILL:
            return None
        return self._encoder.encode(bytes(2 * OUT_FRAME))

    def _note_sent(self, sequence: int) -> None:
        if self._sending:
            self._heard.note(Sent(sequence, *self._sending, self._now()))

    def _on_report(self, highest: int) -> None:
        self._tell_played(self._heard.by_report(highest))

    def _tell_played(self, sent: Sent | None) -> None:
        if sent:
            self._put(Played(sent.turn, sent.ms))


def size_of(item: FromClient) -> int:
    return len(item) if isinstance(item, str | bytes) else 100
