"""Recordings as people bring them: each format, level, rate and damage through the one reader of them all."""

import base64
import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.support.paths import DATA
from vita_duplex.client.recording import read_recording
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.recordings.containers import Unreadable
from vita_duplex.engine.recordings.ogg import samples as packet_samples
from vita_duplex.engine.recordings.reader import read
from vita_duplex.server.http.media import Media, decode_recording

RECORDINGS = DATA / "recordings"
SPEECH, RATE = soundfile.read(DATA / "goforward.flac", dtype="float32")
WITH_AAC = ["voice.m4a", "voice.aac", "video.mp4", "fragments.mp4"]


def wav(samples: Samples = SPEECH, rate: int = RATE, subtype: str | None = None, container: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def likeness(encoded: bytes) -> float:
    """How much a recording sounds like `goforward.flac`: correlation of the two at their best shift."""
    samples, rate = read(encoded, 200)
    heard = soxr.resample(samples, rate, RATE)
    product = np.fft.irfft(np.fft.rfft(heard, 2**18) * np.conj(np.fft.rfft(SPEECH, 2**18)))
    return float(np.max(product) / np.linalg.norm(heard) / np.linalg.norm(SPEECH))


@pytest.mark.parametrize("container", sorted(set(soundfile.available_formats()) - {"RAW", "SD2", "VOC", "WVE", "XI"}))
def test_whatever_libsndfile_writes_is_read(container: str) -> None:
    for subtype in soundfile.available_subtypes(container):
        if subtype.startswith("DWVW"):  # libsndfile reads its own files only
            continue
        try:
            encoded = wav(SPEECH, RATE, subtype, container)
        except (soundfile.LibsndfileError, ValueError):
            continue  # combinations that it does not write at this rate
        assert likeness(encoded) > 0.9, subtype


@pytest.mark.parametrize("name", ["voice.webm", *WITH_AAC])
def test_what_browsers_and_telephones_record_is_read(name: str) -> None:
    if name in WITH_AAC:
        pytest.importorskip("sphn")
    assert likeness((RECORDINGS / name).read_bytes()) > 0.85, "AAC at 24 kbit/s is not the same wave"


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_that_does_not_know_its_length_is_read_to_its_end(size: int) -> None:
    encoded = bytearray(wav())
    at = encoded.find(b"data") + 4
    encoded[at : at + 4] = encoded[4:8] = size.to_bytes(4, "little")
    np.testing.assert_array_equal(read(bytes(encoded), 200)[0], SPEECH)


def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes() -> None:
    webm = (RECORDINGS / "voice.webm").read_bytes()
    samples, rate = read(webm[: len(webm) // 2], 200)
    assert 1 < len(samples) / rate < 2
    flac = (DATA / "goforward.flac").read_bytes()
    with pytest.raises(Unreadable):
        read(flac[:40], 200)


@pytest.mark.parametrize("channel", [0, 1])
def test_speech_in_one_channel_is_heard_whichever_it_is(channel: int) -> None:
    both = np.zeros((len(SPEECH), 2), np.float32)
    both[:, channel] = SPEECH
    both[:, 1 - channel] = 0.2  # a constant is no sound
    np.testing.assert_allclose(read(wav(both, subtype="FLOAT"), 200)[0], SPEECH, atol=1e-6)


def test_channels_of_opposite_phase_do_not_cancel_each_other() -> None:
    samples, _ = read(wav(np.stack([SPEECH, -SPEECH], axis=1), subtype="FLOAT"), 200)
    np.testing.assert_array_equal(samples, SPEECH)


def test_a_constant_offset_is_taken_out_and_a_small_one_left() -> None:
    shifted = (SPEECH - SPEECH.mean() + 0.1).astype(np.float32)
    assert abs(float(read(wav(shifted, subtype="FLOAT"), 200)[0].mean())) < 1e-6
    np.testing.assert_array_equal(read(wav(subtype="FLOAT"), 200)[0], SPEECH)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_rates(rate: int) -> None:
    assert likeness(wav(soxr.resample(SPEECH, RATE, rate), rate)) > 0.9


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "the audio is empty"),
        (b"no sound at all", "cannot be decoded .*; taken are WAV, FLAC"),
        (wav(rate=384_000), "384000 samples a second; at most 192000"),
        (wav(np.full(16_000, np.nan, np.float32), subtype="FLOAT"), "not numbers"),
        (wav(np.zeros(16_000 * 3, np.float32)), "too long: at most 2 s"),
        (b"\0\0\0\x18ftypM4A " + b"\0" * 16, r"its index \(moov\) is missing; taken are"),
        (b"\x1aE\xdf\xa3\x80", "has no sound; taken are"),
        (b"\x1aE\xdf\xa3\x80\x00", "WebM file is damaged"),
    ],
)
def test_what_cannot_be_read_says_why_in_one_line(encoded: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message) as caught:
        read(encoded, 2)
    assert "\n" not in str(caught.value)


