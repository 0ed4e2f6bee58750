"""The media of one aiortc connection: our packets out, the other side's packets in, without aiortc's own codecs.

aiortc's sender keeps the sequence numbers of its packets to itself, and its receiver knows neither concealment nor DTX.
So both are replaced where aiortc calls them. The names with an underscore are aiortc 1.16's; the version is pinned.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

from aiortc import RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver, clock
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import RtcpRrPacket, RtcpSrPacket, RtpPacket

from vita_duplex.server.webrtc.incoming import Packet
from vita_duplex.server.webrtc.opus import duration

FRAME_S = 0.02
LATE_S = 0.1
"""Frames that are later than this are not caught up with: the other side would have to keep them all."""
RTP_HEADER = struct.Struct("!BBHII")
RTP_VERSION = 0x80
RATE = 48_000

NextPacket = Callable[[], bytes | None]
OnPacket = Callable[[int, Packet], None]
OnSent = Callable[[int], None]
OnReport = Callable[[int], None]


class Media:
    """Sends what `next_packet` gives every 20 ms, and tells what comes."""

    def __init__(self, connection: RTCPeerConnection, next_packet: NextPacket, on_sent: OnSent) -> None:
        """`on_sent` is told the sequence number of each packet."""
        self._transceiver: RTCRtpTransceiver = connection.addTransceiver("audio", direction="sendrecv")
        opus = [one for one in RTCRtpSender.getCapabilities("audio").codecs if one.mimeType == "audio/opus"]
        self._transceiver.setCodecPreferences(opus)
        self._next_packet = next_packet
        self._on_sent = on_sent
        self._sender: Any = self._transceiver.sender
        self._receiver: Any = self._transceiver.receiver
        self._sender._run_rtp = self._send
        self._source: int | None = None  # SSRC of the microphone

    @property
    def round_trip_s(self) -> float | None:
        """By the latest receiver report; None before the first."""
        rtt: float | None = self._sender._RTCRtpSender__rtt
        return rtt

    def listen(self, on_packet: OnPacket, on_report: OnReport) -> None:
        """`on_packet` is told sequence numbers and packets, `on_report` the highest number that the other side has."""
        heard_of = self._sender._handle_rtcp_packet

        async def handle_rtcp(packet: Any) -> None:
            await heard_of(packet)
            if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
                for report in packet.reports:
                    if report.ssrc == self._sender._ssrc:
                        on_report(report.highest_sequence)

        async def handle_rtp(packet: RtpPacket, arrival_time_ms: int) -> None:
            codecs = self._receiver._RTCRtpReceiver__codecs
            samples = duration(packet.payload)
            if packet.payload_type not in codecs or not 0 < samples <= RATE * 0.12:
                return
            streams = self._receiver._RTCRtpReceiver__remote_streams
            if packet.ssrc not in streams:
                streams.clear()  # one microphone: it may begin anew, not multiply
                streams[packet.ssrc] = StreamStatistics(RATE)
            streams[packet.ssrc].add(packet)
            on_packet(packet.sequence_number, Packet(packet.timestamp, packet.payload, samples))

        self._sender._handle_rtcp_packet = handle_rtcp
        self._receiver._handle_rtp_packet = handle_rtp

    async def _send(self, codec: Any) -> None:
        """In the place of aiortc's own loop, with the events and counts that its other methods go by."""
        sender = self._sender
        sender._RTCRtpSender__rtp_started.set()
        now = asyncio.get_running_loop().time
        began = due = now()
        sequence, origin = 0, int.from_bytes(sender._ssrc.to_bytes(4, "big")[::-1], "big")
        try:
            while True:
                if payload := self._next_packet():
                    timestamp = (origin + round((due - began) * RATE)) & 0xFFFFFFFF
                    header = RTP_HEADER.pack(RTP_VERSION, codec.payloadType, sequence, timestamp, sender._ssrc)
                    await sender.transport._send_rtp(header + payload)
                    self._on_sent(sequence)
                    sequence = (sequence + 1) & 0xFFFF
                    sender._RTCRtpSender__ntp_timestamp = clock.current_ntp_time()
                    sender._RTCRtpSender__rtp_timestamp = timestamp
                    sender._RTCRtpSender__octet_count += len(payload)
                    sender._RTCRtpSender__packet_count += 1
                due = max(due + FRAME_S, now() - LATE_S)
                await asyncio.sleep(due - now())
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            sender._RTCRtpSender__rtp_exited.set()
