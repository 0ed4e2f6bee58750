"""Real ears on real speech: how quiet it may be, how short a word, and that Silero's silence stays silence."""

from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import sounds
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.vad.endpoint import WINDOW, Endpoint, EndpointConfig, Mark
from vita_duplex.vad.silero import Silero

pytestmark = pytest.mark.real
ROOM = sounds.white(seconds=1.0, level=10 ** (-75 / 20))
"""A quiet room."""


@pytest.fixture(scope="module")
def silero() -> Silero:
    return Silero(amplify=True)


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


def speech_windows(silero: Silero, dbfs: float) -> NDArray[np.bool_]:
    """Of each human clip at that level, shape [clips, windows]."""
    clips = [in_a_room(at_level(sounds.clip(path.stem), dbfs)) for path in sorted(sounds.DATA.glob("*.flac"))]
    length = max(map(len, clips)) // WINDOW * WINDOW
    together = np.stack([np.pad(one, (0, max(0, length - len(one))))[:length] for one in clips])
    states, found = np.stack([silero.start()] * len(clips)), []
    for at in range(0, length, WINDOW):
        probabilities, states = silero.probabilities(together[:, at : at + WINDOW], states)
        found.append(probabilities >= 0.5)
    return np.stack(found, axis=1)


def test_speech_is_heard_at_minus_40_dbfs(silero: Silero) -> None:
    clear, quiet = speech_windows(silero, -20.0), speech_windows(silero, -40.0)
    assert quiet[clear].mean() >= 0.95
    assert quiet[~clear].mean() <= 0.01
    assert quiet.any(axis=1).all()


@pytest.mark.parametrize("word", ["Stop.", "Yes.", "No.", "Wait.", "Hey!", "What?", "Why?", "Okay."])
@pytest.mark.parametrize("dbfs", [-20.0, -40.0])
def test_a_word_of_one_syllable_is_an_utterance(silero: Silero, word: str, dbfs: float) -> None:
    assert len(utterances(silero, in_a_room(at_level(sounds.speech(word), dbfs)))) == 1


@pytest.mark.parametrize("noise", ["white", "pink", "click", "chirp", "throat", "music"])
@pytest.mark.parametrize("dbfs", [-20.0, -50.0])
def test_noise_is_no_utterance_however_quiet(silero: Silero, noise: str, dbfs: float) -> None:
    assert utterances(silero, in_a_room(at_level(getattr(sounds, noise)(), dbfs))) == []
