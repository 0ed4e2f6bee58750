"""The level gate: who is far quieter than the session's speaker does not disturb a reply."""

from collections.abc import Sequence
from functools import cache
from itertools import permutations

import numpy as np
import pytest

from tests.support import sounds
from tests.support.sockets import Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.vad.endpoint import WINDOW, Endpoint, EndpointConfig, Mark
from vita_duplex.vad.level_gate import MEMORY, LevelGate
from vita_duplex.vad.silero import Silero

CONFIG = EndpointConfig()


def loudness(dbfs: float) -> float:
    return float(10 ** (dbfs / 20))


class Microphone:
    """Windows of a level through an endpoint and the gate."""

    def __init__(self, gate: LevelGate) -> None:
        self.gate, self.endpoint = gate, Endpoint(CONFIG)
        self.number = 0

    def hear(self, *levels: float, replying: bool = True) -> list[Mark]:
        """Each level for a window; below -60 it is silence. An end is followed by its verdict: accepted."""
        found: list[Mark] = []
        for dbfs in levels:
            marks = self.endpoint.push(float(dbfs > -60), loudness(dbfs))
            for mark in self.gate.push(marks, loudness(dbfs), replying=replying):
                found.append(mark)
                if mark.kind == "ended":
                    self.number += 1
                    self.gate.ended(self.number)
        return found

    def learn(self, dbfs: float, times: int = 1) -> None:
        for _ in range(times):
            self.hear(*[dbfs] * 10, *SILENCE, replying=False)
            self.gate.note_verdict(self.number, accepted=True)


SILENCE = [-90.0] * 20
WHOLE = ["started", "sustained", "paused", "ended"]


def kinds(marks: Sequence[Mark]) -> list[str]:
    return [mark.kind for mark in marks]


def test_before_anybody_was_accepted_everybody_counts() -> None:
    microphone = Microphone(LevelGate(10))
    assert kinds(microphone.hear(*[-55.0] * 10, *SILENCE)) == WHOLE
    microphone.gate.note_verdict(microphone.number, accepted=False)
    assert microphone.gate.level is None
    assert kinds(microphone.hear(*[-55.0] * 10, *SILENCE)) == WHOLE


@pytest.mark.parametrize(("dbfs", "counts"), [(-20, True), (-29, True), (-31, False), (-50, False), (0, True)])
def test_only_who_is_near_the_speakers_level_counts_during_a_reply(dbfs: float, counts: bool) -> None:
    microphone = Microphone(LevelGate(10))
    microphone.learn(-20)
    assert microphone.gate.level == pytest.approx(-20)
    assert kinds(microphone.hear(*[dbfs] * 10, *SILENCE)) == (WHOLE if counts else [])
    assert kinds(microphone.hear(*[dbfs] * 10, *SILENCE, replying=False)) == WHOLE


def test_speech_that_begins_softly_counts_from_its_first_loud_syllable_with_all_of_its_sound() -> None:
    microphone, plain = Microphone(LevelGate(10)), Endpoint(CONFIG)
    microphone.learn(-20)
    offset = microphone.endpoint.sample
    sound = [*[-45.0] * 4, *[-22.0] * 8]
    assert microphone.hear(*sound[:4]) == []
    (started, sustained) = microphone.hear(*sound[4:])
    (expected, _) = [mark for dbfs in sound for mark in plain.push(float(dbfs > -60))]
    assert (started.kind, sustained.kind) == ("started", "sustained")
    assert started.speech_start == expected.speech_start + offset


def test_a_murmur_that_pauses_and_goes_on_is_not_there_at_all() -> None:
    microphone = Microphone(LevelGate(10))
    microphone.learn(-20)
    murmur = [*[-45.0] * 10, *[-90.0] * 10]
    assert microphone.hear(*murmur, *murmur, *SILENCE) == []
    assert kinds(microphone.hear(*[-20.0] * 10, *SILENCE)) == WHOLE


def test_who_still_murmurs_when_the_reply_is_over_counts_from_then_on() -> None:
    microphone = Microphone(LevelGate(10))
    microphone.learn(-20)
    assert microphone.hear(*[-45.0] * 10) == []
    assert kinds(microphone.hear(*[-45.0] * 2, replying=False)) == ["started", "sustained"]


def test_the_level_follows_the_speaker_and_nobody_else() -> None:
    microphone = Microphone(LevelGate(10))
    microphone.learn(-20)
    for dbfs in range(-20, -45, -3):  # moves away, 3 dB with each utterance
        assert kinds(microphone.hear(*[dbfs] * 10, *SILENCE)) == WHOLE
        microphone.gate.note_verdict(microphone.number, accepted=True)
    microphone.learn(-44, MEMORY)
    level = microphone.gate.level
    assert level is not None
    assert abs(level + 44) < 2.5
    microphone.hear(*[-10.0] * 10, *SILENCE)
    microphone.gate.note_verdict(microphone.number, accepted=False)
    assert microphone.gate.level == level
    microphone.gate.note_verdict(microphone.number, accepted=True)  # repeated
    assert microphone.gate.level == level


