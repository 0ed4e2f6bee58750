"""Audio on the wire: every code of G.711, and what of a sine survives it."""

import sys
import warnings

import numpy as np
import pytest

from vita_duplex.engine.audio import Samples
from vita_duplex.server.audio.formats import PCMA, PCMU, AudioFormat, pcm
from vita_duplex.server.audio.resample import Resampler

EVERY_CODE = bytes(range(256))
EVERY_VALUE = np.arange(-32768, 32768).astype("<i2").tobytes()


def sine(rate: int, seconds: float = 0.5, hertz: float = 440, level: float = 0.5) -> Samples:
    return np.asarray(level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate), np.float32)


@pytest.mark.parametrize("g711", [PCMU, PCMA])
def test_each_code_means_a_value_that_gets_the_same_code(g711: AudioFormat) -> None:
    levels = g711.decode(EVERY_CODE)
    again = g711.decode(g711.encode(levels))
    assert levels.dtype == np.float32
    assert (again == levels).all()
    assert len(set(levels.tolist())) >= 255  # mu-law has two zeros


@pytest.mark.parametrize(
    ("g711", "code", "value"),
    [(PCMU, 0x00, -32124), (PCMU, 0x80, 32124), (PCMU, 0xFF, 0), (PCMU, 0x7F, 0), (PCMU, 0xEF, 132),
     (PCMA, 0x2A, -32256), (PCMA, 0xAA, 32256), (PCMA, 0xD5, 8), (PCMA, 0x55, -8)],
)  # fmt: skip
def test_the_corners_of_the_tables_are_those_of_the_recommendation(g711: AudioFormat, code: int, value: int) -> None:
    assert round(float(g711.decode(bytes([code]))[0]) * 32768) == value


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="audioop is gone")
def test_every_value_gets_the_code_the_standard_library_gives_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import audioop
    samples = pcm(16_000).decode(EVERY_VALUE)
    assert PCMU.encode(samples) == audioop.lin2ulaw(EVERY_VALUE, 2)
    assert PCMA.encode(samples) == audioop.lin2alaw(EVERY_VALUE, 2)
    for g711, convert in ((PCMU, audioop.ulaw2lin), (PCMA, audioop.alaw2lin)):
        assert pcm(16_000).encode(g711.decode(EVERY_CODE)) == convert(EVERY_CODE, 2)


@pytest.mark.parametrize("g711", [PCMU, PCMA])
@pytest.mark.parametrize("level", [0.9, 0.1, 0.02])
def test_a_sine_keeps_the_quality_of_the_telephone(g711: AudioFormat, level: float) -> None:
    wave = sine(8000, level=level)
    noise = g711.decode(g711.encode(wave)) - wave
    assert 10 * np.log10(np.mean(wave**2) / np.mean(noise**2)) > 33  # dB; G.712 asks for it down to -30 dBm0


@pytest.mark.parametrize("wire", [pcm(24_000), pcm(16_000), PCMU, PCMA], ids=lambda wire: f"{wire.type} {wire.rate}")
@pytest.mark.parametrize("sizes", [[1], [7, 160, 0], [441], [4000]])
def test_a_sine_in_chunks_of_any_size_equals_the_whole(wire: AudioFormat, sizes: list[int]) -> None:
    """Both ways: from the wire to 16 kHz inside, and from a voice at 24 kHz to the wire."""
    for rate_in, rate_out in ((wire.rate, 16_000), (24_000, wire.rate)):
        data = pcm(rate_in).encode(sine(rate_in)) if rate_in != wire.rate else wire.encode(sine(rate_in))
        source = wire if rate_in == wire.rate else pcm(rate_in)
        samples = source.decode(data)
        whole = Resampler(rate_in, rate_out)
        expected = np.concatenate([whole.push(samples), whole.finish()])
        parts, at, chunked = [], 0, Resampler(rate_in, rate_out)
        while at < len(samples):
            for size in sizes:
                chunk = source.decode(data[at * source.width : (at + size) * source.width])
                parts.append(chunked.push(chunk))
                at += size
        np.testing.assert_allclose(np.concatenate([*parts, chunked.finish()]), expected, atol=1e-6)


def test_louder_than_full_scale_is_clipped_not_wrapped() -> None:
    loud = np.array([2.0, -2.0, np.inf], np.float32)
    for wire in (pcm(24_000), PCMU, PCMA):
        values = wire.decode(wire.encode(loud))
        assert (values[0], values[1], values[2]) == (pytest.approx(1, abs=0.03), pytest.approx(-1, abs=0.03), values[0])
