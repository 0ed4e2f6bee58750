"""The echo guard: what is played where, how late it comes back, and that the real canceller leaves people's speech."""

import asyncio
from importlib.util import find_spec
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import oaconvolve

from tests.support import sounds
from tests.support.virtual_time import InlineExecutor, run
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.notices import Notice, TurnAudio, TurnEnded, TurnHeld, TurnResumed
from vita_duplex.engine.ports import Windows
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.echo import FRAME, LONGEST_LAG, Canceller, EchoGuard, Playback, lag
from vita_duplex.vad.echo_presence import EchoPresence
from vita_duplex.vad.endpoint import WINDOW, EndpointConfig
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.scripted import LevelVad
from vita_duplex.vad.silero import Silero


def numbered(first: int, count: int) -> Samples:
    return np.arange(first, first + count, dtype=np.float32)


def heard(playback: Playback, start: int, count: int) -> list[int]:
    return [int(one) for one in playback.between(start, count)]


def test_what_is_sent_ahead_is_played_after_what_was_sent_before() -> None:
    playback = Playback(client_pauses=True)
    playback.play(numbered(1, 4), 10)
    playback.play(numbered(5, 4), 11)  # sent early, played without a gap
    playback.play(numbered(9, 2), 30)  # after the client had run out
    assert heard(playback, 8, 12) == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]
    assert heard(playback, 20, 14) == [0] * 10 + [9, 10, 0, 0]


def test_a_hold_stops_it_and_a_resume_goes_on_at_the_same_sample() -> None:
    playback = Playback(client_pauses=True)
    playback.play(numbered(1, 4), 0)
    playback.play(numbered(5, 4), 0)
    playback.hold(3)
    assert heard(playback, 0, 6) == [1, 2, 3, 0, 0, 0]
    playback.resume(10)
    assert heard(playback, 6, 12) == [0] * 4 + [4, 5, 6, 7, 8, 0, 0, 0]


def test_a_client_that_does_not_pause_plays_what_it_has() -> None:
    playback = Playback(client_pauses=False)
    playback.play(numbered(1, 4), 0)
    playback.hold(2)
    assert heard(playback, 0, 5) == [1, 2, 3, 4, 0]


def test_what_is_stopped_is_not_played_and_the_next_reply_begins_at_once() -> None:
    playback = Playback(client_pauses=True)
    playback.play(numbered(1, 9), 0)
    playback.hold(2)
    playback.stop(3)
    playback.resume(4)
    playback.play(numbered(20, 2), 5)
    assert heard(playback, 0, 8) == [1, 2, 0, 0, 0, 20, 21, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), max_size=12), st.lists(st.integers(1, 30)))
def test_every_sample_is_played_once_and_in_order(sent: list[tuple[int, int]], takes: list[int]) -> None:
    playback, first, at = Playback(client_pauses=True), 1, 0
    for later, length in sent:
        at += later
        playback.play(numbered(first, length), at)
        first += length
    found, start = [], 0
    for length in [*takes, 2000]:
        found += [one for one in heard(playback, start, length) if one]
        start += length
    assert found == list(range(1, first))


def test_a_delay_is_found_in_the_loudness() -> None:
    rng = np.random.default_rng(1)
    played = np.repeat(rng.uniform(-80, -20, 60), 8)[:400].astype(np.float32)
    for late in (0, 13, LONGEST_LAG - 1):
        came = 0.7 * np.roll(played, late) - 20 + rng.normal(0, 3, 400)
        assert lag(came.astype(np.float32), played) == late
    assert lag(rng.uniform(-80, -20, 400).astype(np.float32), played) is None
    assert lag(np.full(400, -80, np.float32), played) is None


real = pytest.mark.skipif(find_spec("pywebrtc_audio") is None, reason="pywebrtc-audio is not installed: make install")


@real
def test_while_nothing_is_played_samples_pass_untouched_and_10_ms_late() -> None:
    canceller, samples = Canceller(), sounds.white(1.0)
    sizes = [1, 511, 512, 37, 160, 4000, 3, 10_776]
    out, at = [], 0
    for size in sizes:
        out.append(canceller.clean(samples[at : at + size], np.zeros(size, np.float32)))
        assert len(out[-1]) == size
        at += size
    assert np.array_equal(np.concatenate(out)[FRAME:], samples[: at - FRAME])


