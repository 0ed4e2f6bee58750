"""Streaming resampling: where a stream is cut makes no difference."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from vita_duplex.engine.audio import Samples
from vita_duplex.server.audio.resample import Resampler

PAIRS = [(24_000, 16_000), (16_000, 24_000), (16_000, 16_000), (24_000, 24_000)]


def sine(rate: int, seconds: float = 0.5, hertz: float = 440) -> Samples:
    return np.asarray(0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate), np.float32)


def streamed(samples: Samples, sizes: list[int], rate_in: int, rate_out: int) -> Samples:
    """The stream in chunks of these sizes, over and over."""
    resampler = Resampler(rate_in, rate_out)
    parts, at = [], 0
    while at < len(samples):
        for size in sizes:
            parts.append(resampler.push(samples[at : at + size]))
            at += size
    return np.concatenate([*parts, resampler.finish()])


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
@pytest.mark.parametrize("sizes", [[1], [160], [480, 1, 0], [12_000]])
def test_a_stream_in_chunks_equals_the_whole(rate_in: int, rate_out: int, sizes: list[int]) -> None:
    samples = sine(rate_in)
    whole = soxr.resample(samples, rate_in, rate_out)
    parts = streamed(samples, sizes, rate_in, rate_out)
    assert parts.dtype == np.float32
    assert len(parts) == len(whole) == len(samples) * rate_out // rate_in
    np.testing.assert_allclose(parts, whole, atol=1e-5)


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_a_sine_stays_that_sine(rate_in: int, rate_out: int) -> None:
    parts = streamed(sine(rate_in), [333], rate_in, rate_out)
    inner = slice(500, -500)  # the filter rings at the hard ends
    np.testing.assert_allclose(parts[inner], sine(rate_out)[inner], atol=1e-3)


def test_what_does_not_fit_into_the_lower_rate_is_gone() -> None:
    assert np.abs(streamed(sine(24_000, hertz=11_000), [480], 24_000, 16_000)[500:-500]).max() < 1e-3


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=6).filter(sum), st.sampled_from(PAIRS))
def test_any_chunks_give_the_same_samples(sizes: list[int], pair: tuple[int, int]) -> None:
    sizes = [*sizes, 50]
    samples = sine(pair[0])
    np.testing.assert_allclose(streamed(samples, sizes, *pair), streamed(samples, [len(samples)], *pair), atol=1e-6)


def test_an_empty_stream_is_empty() -> None:
    for rate_in, rate_out in PAIRS:
        resampler = Resampler(rate_in, rate_out)
        assert len(resampler.push(np.zeros(0, np.float32))) == 0
        assert len(resampler.finish()) == 0


def test_the_filter_keeps_only_milliseconds_back() -> None:
    for rate_in, rate_out in PAIRS:
        given_out = len(Resampler(rate_in, rate_out).push(sine(rate_in, 1.0)))
        assert rate_out - given_out < 0.03 * rate_out
