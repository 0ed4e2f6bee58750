"""What is made of RTP that is lost, late or left out; what of ours was heard; which offers can be answered."""

import random

import numpy as np
import pytest

from tests.support.seed import SEED
from vita_duplex.server.errors import ClientError
from vita_duplex.server.webrtc.heard import BUFFER_S, HeardPackets, Sent
from vita_duplex.server.webrtc.incoming import Incoming, Lost, Packet, Piece, Silence
from vita_duplex.server.webrtc.offers import check_offer, prefer_fec
from vita_duplex.server.webrtc.opus import IN_RATE, OUT_FRAME, OUT_RATE, Decoder, Encoder, NoOpus, _library, duration

FRAME = 960


def packet(number: int, origin: int = 0) -> Packet:
    return Packet((origin + number * FRAME) % (1 << 32), bytes([number % 256]), FRAME)


def heard(numbers: list[int], *, first: int = 0, origin: int = 0) -> list[Piece]:
    stream, pieces = Incoming(0.0), []
    for place, number in enumerate(numbers):
        pieces += stream.push((first + number) & 0xFFFF, packet(number, origin), place * 0.02)
    return pieces


def brief(pieces: list[Piece]) -> list[object]:
    return [piece.data[0] if isinstance(piece, Packet) else piece for piece in pieces]


@pytest.mark.parametrize("first", [0, 65_530])
@pytest.mark.parametrize("origin", [0, (1 << 32) - 2 * FRAME])
def test_packets_come_in_their_order_however_they_came(first: int, origin: int) -> None:
    assert brief(heard([0, 1, 2, 3, 4, 5, 6, 7], first=first, origin=origin)) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert brief(heard([0, 2, 1, 4, 4, 3, 5], first=first, origin=origin)) == [0, 1, 2, 3, 4, 5]


def test_what_is_lost_is_made_up_with_what_the_next_packet_knows_of_it() -> None:
    assert brief(heard([0, 2, 3, 4, 5])) == [0, Lost(FRAME, b"\2"), 2, 3, 4, 5]
    assert brief(heard([0, 3, 4, 5, 6])) == [0, Lost(2 * FRAME, b"\3"), 3, 4, 5, 6]


def test_a_long_loss_is_silence_but_for_its_end() -> None:
    pieces = heard([0, *range(21, 26)])
    assert brief(pieces)[1:3] == [Silence(20 * FRAME - 4800), Lost(4800, b"\x15")]


def test_a_gap_without_a_loss_is_silence() -> None:
    """DTX: the numbers go on, the time does too."""
    stream = Incoming(0.0)
    stream.push(7, packet(0), 0.0)
    assert stream.push(8, packet(50), 1.0) == [Silence(49 * FRAME), packet(50)]


def test_silence_passes_while_nothing_comes_and_is_not_counted_twice() -> None:
    stream = Incoming(0.0)
    assert stream.tick(5.0) == [], "nobody has begun"
    stream.push(7, packet(0), 10.0)
    assert stream.tick(10.1) == []
    told = [piece.samples for at in range(20) for piece in stream.tick(10.1 + at * 0.05) if isinstance(piece, Silence)]
    assert sum(told) == pytest.approx(0.95 * 48_000, abs=FRAME)
    pieces = stream.push(8, packet(60), 11.2)
    assert sum(told) + sum(piece.samples for piece in pieces) == 60 * FRAME


def test_the_time_of_a_stream_is_kept_whatever_the_network_does() -> None:
    random.seed(SEED)
    for _ in range(200):
        numbers = [number for number in range(1, 300) if random.random() > 0.1]
        numbers = [*numbers, *random.sample(numbers, 20)]
        numbers.sort(key=lambda number: number + random.uniform(0, 2))
        pieces = heard([0, *numbers, *range(300, 310)])
        assert sum(piece.samples for piece in pieces) == 310 * FRAME
        order = [piece.timestamp for piece in pieces if isinstance(piece, Packet)]
        assert order == sorted(set(order))


def test_a_stream_that_begins_anew_is_heard() -> None:
    stream = Incoming(0.0)
    stream.push(7, packet(0), 0.0)
    assert stream.push(40_000, Packet(123_456_789, b"x", FRAME), 1.0)[-1] == Packet(123_456_789, b"x", FRAME)


def test_what_was_played_is_what_had_come_less_what_waits_there() -> None:
    packets = HeardPackets()
    for number in range(600):
        packets.note(Sent(number + 65_000 & 0xFFFF, 1, 20.0 * (number + 1), number * 0.02))
    assert packets.by_now(11.98 + BUFFER_S, None) == Sent(63, 1, 12_000, 599 * 0.02)
    later = packets.by_now(11.98 + BUFFER_S, 0.2)
    assert later is not None
    assert later.ms == 11_900
    reported = packets.by_report(0x3_0000 + 50)
    assert reported is not None
    assert reported.ms == 20 * 587 - 60
    assert packets.by_report(5_000) is None
    assert HeardPackets().by_now(1.0, None) is None