@real
def test_what_comes_back_after_the_last_sample_was_played_is_cancelled_as_well() -> None:
    played = np.concatenate([sounds.white(3.0, 0.1), np.zeros(INPUT_RATE, np.float32)])
    heard = 0.3 * np.roll(played, 3 * INPUT_RATE // 10)
    canceller = Canceller()
    parts = zip(heard.reshape(-1, 800), played.reshape(-1, 800), strict=True)
    clean = np.concatenate([canceller.clean(*part) for part in parts])
    tail = slice(3 * INPUT_RATE + FRAME, 3 * INPUT_RATE + 3 * INPUT_RATE // 10)
    assert np.square(clean[tail]).mean() < 0.01 * np.square(heard[tail]).mean()


REPLY = "The capital of France is Paris. You can visit there and see many things, and it is a very old city."


def room(samples: Samples, delay_ms: int, db: float, seed: int) -> Samples:
    """What comes back: late, weaker, coloured by a small room."""
    fading = np.exp(-6.9 * np.arange(3200) / INPUT_RATE / 0.2)
    response = np.convolve(np.random.default_rng(seed).standard_normal(3200) * fading, [0.6, -0.3, 0.2])
    echo = oaconvolve(samples, response / np.linalg.norm(response))[: len(samples)]
    late = np.pad(echo, (delay_ms * INPUT_RATE // 1000, 0))[: len(samples)]
    return np.asarray(10 ** (db / 20) * late, np.float32)


def speech_windows(silero: Silero, samples: Samples) -> int:
    state, count = silero.start()[None], 0
    for window in samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW):
        probability, state = silero.probabilities(window[None], state)
        count += probability[0] >= 0.5
    return count


@real
@pytest.mark.real
@pytest.mark.parametrize(("delay_ms", "db", "leak"), [(20, -6.0, 2), (120, -18.0, 2), (450, -12.0, 2), (600, -12.0, 8)])
def test_a_session_does_not_hear_itself_and_hears_a_person_over_it(delay_ms: int, db: float, leak: int) -> None:
    """A delay beyond AEC3's reach has to be found first: until then a little leaks."""
    reply = np.tile(sounds.speech(REPLY), 3)
    sent = sounds.soxr.resample(reply, INPUT_RATE, 24_000)
    person = np.zeros_like(reply)
    question = sounds.clip("jfk-ask")
    begin = 2 * len(reply) // 3
    person[begin : begin + len(question)] = question
    echo = room(reply, delay_ms, db, seed=delay_ms) + sounds.white(len(reply) / INPUT_RATE, 0.0003)

    async def cleaned(microphone: Samples) -> Samples:
        guard = EchoGuard(24_000, InlineExecutor(), client_pauses=True)
        out = []
        for at in range(0, len(microphone) - WINDOW, WINDOW):
            if at % (4 * WINDOW) == 0:  # 128 ms at a time, the first time 256: that much ahead
                ahead = (at + 4 * WINDOW) * bool(at), at + 8 * WINDOW
                piece = sent[ahead[0] * 3 // 2 : ahead[1] * 3 // 2]
                guard.note(TurnAudio(1, piece.astype(np.float32), None), at)
            windows = await guard.clean(microphone[at : at + WINDOW].reshape(1, WINDOW), at)
            out.append(windows.reshape(-1))
        return np.concatenate(out)

    silero = Silero()
    assert speech_windows(silero, echo) >= 100, "without the guard it hears itself"
    assert speech_windows(silero, run(cleaned(echo))) <= leak
    assert speech_windows(silero, run(cleaned(echo + person))[begin:]) >= 10


@real
def test_holds_resumes_and_endings_reach_the_playback() -> None:
    guard = EchoGuard(INPUT_RATE, InlineExecutor(), client_pauses=True)
    playback = guard._playback

    def tell(*notices: tuple[Notice, int]) -> None:
        for notice, at in notices:
            guard.note(notice, at)

    async def script() -> None:
        tell((TurnAudio(1, np.ones(16_000, np.float32), None), 0), (TurnHeld(1), 1000))
        assert playback.until == 1000
        tell((TurnResumed(1), 5000))
        held = playback.until
        assert held > 15_000
        tell((TurnEnded(1, "completed", None, ""), 6000))
        assert playback.until == held
        tell((TurnEnded(1, "cancelled", "barge_in", ""), 7000))
        assert playback.until == 7000

    asyncio.run(script())


class NotingGuard:
    """Notes where the microphone was when the client was told something."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def note(self, notice: Notice, at: int) -> None:
        self.told.append(at)

    async def clean(self, windows: Windows, start: int) -> Windows:
        return windows


def test_a_notice_is_placed_on_the_microphones_clock_in_spite_of_jitter_and_gaps() -> None:
    async def script() -> list[int]:
        guard = NotingGuard()
        detector = Detector(LevelVad(), InlineExecutor())
        listener = MicrophoneListener(detector, EndpointConfig(), count(1), None, guard)  # type: ignore[arg-type]
        frame = np.zeros(320, np.float32)
        for number in range(50):
            await asyncio.sleep(0.01 if number % 2 else 0.03)  # in pairs
            assert listener.hear(frame)
        listener.note(TurnHeld(1))
        await asyncio.sleep(5.0)  # the microphone sends nothing
        assert listener.hear(frame)
        listener.note(TurnHeld(1))
        return guard.told

    first, second = run(script())
    assert second == pytest.approx(51 * 320, abs=8)
    assert first == pytest.approx(50 * 320, abs=0.02 * INPUT_RATE)


# ── whether there is an echo ───────────────────────────────────────────────────────────


def talk(seconds: float, seed: int) -> Samples:
    """Noise that is loud and soft in turn, as speech is."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.uniform(0, 1, round(seconds * 8)) ** 3, INPUT_RATE // 8)
    return np.asarray(0.2 * loud * rng.standard_normal(loud.size), np.float32)


def presences(presence: EchoPresence, heard: Samples, played: Samples) -> list[bool]:
    """What is known after each look."""
    known = []
    for at in range(0, len(heard) - WINDOW, WINDOW):
        presence.note(heard[at : at + WINDOW], played[at : at + WINDOW])
        if presence.due:
            presence.look()
            known.append(presence.present)
    return known


def test_an_echo_is_taken_for_granted_and_stays_known() -> None:
    played = talk(30.0, 1)
    assert all(presences(EchoPresence(), room(played, 120, -18.0, seed=2) + sounds.white(30.0, 0.0003), played))


@pytest.mark.parametrize(("loud", "looks"), [(0.0, 2), (0.1, 8), (1.0, 8)])
def test_where_there_is_no_echo_it_is_known_after_a_second_of_silence_or_four_of_speech(
    loud: float, looks: int
) -> None:
    known = presences(EchoPresence(), np.asarray(loud * talk(20.0, 9), np.float32), talk(20.0, 1))
    assert known[: looks - 1] == [True] * (looks - 1)
    assert not any(known[looks - 1 :])


def test_an_echo_that_begins_is_found_within_three_looks_and_one_that_ends_is_forgotten() -> None:
    presence, played = EchoPresence(), talk(60.0, 1)
    echo = room(played, 300, -12.0, seed=3) + sounds.white(60.0, 0.0003)
    assert not presences(presence, np.zeros(5 * INPUT_RATE, np.float32), played)[-1]
    found = presences(presence, echo, played)
    assert found.index(True) <= 4
    assert all(found[found.index(True) :])
    gone = presences(presence, np.zeros_like(played), played)
    assert gone[:9] == [True] * 9
    assert not gone[-1]


def test_while_nothing_is_played_nothing_is_learned() -> None:
    presence = EchoPresence()
    presence.note(talk(5.0, 1), np.zeros(5 * INPUT_RATE, np.float32))
    assert not presence.due


@real
def test_a_guard_that_looks_for_an_echo_leaves_a_microphone_without_one_alone() -> None:
    reply, person = talk(20.0, 1), talk(20.0, 2)

    async def cleaned() -> Samples:
        guard = EchoGuard(INPUT_RATE, InlineExecutor(), client_pauses=True, auto=True)
        guard.note(TurnAudio(1, reply, None), 0)
        parts = [
            await guard.clean(person[at : at + WINDOW].reshape(1, -1), at) for at in range(0, 16 * INPUT_RATE, WINDOW)
        ]
        return np.concatenate([part.reshape(-1) for part in parts])

    known = 6 * INPUT_RATE
    assert np.array_equal(run(cleaned())[known:], person[known - FRAME : 16 * INPUT_RATE - FRAME])
