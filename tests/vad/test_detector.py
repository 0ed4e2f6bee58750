"""One detector for all sessions: who waits is heard in one run, and nobody notices that the others are there."""

import asyncio
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import soundfile
from threadpoolctl import ThreadpoolController, threadpool_info

from tests.support.virtual_time import InlineExecutor, run
from vita_duplex.cli.main import main
from vita_duplex.engine.ports import PartFailed, Probabilities, VadState, Windows
from vita_duplex.vad.detector import TICK_S, Detector
from vita_duplex.vad.endpoint import WINDOW
from vita_duplex.vad.silero import Silero


class CountingVad:
    """Probability and state: how many windows of this session came before, plus the window's first sample."""

    def __init__(self) -> None:
        self.runs: list[tuple[float, int]] = []
        """Loop time and number of windows of each run."""

    def start(self) -> VadState:
        return np.zeros(1, np.float32)

    def probabilities(self, windows: Windows, states: VadState) -> tuple[Probabilities, VadState]:
        self.runs.append((round(asyncio.get_running_loop().time(), 6), len(windows)))
        return states[:, 0] + windows[:, 0], states + 1


def windows(*firsts: float) -> Windows:
    return np.repeat(np.array(firsts, np.float32)[:, None], WINDOW, axis=1)


class Ear:
    """One session."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.state = detector, detector.start()

    async def hear(self, *firsts: float) -> list[float]:
        probabilities, self.state = await self.detector.probabilities(windows(*firsts), self.state)
        return [round(float(one), 3) for one in probabilities]


def test_a_single_session_never_waits() -> None:
    async def script() -> None:
        vad, loop = CountingVad(), asyncio.get_running_loop()
        ear = Ear(Detector(vad, InlineExecutor()))
        for number in range(5):
            began = loop.time()
            assert await ear.hear(0.5) == [number + 0.5]
            assert loop.time() == began
            await asyncio.sleep(0.032)
        assert [n for _, n in vad.runs] == [1] * 5

    run(script())


def test_sixty_four_sessions_are_heard_in_few_runs_and_each_keeps_its_own_state() -> None:
    async def script() -> None:
        vad = CountingVad()
        detector = Detector(vad, InlineExecutor())

        async def session(number: int) -> None:
            ear = Ear(detector)
            await asyncio.sleep(number * 0.0005)
            for place in range(20):
                due = asyncio.get_running_loop().time() + 0.032
                assert await ear.hear(number / 100) == [round(place + number / 100, 3)]
                assert asyncio.get_running_loop().time() - due <= TICK_S - 0.032 + 1e-9
                await asyncio.sleep(due - asyncio.get_running_loop().time())

        await asyncio.gather(*map(session, range(64)))
        assert sum(n for _, n in vad.runs) == 64 * 20
        assert len(vad.runs) <= 0.7 / TICK_S
        times = np.array([at for at, _ in vad.runs])
        assert np.diff(times).min() >= TICK_S - 1e-6

    run(script())


def test_a_backlog_is_heard_in_order_beside_others_windows() -> None:
    async def script() -> None:
        vad = CountingVad()
        detector = Detector(vad, InlineExecutor())
        long, short, first = Ear(detector), Ear(detector), Ear(detector)
        answers = await asyncio.gather(first.hear(0), long.hear(0.1, 0.2, 0.3), short.hear(0.7))
        assert answers == [[0], [0.1, 1.2, 2.3], [0.7]]
        assert [n for _, n in vad.runs] == [1, 2, 1, 1]

    run(script())


def test_a_session_that_ends_while_it_waits_leaves_the_others_alone() -> None:
    async def script() -> None:
        vad = CountingVad()
        detector = Detector(vad, InlineExecutor())
        first, gone, stays = Ear(detector), Ear(detector), Ear(detector)
        asked = [asyncio.create_task(ear.hear(0.5)) for ear in (first, gone, stays)]
        await asyncio.sleep(TICK_S / 2)
        asked[1].cancel()
        assert await asked[2] == [0.5]
        assert [n for _, n in vad.runs] == [1, 1]

    run(script())


class LateExecutor(InlineExecutor):
    """Its results come a moment later."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        done = super().submit(fn, *args, **kwargs)
        late: Future[Any] = Future()
        asyncio.get_running_loop().call_later(0.005, lambda: late.set_result(done.result()))
        return late


def test_a_session_that_ends_during_a_run_leaves_the_others_alone() -> None:
    async def script() -> None:
        detector = Detector(CountingVad(), LateExecutor())
        first, gone, stays = Ear(detector), Ear(detector), Ear(detector)
        asked = [asyncio.create_task(ear.hear(0.5)) for ear in (first, gone, stays)]
        await asyncio.sleep(TICK_S + 0.003)
        asked[1].cancel()
        assert await asyncio.wait_for(asked[2], 1) == [0.5]

    run(script())


class SickVad(CountingVad):
    """Fails when it is told to."""

    sick = True

    def probabilities(self, windows: Windows, states: VadState) -> tuple[Probabilities, VadState]:
        if self.sick:
            raise MemoryError
        return super().probabilities(windows, states)


def test_a_run_that_fails_is_told_and_the_next_one_works() -> None:
    async def script() -> None:
        vad = SickVad()
        ear = Ear(Detector(vad, InlineExecutor()))
        with pytest.raises(PartFailed, match="vad: speech is not detected") as failure:
            await ear.hear(0.5)
        assert failure.value.part == "vad"
        assert not ear.detector.standing.works(asyncio.get_running_loop().time())
        vad.sick = False
        assert await ear.hear(0.5) == [0.5]
        assert ear.detector.standing.works(asyncio.get_running_loop().time())

    run(script())


@pytest.mark.real
def test_silero_hears_many_at_once_as_it_hears_each_alone() -> None:
    sound, _ = soundfile.read("tests/data/jfk-americans.flac", dtype="float32")
    vad, sessions, length = Silero(), 16, 60
    sounds = [np.roll(sound, -5000 * n)[: length * WINDOW].reshape(length, WINDOW) for n in range(sessions)]

    def alone(own: Windows) -> Sequence[float]:
        state, found = vad.start()[None], []
        for window in own:
            probability, state = vad.probabilities(window[None], state)
            found.append(float(probability[0]))
        return found

    states, together = np.stack([vad.start()] * sessions), np.empty((sessions, length))
    for place in range(length):
        together[:, place], states = vad.probabilities(np.stack([own[place] for own in sounds]), states)
    expected = np.array([alone(own) for own in sounds])
    assert np.abs(together - expected).max() < 1e-5
    assert expected.max() > 0.95
    assert expected.min() < 0.05


def test_the_command_computes_matrix_products_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vita-duplex", "key", "somebody"])
    with ThreadpoolController().select(internal_api="openblas").limit(limits=2):
        with pytest.raises(SystemExit):
            main()
        threads = [pool["num_threads"] for pool in threadpool_info() if pool["internal_api"] == "openblas"]
        assert set(threads) == {1}