# ── Opus ───────────────────────────────────────────────────────────────────────────────


def has_opus() -> bool:
    try:
        _library()
    except NoOpus:
        return False
    return True


opus = pytest.mark.skipif(not has_opus(), reason="no libopus")


def speech(seconds: float) -> list[bytes]:
    """Packets of something like a voice: a buzz whose pitch and loudness move."""
    time = np.arange(int(seconds * OUT_RATE)) / OUT_RATE
    buzz = np.sign(np.sin(2 * np.pi * (120 + 30 * np.sin(3 * time)) * time)) * (0.6 + 0.4 * np.sin(20 * time))
    data = (8000 * buzz).astype("<i2").tobytes()
    encoder = Encoder()
    return [encoder.encode(data[start : start + 2 * OUT_FRAME]) for start in range(0, len(data), 2 * OUT_FRAME)]


def power(pcm: bytes) -> float:
    return float(np.mean((np.frombuffer(pcm, "<i2") / 32768.0) ** 2))


@opus
def test_packets_are_as_long_as_they_say() -> None:
    packets = speech(1.0)
    assert {duration(one) for one in packets} == {FRAME}
    decoder = Decoder()
    assert {len(decoder.decode(one)) for one in packets} == {2 * IN_RATE // 50}


@opus
def test_a_lost_packet_is_nearer_to_what_it_was_with_the_redundancy_of_the_next() -> None:
    packets, errors = speech(3.0), {"conceal": 0.0, "recover": 0.0}
    for lost in range(20, 140, 7):
        whole, holed = Decoder(), {name: Decoder() for name in errors}
        for one in packets[:lost]:
            for decoder in (whole, *holed.values()):
                decoder.decode(one)
        true = np.frombuffer(whole.decode(packets[lost]), "<i2") / 32768.0
        made = {
            "conceal": holed["conceal"].conceal(0.02),
            "recover": holed["recover"].recover(packets[lost + 1], 0.02),
        }
        for name, pcm in made.items():
            assert len(pcm) == 640
            errors[name] += float(np.sum((np.frombuffer(pcm, "<i2") / 32768.0 - true) ** 2))
    assert errors["recover"] < errors["conceal"]


@opus
@pytest.mark.parametrize("data", [b"\xff", b"\xff\xff\xff", b"", bytes(1275)])
def test_what_is_no_packet_is_no_error(data: bytes) -> None:
    decoder = Decoder()
    decoder.decode(speech(0.1)[0])
    assert len(decoder.decode(data)) > 0


@opus
def test_silence_is_silent() -> None:
    encoder, decoder = Encoder(), Decoder()
    assert power(b"".join(decoder.decode(encoder.encode(bytes(2 * OUT_FRAME))) for _ in range(20))) < 1e-8


@pytest.mark.parametrize(
    ("head", "samples"),
    [(b"\x78", 960), (b"\x7b\x02", 1920), (b"\x80", 120), (b"\x18", 2880), (b"\x60", 480), (b"\x03", 0), (b"", 0)],
)
def test_the_first_bytes_say_how_long_it_is(head: bytes, samples: int) -> None:
    """RFC 6716, section 3.1: hybrid of 20 ms, twice that, CELT of 2.5 ms, SILK of 60 ms, hybrid of 10 ms."""
    assert duration(head) == samples


# ── offers ─────────────────────────────────────────────────────────────────────────────

OFFER = "\r\n".join(
    [
        "v=0",
        "o=- 1 2 IN IP4 127.0.0.1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        "a=fingerprint:sha-256 00:11",
        "a=setup:actpass",
        "a=rtpmap:111 opus/48000/2",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "",
    ]
)


def test_an_offer_is_taken() -> None:
    check_offer(OFFER)


@pytest.mark.parametrize("line", OFFER.split("\r\n")[2:9])
def test_without_one_of_its_lines_it_is_not(line: str) -> None:
    if line == "a=setup:actpass":
        check_offer(OFFER.replace(line, "a=x"))  # browsers always send it, and aiortc assumes it
        return
    with pytest.raises(ClientError):
        check_offer(OFFER.replace(f"{line}\r\n", ""))


def test_the_answer_wants_redundancy_and_keeps_what_it_says_of_that_itself() -> None:
    answer = "a=rtpmap:111 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\n"
    wanted = "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\n"
    assert prefer_fec(answer) == wanted
    assert prefer_fec(wanted) == wanted
