"""Real ears on real speech: how quiet it may be, how short a word, and that Silero's silence stays silence."""

from typing import cast

import numpy as np
import pytest
import sounds

from vita_duplex.engine.seams import INPUT_RATE, Samples
from vita_duplex.vad.endpoint import WINDOW, Endpoint, EndpointConfig, Mark
from vita_duplex.vad.silero import Silero

pytestmark = pytest.mark.real
ROOM = sounds.white(seconds=1.0, level=10 ** (-75 / 20))
"""A quiet room."""
LEVELS = [-6.0, -20.0, -30.0, -40.0, -55.0]


@pytest.fixture(scope="module")
def silero() -> Silero:
    return Silero()


def at_level(samples: Samples, dbfs: float) -> Samples:
    """With the root mean square of its louder windows at so many decibels."""
    levels = np.sqrt(np.mean(np.square(samples[: len(samples) // 512 * 512].reshape(-1, 512)), axis=1))
    loud = np.sqrt(np.mean(np.square(levels[levels > 0.1 * levels.max()])))
    return np.asarray(np.clip(samples * 10 ** (dbfs / 20) / loud, -1, 1), np.float32)


def in_a_room(samples: Samples) -> Samples:
    samples = np.pad(samples, INPUT_RATE)
    return cast(Samples, samples + np.resize(ROOM, samples.size))


def utterances(silero: Silero, samples: Samples) -> list[Mark]:
    endpoint, state, found = Endpoint(EndpointConfig()), silero.start()[None], []
    for window in np.pad(samples, (0, 2 * INPUT_RATE))[: (len(samples) // WINDOW + 50) * WINDOW].reshape(-1, WINDOW):
        probability, state = silero.probabilities(window[None], state)
        found += [mark for mark in endpoint.push(float(probability[0])) if mark.kind == "ended"]
    return found


@pytest.mark.parametrize("name", ["goforward", "sense-0930", "sense-0880", "something"])
def test_a_clip_is_heard_at_any_level(silero: Silero, name: str) -> None:
    spans = []
    for level in LEVELS:
        found = utterances(silero, in_a_room(at_level(sounds.clip(name), level)))
        assert found, f"nothing heard at {level} dBFS"
        spans.append((found[0].speech_start, found[-1].speech_end))
    starts, ends = np.array(spans).T / INPUT_RATE
    assert np.ptp(starts) <= 0.2
    assert np.ptp(ends) <= 0.2


@pytest.mark.parametrize("word", ["Stop.", "Yes.", "No.", "Wait.", "Hey!", "What?", "Why?", "Okay."])
@pytest.mark.parametrize("dbfs", [-20.0, -40.0])
def test_a_word_of_one_syllable_is_an_utterance(silero: Silero, word: str, dbfs: float) -> None:
    assert len(utterances(silero, in_a_room(at_level(sounds.speech(word), dbfs)))) == 1


@pytest.mark.parametrize("noise", ["white", "pink", "click", "chirp", "throat", "music"])
@pytest.mark.parametrize("dbfs", [-20.0, -50.0])
def test_noise_is_no_utterance_however_quiet(silero: Silero, noise: str, dbfs: float) -> None:
    assert utterances(silero, in_a_room(at_level(getattr(sounds, noise)(), dbfs))) == []