def test_films_without_sound_and_with_other_sound_say_so() -> None:
    with pytest.raises(Unreadable, match="the file has no sound"):
        read((DATA / "film-h264.mp4").read_bytes(), 200)
    other = (RECORDINGS / "voice.m4a").read_bytes().replace(b"mp4a", b"alac")
    with pytest.raises(Unreadable, match="the sound in it is alac, not AAC; taken are"):
        read(other, 200)
    vorbis = (RECORDINGS / "voice.webm").read_bytes().replace(b"A_OPUS", b"A_WORM")
    with pytest.raises(Unreadable, match="the sound in it is WORM; taken are"):
        read(vorbis, 200)


def test_no_damage_is_an_error_of_ours() -> None:
    chance = np.random.default_rng(0)
    for name in ("voice.webm", "voice.m4a", "fragments.mp4", "video.mp4"):
        whole = bytearray((RECORDINGS / name).read_bytes())
        for _ in range(40):
            damaged = bytearray(whole)
            for at in chance.integers(0, len(whole), 30):
                damaged[at] = chance.integers(0, 256)
            with suppress(Unreadable):
                read(bytes(damaged[: chance.integers(20, len(whole))]), 200)


@pytest.mark.parametrize(
    ("packet", "length"),
    [(b"\x08", 960), (b"\x78", 960), (b"\xfc", 960), (b"\xfd", 1920), (b"\xff\x03", 2880), (b"\x60", 480)],
)
def test_the_length_of_an_opus_packet(packet: bytes, length: int) -> None:
    assert packet_samples(packet) == length


def chat(encoded: bytes, folder: Path) -> Samples:
    return Media().audio(base64.b64encode(encoded).decode(), "messages").samples


def transcription(encoded: bytes, folder: Path) -> Samples:
    return decode_recording(encoded, "file")


def command(encoded: bytes, folder: Path) -> Samples:
    """`talk`, `ask`, `calibrate`, `bench`."""
    (folder / "question").write_bytes(encoded)
    return (read_recording(folder / "question").samples / 2**15).astype(np.float32)


@pytest.mark.parametrize("way", [chat, transcription, command])
@pytest.mark.parametrize("kind", ["gsm", "right", "webm", "size 0"])
def test_every_way_in_hears_the_same(way: Callable[[bytes, Path], Samples], kind: str, tmp_path: Path) -> None:
    both = np.stack([np.zeros_like(SPEECH), SPEECH], axis=1)
    unfinished = bytearray(wav())
    unfinished[40:44] = bytes(4)
    encoded = {
        "gsm": wav(soxr.resample(SPEECH, RATE, 8000), 8000, "GSM610"),
        "right": wav(both),
        "webm": (RECORDINGS / "voice.webm").read_bytes(),
        "size 0": bytes(unfinished),
    }[kind]
    heard = way(encoded, tmp_path)
    assert abs(len(heard) / 16_000 - len(SPEECH) / RATE) < 0.1
    assert likeness(wav(heard, 16_000)) > 0.9