def test_speech_that_is_cut_teaches_the_level_of_each_part() -> None:
    gate = LevelGate(10)
    endpoint = Endpoint(EndpointConfig(max_utterance_s=2))
    levels = [*[-20.0] * 40, *[-50.0] * 3, *[-40.0] * 37, *SILENCE]  # it is cut where it is quietest
    number = 0
    for dbfs in levels:
        for mark in gate.push(endpoint.push(float(dbfs > -60), loudness(dbfs)), loudness(dbfs), replying=False):
            if mark.kind == "ended":
                number += 1
                gate.ended(number)
                gate.note_verdict(number, accepted=True)
                assert number > 1 or gate.level == pytest.approx(-20)
    assert number == 2
    assert gate.level == pytest.approx(-30, abs=0.1)


# ── over the wire ──────────────────────────────────────────────────────────────────────

LONG = ScriptedReply(text=" ".join(["abcde"] * 60) + ".")


async def say(socket: Socket, amplitude: float, seconds: float = 1.0) -> None:
    time = np.arange(int(seconds * 24_000)) / 24_000
    tone = amplitude * np.sin(2 * np.pi * 200 * time)
    await socket.say(np.concatenate([tone, np.zeros(24_000)]).astype(np.float32))


@pytest.mark.parametrize("gate", [None, 10])
def test_a_quiet_talker_does_not_hold_the_reply_and_the_sessions_speaker_does(gate: float | None) -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG, vad={"level_gate_db": gate})) as socket:
            await say(socket, 0.3)
            await socket.until("response.output_audio.delta")
            await say(socket, 0.06)  # 14 dB below
            if gate is None:
                assert len(socket.all("vita.hold")) == 1
                return
            assert not socket.all("vita.hold")
            assert len(socket.all("vita.verdict")) == 1
            await say(socket, 0.2)  # 3.5 dB below
            assert len(socket.all("vita.hold")) == 1
            assert (await socket.until("vita.verdict", 2))["accepted"]
            await socket.until("response.done", 2)
            await say(socket, 0.06)  # outside a reply
            assert (await socket.until("vita.verdict", 3))["accepted"]
            # Nobody heard of the murmur: utterances are numbered without it.
            assert [event["utterances"] for event in socket.all("vita.verdict")] == [[1], [2], [3]]

    run(script())


# ── human voices ───────────────────────────────────────────────────────────────────────

SPEAKERS = {
    "narrator": ["sense-0870", "sense-0880", "sense-0890", "sense-0920", "sense-0930"],
    "president": ["jfk-ask", "jfk-americans", "jfk-ask-not"],
    "card player": ["card-001", "card-002", "card-003", "card-005"],
}


@cache
def windows(name: str, change_db: float) -> list[tuple[float, float]]:
    """Probability and loudness of each window of a clip, made louder."""
    silero = _silero()
    state, samples = silero.start()[None], np.pad(sounds.clip(name) * np.float32(loudness(change_db)), (0, INPUT_RATE))
    found = []
    for window in samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW):
        probability, state = silero.probabilities(window[None], state)
        found.append((float(probability[0]), float(np.sqrt(np.mean(window * window)))))
    return found


@cache
def _silero() -> Silero:
    return Silero()


def held_after(gate: LevelGate, name: str, change_db: float = 0, *, replying: bool = True) -> float:
    """Milliseconds of a clip until a reply would be held; infinite if it counts for nothing."""
    endpoint, after = Endpoint(CONFIG), np.inf
    for probability, loud in windows(name, change_db):
        for mark in gate.push(endpoint.push(probability, loud), loud, replying=replying):
            if mark.kind == "sustained":
                after = min(after, endpoint.sample * 1000 / INPUT_RATE)
            if mark.kind == "ended":
                gate.ended(1)
    return after


@pytest.mark.real
def test_human_voices_are_told_apart_by_their_level(capsys: pytest.CaptureFixture[str]) -> None:
    """Each clip is said into a reply after another one of the same speaker was accepted, as loud and quieter."""
    share: dict[int, list[bool]] = {}
    late: list[float] = []
    for names in SPEAKERS.values():
        for accepted, said in permutations(names, 2):
            for change_db in (3, 0, -3, -6, -10, -12, -15, -18, -21):
                gate = LevelGate(10)
                held_after(gate, accepted, replying=False)
                gate.note_verdict(1, accepted=True)
                after = held_after(gate, said, change_db)
                share.setdefault(change_db, []).append(after < np.inf)
                if change_db == 0:
                    late.append(after - held_after(LevelGate(10), said))
    with capsys.disabled():
        print("\n| level of who speaks into the reply, dB | counts |\n|---|---|")
        for change_db, counted in share.items():
            print(f"| {change_db:+d} | {np.mean(counted):.0%} of {len(counted)} |")
        print(f"with the gate the hold is later by {np.median(late):.0f} ms (median), at most {max(late):.0f} ms")
    assert np.mean(share[0]) >= 0.95
    assert np.mean(share[-18]) <= 0.1
