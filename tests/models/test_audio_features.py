"""Audio features: the original's numbers, streaming, lengths, noise, and audio that is refused."""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support.paths import GOLDEN
from vita_duplex.models.audio_features import (
    FLOOR,
    MAX_FRAMES,
    AudioError,
    AudioFeatures,
    AudioTooLong,
    AudioTooShort,
    Cmvn,
    Features,
    clip_tokens,
    frame_count,
    token_count,
)
from vita_duplex.models.audio_resample import RATE, Samples, resample, resampled_length

TABLE = json.loads((GOLDEN / "audio_features.json").read_text())
RATES = [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 47_999, 48_000]


@pytest.fixture(scope="module")
def golden() -> dict[str, Features]:
    return load_file(GOLDEN / "audio_features.safetensors")


def difference(ours: Features, theirs: Features) -> float:
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    return float(np.abs(ours - theirs).max())


def noise(samples: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def test_the_waveform_is_that_of_the_formula(golden: dict[str, Features]) -> None:
    p = TABLE["wave_params"]
    n = np.arange(48_000, dtype=np.float64)
    t = n / RATE
    turn = 2 * np.pi
    hum = p["a1"] * np.sin(turn * p["f1"] * t) * (0.5 + 0.5 * np.sin(turn * p["am"] * t))
    sweep = p["a2"] * np.sin(turn * (p["f0"] * t + 0.5 * p["k"] * t * t))
    hiss = p["an"] * (((n.astype(np.int64) * 1103515245 + 12345) % 65536) / 32768 - 1)
    assert difference((hum + sweep + hiss).astype(np.float32), golden["wave"]) < 1e-6


def test_the_energies_are_the_original_ones(golden: dict[str, Features]) -> None:
    assert difference(AudioFeatures().fbank(golden["wave"]), golden["fbank_raw"]) < 2e-3


@pytest.mark.parametrize(("wave", "features"), [("wave", "features_cmvn"), ("burst_wave", "burst_features")])
def test_the_features_are_the_original_ones(golden: dict[str, Features], wave: str, features: str) -> None:
    assert difference(AudioFeatures().extract(golden[wave]), golden[features]) < 2e-3


def test_of_two_channels_the_first_counts(golden: dict[str, Features]) -> None:
    features = AudioFeatures().extract(golden["stereo_wave"])
    assert difference(features, golden["stereo_features"]) < 2e-3
    assert np.array_equal(features, AudioFeatures().extract(golden["stereo_wave"][0]))


@pytest.mark.parametrize("row", TABLE["table"], ids=lambda row: str(row["samples"]))
def test_a_clip_has_the_original_number_of_frames_and_tokens(row: dict[str, Any], golden: dict[str, Features]) -> None:
    samples = row["samples"]
    assert (frame_count(samples), token_count(frame_count(samples))) == (row["frames"], row["tokens"])
    if row["tokens"]:
        assert clip_tokens(samples) == row["tokens"]
    if row["tokens"] and samples <= 48_000:
        features = AudioFeatures().extract(golden["wave"][:samples])
        assert difference(features, golden["features_cmvn"][: row["frames"]]) < 2e-3


@pytest.mark.parametrize("rate", [8000, 44100])
def test_another_rate_is_resampled_as_the_original_does(rate: int, golden: dict[str, Features]) -> None:
    assert difference(resample(golden[f"sr{rate}_wave"], rate), golden[f"sr{rate}_resampled"]) < 1e-5


@pytest.mark.parametrize("rate", [8000, 44100])
def test_features_at_another_rate_are_the_original_ones(rate: int, golden: dict[str, Features]) -> None:
    """Two tones leave bins that hold nothing but rounding errors; in all others the features agree closely."""
    raw = AudioFeatures().fbank(golden[f"sr{rate}_resampled"])
    features, theirs = AudioFeatures().extract(golden[f"sr{rate}_wave"], rate), golden[f"sr{rate}_features"]
    assert difference(features, theirs) < 0.05
    heard = raw > 3  # the tones reach 25; steps of 16 bit squared
    assert heard.mean() > 0.2
    assert difference(features[heard], theirs[heard]) < 2e-3


@pytest.mark.parametrize("rate", RATES)
def test_the_length_at_16_khz_is_known_beforehand(rate: int) -> None:
    for samples in (0, 1, 2, 999, 1000, 4411):
        assert len(resample(noise(samples), rate)) == resampled_length(samples, rate)


def test_digital_silence_is_the_floor_and_with_noise_it_is_not() -> None:
    silence = np.zeros(RATE * 2, np.float32)
    assert np.allclose(AudioFeatures().fbank(silence), np.log(FLOOR), atol=1e-5)
    noisy = AudioFeatures(dither=1.0).fbank(silence).mean(axis=0)
    assert noisy[0] == pytest.approx(-2.7, abs=0.5)
    assert noisy[-1] == pytest.approx(8.5, abs=0.3)
    assert noisy.mean() == pytest.approx(4.4, abs=0.3)


def test_noise_leaves_the_mean_of_audible_features_alone(golden: dict[str, Features]) -> None:
    """As measured with the original: 20 runs over two seconds move the mean by 0.004, single values by 0.019 (std)."""
    clip = golden["wave"][:32_000]
    runs = np.stack([AudioFeatures(dither=1.0, seed=seed).extract(clip) for seed in range(20)])
    assert np.abs(runs.mean(axis=0) - AudioFeatures().extract(clip)).max() < 0.02
    assert 0.005 < runs.std(axis=0).max() < 0.04
    print(f"dither: mean moves {np.abs(runs.mean(axis=0) - AudioFeatures().extract(clip)).max():.4f}, "
          f"std {runs.std(axis=0).max():.4f}")  # fmt: skip


def test_noise_of_one_seed_is_always_the_same() -> None:
    silence = np.zeros(RATE, np.float32)
    first, again, other = (AudioFeatures(dither=1.0, seed=seed).extract(silence) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_checkpoint_may_bring_its_own_statistics() -> None:
    own = Cmvn.of_settings({"cmvn_means": [1.0] * 80, "cmvn_istds": [0.5] * 80})
    samples = noise(RATE)
    features = AudioFeatures(own).extract(samples)
    assert np.allclose(features, (AudioFeatures().fbank(samples) - 1) * 0.5)
    with pytest.raises(AudioError, match="cmvn_istds"):
        Cmvn.of_settings({"cmvn_means": [1.0] * 80, "cmvn_istds": [0.5] * 79})


def test_audio_without_a_token_is_refused() -> None:
    with pytest.raises(AudioTooShort, match="1359 samples") as caught:
        AudioFeatures().extract(noise(1359))
    assert caught.value.samples == 1359
    assert AudioFeatures().extract(noise(1360)).shape == (7, 80)
    assert AudioFeatures().extract(noise(680), 8000).shape == (7, 80)
    for too_short in (lambda: AudioFeatures().extract(noise(0), 8000), lambda: clip_tokens(679, 8000)):
        with pytest.raises(AudioTooShort):
            too_short()


def test_audio_beyond_the_positions_of_the_encoder_is_refused() -> None:
    limit = 400 + (MAX_FRAMES - 1) * 160 + 159
    assert clip_tokens(limit) == 2500
    with pytest.raises(AudioTooLong):
        clip_tokens(limit + 1)
    with pytest.raises(AudioTooLong, match="600"):
        AudioFeatures().extract(np.zeros(600 * 8000, np.float32), 8000)


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(RATE, np.int16),
        np.zeros((1, 1, RATE), np.float32),
        np.zeros((0, RATE), np.float32),
        np.full(RATE, np.nan, np.float32),
        np.full(RATE, np.inf, np.float32),
        np.full(RATE, -1e10, np.float32),
        np.array(1.0),
    ],
    ids=["integers", "three dimensions", "no channel", "nan", "infinite", "absurdly loud", "one number"],
)
def test_what_is_no_audio_is_refused(audio: Features) -> None:
    with pytest.raises(AudioError):
        AudioFeatures().extract(audio)


def test_what_is_just_too_loud_gives_numbers() -> None:
    assert np.isfinite(AudioFeatures().extract(np.sin(np.arange(RATE)) * 0.99e9)).all()


@pytest.mark.parametrize("rate", [0, -16_000, 999, 10**9])
def test_an_absurd_rate_is_refused(rate: int) -> None:
    with pytest.raises(AudioError, match="rate"):
        AudioFeatures().extract(noise(RATE), rate)


@pytest.mark.parametrize("dither", [-1, float("nan"), 1e9, "1"])
def test_dither_is_a_number_of_steps(dither: Any) -> None:
    with pytest.raises(AudioError, match="dither must be a number from 0 to 32768"):
        AudioFeatures(dither=dither)
