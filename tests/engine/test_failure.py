"""Engines that crash, hang or err in the middle of things: the other one goes on, and they come back. Virtual time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest

from tests.support.conversations import QUERY, Conversation, conversation
from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import InlineExecutor, run
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.instances.supervisor import (
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    PROBE_LIMIT_S,
    Backoff,
    RunBlocking,
    Supervisor,
)
from vita_duplex.engine.messages import AssistantMessage, Query, UserMessage
from vita_duplex.engine.notices import PartTrouble, Roles, TurnAudio, TurnEnded, TurnRecorded, TurnStarted, VerdictGiven
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import PartFailed, Probabilities, VadState, Windows
from vita_duplex.engine.turn_record import TurnRecord
from vita_duplex.tts.voices.scripted import HummingVoice
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.scripted import LevelVad

TEXT = "One two three four five. Six seven eight nine ten. Eleven twelve."
SAID = ["One two three four five.", "Six seven eight nine ten.", "Eleven twelve."]
WORDS = len(TEXT.split())


def pair(*replies: ScriptedReply) -> tuple[ScriptedInstance, ScriptedInstance]:
    """The first one by script; the second never fails by itself."""
    sound = [reply.model_copy(update={"fails_after": None, "hangs_after": None}) for reply in replies]
    return ScriptedInstance("a", replies), ScriptedInstance("b", tuple(sound))


def reply(**fields: object) -> ScriptedReply:
    return ScriptedReply.model_validate({"text": TEXT, "token_s": 0.02, **fields})


async def ask(talk: Conversation) -> None:
    await talk.speak(1.0)
    await talk.be_silent(0.6)


def record(talk: Conversation, number: int = 0) -> TurnRecord:
    return talk.all(TurnRecorded)[number].record


def longest_gap(talk: Conversation) -> float:
    """Seconds of silence at the client between the samples of a reply."""
    gap, played_until = 0.0, None
    for time, notice in talk.told:
        if isinstance(notice, TurnAudio):
            gap = max(gap, time - played_until) if played_until is not None else 0.0
            played_until = max(time, played_until or 0.0) + len(notice.samples) / HummingVoice().rate
    return gap


async def whole_audio(pieces: Sequence[str] = SAID) -> np.ndarray:
    """Cut into other pieces where the text falls silent for a while."""
    return np.concatenate([part async for part in _hum(pieces)])


async def _hum(pieces: Sequence[str]) -> AsyncGenerator[np.ndarray]:
    for text in pieces:
        async for part in HummingVoice().synthesise(text):
            yield part


@pytest.mark.parametrize("way", ["fails_after", "hangs_after"])
@pytest.mark.parametrize("words", [0, 1, 2, 5, 6, WORDS])
def test_wherever_an_engine_stops_the_other_one_says_the_rest_and_nothing_twice(way: str, words: int) -> None:
    async def script() -> None:
        instances = pair(reply(**{way: words}))
        async with conversation(instances=instances) as talk:
            await ask(talk)
            await talk.silent_until(TurnRecorded)
            assert " ".join(talk.text(1)) == " ".join(SAID)
            assert np.array_equal(talk.audio(1), await whole_audio(talk.text(1)))
            assert talk.endings() == [(1, "completed", None)]
            assert longest_gap(talk) <= 1.0
            assert talk.all(PartTrouble) == []
            [(_, successor)] = record(talk).moves
            assert (record(talk).instance, successor) == ("a", "b")
            [moved] = instances[1].queries
            assert moved.answer_so_far == (" ".join(TEXT.split()[: words - 1]) if words else None)
            assert talk.session.dialogue.history()[-1] == AssistantMessage(TEXT)
            assert [one.running for one in instances] == [0, 0]

    run(script())


@pytest.mark.parametrize("moment_s", [0.4, 0.66, 0.7, 0.9, 1.3, 2.0])
def test_an_engine_that_dies_takes_no_session_with_it_and_roles_say_who_serves(moment_s: float) -> None:
    """The reply is under way from 0.6 s after the speech; by then the engine may have said all of it."""

    async def script() -> None:
        instances = pair(reply(token_s=0.1))
        async with conversation(instances=instances) as talk:
            await talk.speak(1.0)
            await talk.be_silent(moment_s)
            instances[0].crash()
            talk.pool.tell()
            await talk.silent_until(TurnRecorded)
            assert talk.text(1) == SAID
            assert np.array_equal(talk.audio(1), await whole_audio())
            assert longest_gap(talk) <= 1.0
            async with watched(talk.pool):
                await asyncio.sleep(1)
            await ask(talk)
            await talk.silent_until(TurnRecorded, 2)
            assert record(talk, 1).instance == "a", "bound again"
            assert [(r.generator, r.monitor) for r in talk.all(Roles)] == [("a", "b"), ("b", "b"), ("a", "b")]

    run(script())


def test_the_roles_are_told_when_an_answer_moves_though_nobody_watches_the_engines() -> None:
    async def script() -> None:
        async with conversation(instances=pair(reply(hangs_after=4))) as talk:
            await ask(talk)
            await talk.silent_until(TurnRecorded)
            assert [(r.generator, r.monitor) for r in talk.all(Roles)] == [("a", "b"), ("b", "b")]

    run(script())


def test_a_monitor_that_dies_while_it_judges_is_replaced_and_the_query_is_answered() -> None:
    async def script() -> None:
        instances = pair(reply(token_s=0.1), reply(verdict_s=0.4, text="Six seven."))
        async with conversation(instances=instances) as talk:
            await ask(talk)
            await talk.silent_until(TurnStarted)
            await talk.speak(1.0)
            await talk.be_silent(0.3)
            assert instances[1].running == 1, "the monitor judges"
            instances[1].crash()
            await talk.silent_until(TurnEnded, 2)
            assert [notice.accepted for notice in talk.all(VerdictGiven)] == [True, True]
            assert talk.endings() == [(1, "cancelled", "turn_detected"), (2, "completed", None)]
            [(_, successor)] = record(talk, 1).moves
            assert successor == "a"
            assert talk.all(PartTrouble) == []

    run(script())


def test_noise_that_was_judged_by_a_dying_monitor_costs_the_reply_nothing() -> None:
    async def script() -> None:
        instances = pair(reply(token_s=0.1), reply(p1=0.05, verdict_s=0.4))
        async with conversation(instances=instances) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.speak(0.5)
            await talk.be_silent(0.3)
            instances[1].crash()
            await talk.silent_until(TurnEnded)
            assert [notice.accepted for notice in talk.all(VerdictGiven)] == [True, False]
            assert talk.text(1) == SAID
            assert np.array_equal(talk.audio(1), await whole_audio())

    run(script())


def test_without_any_engine_the_client_is_told_and_the_session_lives_on() -> None:
    async def script() -> None:
        instances = pair(reply(), reply(), reply())
        async with conversation(instances=instances) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            for instance in instances:
                instance.crash()
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)], "all of it was generated before"
            await ask(talk)
            await talk.silent_until(VerdictGiven, 2)
            assert [(n.accepted, n.reason) for n in talk.all(VerdictGiven)] == [(True, "verdict"), (False, "failed")]
            assert {n.message for n in talk.all(PartTrouble)} == {"its engine died"}
            instances[1].restart()
            await ask(talk)
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings()[1][1] == "completed"
            assert UserMessage("a question") in talk.session.dialogue.history()

    run(script())


def test_both_die_in_mid_answer_what_is_there_is_said_and_the_turn_has_failed() -> None:
    async def script() -> None:
        instances = pair(reply(token_s=0.2))
        async with conversation(instances=instances) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            instances[0].crash()
            await talk.be_silent(0.5)
            assert instances[1].running == 1, "it went on"
            instances[1].crash()
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "failed", "instance_failed")]
            assert TEXT.startswith(" ".join(talk.text(1)))
            assert [notice.part for notice in talk.all(PartTrouble)] == ["b"]

    run(script())


def test_two_that_fail_in_turn_hand_the_answer_to_and_fro() -> None:
    async def script() -> None:
        instances = pair(reply(token_s=0.2))
        async with conversation(instances=instances) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            for failing in (0, 1, 0):
                instances[failing].crash()
                await talk.be_silent(0.3)
                instances[failing].restart()
            await talk.silent_until(TurnRecorded)
            assert talk.text(1) == SAID
            assert [name for _, name in record(talk).moves] == ["b", "a", "b"]

    run(script())


def test_an_error_that_every_engine_makes_ends_the_turn_after_one_try_of_each() -> None:
    async def script() -> None:
        replies = reply(fails_after=4, token_s=0.2), reply(fails_after=6)
        both = ScriptedInstance("a", replies[:1]), ScriptedInstance("b", replies[1:])
        async with conversation(instances=both) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "failed", "instance_failed")]
            assert talk.text(1) == [" ".join(TEXT.split()[:5])]
            assert [len(one.queries) for one in both] == [1, 1]

    run(script())


def test_one_that_hangs_is_asked_nothing_until_it_has_said_something() -> None:
    async def script() -> None:
        instances = pair(reply(hangs_after=3), reply(), reply())
        async with conversation(instances=instances) as talk:
            for number in (1, 2):
                await ask(talk)
                await talk.silent_until(TurnRecorded, number)
            assert [record(talk, number).instance for number in (0, 1)] == ["a", "b"]
            async with watched(talk.pool):
                await asyncio.sleep(1)
            await ask(talk)
            await talk.silent_until(TurnRecorded, 3)
            assert record(talk, 2).instance == "a", "it was found to answer"

    run(script())


def test_the_limits_are_settings_and_without_another_engine_there_is_more_patience() -> None:
    async def script() -> None:
        slow = reply(token_s=2.0, text="One two.")
        for count, expected in ((1, 0), (2, 1)):
            instances = [ScriptedInstance(name, (slow,)) for name in "ab"[:count]]
            async with conversation(instances=instances) as talk:
                await ask(talk)
                await talk.silent_until(TurnRecorded)
                assert len(record(talk).moves) == expected
                assert record(talk).status == "completed", "the second is given all the time it needs"
        patient = DuplexConfig(first_limit_s=5, stall_limit_s=5)
        async with conversation(slow, config=patient) as talk:
            await ask(talk)
            await talk.silent_until(TurnRecorded)
            assert record(talk).moves == []

    run(script())


def test_an_engine_that_lets_the_verdict_deadline_pass_is_avoided_until_it_says_something() -> None:
    async def script() -> None:
        alone = ScriptedInstance("a", (reply(hangs_after=0), reply()))
        async with conversation(instances=[alone]) as talk:
            await ask(talk)
            await talk.silent_until(VerdictGiven)
            assert talk.all(VerdictGiven)[0].reason == "deadline"
            assert not talk.seat.relies_on(alone)
            await ask(talk)
            await talk.silent_until(TurnRecorded, 2)
            assert record(talk, 1).status == "completed"
            assert talk.seat.relies_on(alone)

    run(script())


def test_an_engine_that_fails_at_once_is_not_asked_first_at_every_turn() -> None:
    async def script() -> None:
        failing = ScriptedInstance("a", (reply(fails_after=0),))
        async with conversation(instances=[failing, ScriptedInstance("b", (reply(),))]) as talk:
            for number in (1, 2, 3):
                await ask(talk)
                await talk.silent_until(TurnRecorded, number)
            assert [record(talk, number).instance for number in range(3)] == ["a", "b", "b"]
            assert len(failing.queries) == 1

    run(script())


def test_one_sessions_stall_moves_that_session_and_no_other() -> None:
    async def script() -> None:
        instances = pair(reply(hangs_after=3), reply())
        pool = Pool(instances)
        async with conversation(pool=pool) as first, conversation(pool=pool) as second:
            await ask(first)
            await first.silent_until(TurnRecorded)
            assert record(first).moves
            assert not first.seat.relies_on(instances[0])
            assert second.seat.relies_on(instances[0])
            assert pool.doubted == set()
            await asyncio.sleep(0)
            assert len(second.all(Roles)) == 1, "nothing has changed for the second"

    run(script())


# ── starting again ─────────────────────────────────────────────────────────────────────


async def at_once(work: Callable[[], None]) -> None:
    work()


@asynccontextmanager
async def watched(pool: Pool, run_blocking: RunBlocking = at_once) -> AsyncIterator[None]:
    running = asyncio.create_task(Supervisor(pool, run_blocking).run())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def attempts(ups: Callable[[float], bool], until: float) -> list[float]:
    """When a backoff that is asked ten times a second wants a start."""
    backoff = Backoff()
    moments = [n / 10 for n in range(int(until * 10))]
    return [now for now in moments if backoff.is_due(ups(now), now)]


def test_what_does_not_start_is_tried_less_and_less_often() -> None:
    tried = attempts(lambda now: False, 300)
    waits = np.diff(tried)
    assert tried[0] == 0
    assert waits[:7] == pytest.approx([1, 2, 4, 8, 16, 32, 60], abs=0.21)
    assert waits[7:] == pytest.approx(LONGEST_WAIT_S, abs=0.21)


def test_after_a_while_of_being_up_it_begins_anew_and_before_that_it_does_not() -> None:
    """It starts at the first attempt, crashes half a second later, and again after a minute."""
    tried = attempts(lambda now: now < 10 or 10 < now < 10.5 or 11.5 < now < 70 or now > 70, 100)
    assert tried == [10.0, 11.5, 70.0]


class Stubborn(ScriptedInstance):
    """Starts at the third attempt."""

    def __init__(self) -> None:
        super().__init__("a")
        self.tried: list[float] = []

    def restart(self) -> None:
        self.tried.append(asyncio.get_running_loop().time())
        if len(self.tried) < 3:
            raise PartFailed(self.name, "no memory")
        super().restart()


def test_a_dead_engine_is_started_again_with_growing_waits_and_its_sessions_are_told() -> None:
    async def script() -> None:
        dead = Stubborn()
        pool = Pool([dead, ScriptedInstance("b")])
        seat = pool.seat()
        async with watched(pool):
            await asyncio.sleep(1)
            assert dead.tried == []
            dead.crash()
            await asyncio.sleep(0.3)
            assert seat.changed.is_set()
            assert seat.serving(0).name == "b"
            await asyncio.sleep(10)
            assert np.diff(dead.tried) == pytest.approx([FIRST_WAIT_S, 2 * FIRST_WAIT_S], abs=0.6)
            assert dead.healthy
            assert pool.doubted == set()
            assert seat.serving(0) is dead

    run(script())


def test_an_engine_that_computes_nothing_is_started_again_though_its_process_lives() -> None:
    class Frozen(ScriptedInstance):
        frozen = True

        async def warm(self, query: Query) -> None:
            if self.frozen:
                await asyncio.sleep(3600)

        def restart(self) -> None:
            self.frozen = False

    async def script() -> None:
        frozen = Frozen("a")
        pool = Pool([frozen])
        async with watched(pool):
            await asyncio.sleep(60)
            assert frozen.frozen, "nobody has complained"
            pool.doubt(frozen)
            await asyncio.sleep(PROBE_LIMIT_S - 0.5)
            assert frozen.frozen, "it may just be busy"
            await asyncio.sleep(1.0)
            assert not frozen.frozen
            assert pool.doubted == set()

    run(script())


def test_an_engine_that_was_started_again_is_asked_only_when_it_has_computed_something() -> None:
    class Cold(ScriptedInstance):
        async def warm(self, query: Query) -> None:
            await asyncio.sleep(5)

    async def script() -> None:
        cold, other = Cold("a"), ScriptedInstance("b")
        pool = Pool([cold, other])
        seat = pool.seat()
        async with watched(pool):
            cold.crash()
            await asyncio.sleep(1)
            assert cold.healthy
            assert seat.serving(0) is other
            await asyncio.sleep(5)
            assert seat.serving(0) is cold

    run(script())


def test_an_engine_that_is_up_and_cannot_compute_is_probed_less_and_less_often() -> None:
    """A server whose `/health` is well and whose completions are broken."""

    class Broken(ScriptedInstance):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.broken, self.probed = True, list[float]()

        async def warm(self, query: Query) -> None:
            self.probed.append(asyncio.get_running_loop().time())
            if self.broken:
                raise PartFailed(self.name, "500, internal error")

        def restart(self) -> None:
            """Somebody else's to start."""

    async def script() -> None:
        broken, other = Broken("a"), ScriptedInstance("b")
        pool = Pool([broken, other])
        seat = pool.seat()
        async with watched(pool):
            await asyncio.sleep(5)
            assert broken.probed == [], "nobody has complained"
            seat.failed(broken, asyncio.get_running_loop().time())
            await asyncio.sleep(100)
            attempts = sorted(set(broken.probed))
            waits = [FIRST_WAIT_S * 2**n for n in range(6)]
            assert np.diff(attempts) == pytest.approx(waits, abs=0.6)
            assert pool.doubted == {"a"}
            assert pool.works == {"a": False, "b": True}
            assert seat.serving(0) is other
            broken.broken = False
            await asyncio.sleep(LONGEST_WAIT_S)
            assert seat.serving(0) is broken

    run(script())


def test_an_engine_that_is_reported_again_and_again_though_it_computes_is_avoided_for_longer_and_longer() -> None:
    """It can compute something small and fails every real request."""

    async def script() -> None:
        a, b = ScriptedInstance("a"), ScriptedInstance("b")
        pool = Pool([a, b])
        seat = pool.seat()
        asked = []
        async with watched(pool):
            for _ in range(600):
                await asyncio.sleep(0.1)
                if seat.serving(0) is a:
                    now = asyncio.get_running_loop().time()
                    asked.append(now)
                    seat.failed(a, now)
        assert len(asked) <= 8
        assert np.diff(asked)[-1] > 10

    run(script())


def test_starting_one_engine_keeps_nobody_waiting() -> None:
    async def slowly(work: Callable[[], None]) -> None:
        await asyncio.sleep(40)
        work()

    async def script() -> None:
        instances = pair(reply(), reply())
        async with conversation(instances=instances) as talk, watched(talk.pool, slowly):
            instances[0].crash()
            for number in (1, 2):
                await ask(talk)
                await talk.silent_until(TurnRecorded, number)
            assert [record(talk, number).instance for number in (0, 1)] == ["b", "b"]
            await asyncio.sleep(40)
            assert instances[0].healthy

    run(script())


# ── at the server ──────────────────────────────────────────────────────────────────────


def test_a_session_outlives_both_engines_and_new_ones_are_refused_meanwhile() -> None:
    async def script() -> None:
        server = scripted_server(QUERY)
        assert server.parts is not None
        instances = server.parts.pool.instances
        async with connected(server) as socket:
            await socket.until("session.created")
            for instance in instances:
                assert isinstance(instance, ScriptedInstance)
                instance.crash()
            assert not server.parts.ready
            await socket.speak()
            assert (await socket.until("error"))["error"]["code"] == "a_failed"
            async with connected(server) as refused:
                error = (await refused.until("error"))["error"]
                assert (error["code"], "being started again" in error["message"]) == ("server_failed", True)
            async with watched(server.parts.pool):
                await asyncio.sleep(1)
            assert server.parts.ready
            await socket.speak()
            done = await socket.until("response.done")
            assert done["response"]["status"] == "completed"

    run(script())


class Detecting(LevelVad):
    """Fails when it is told to."""

    sick = False

    def probabilities(self, windows: Windows, states: VadState) -> tuple[Probabilities, VadState]:
        if self.sick:
            raise MemoryError
        return super().probabilities(windows, states)


def test_a_detector_that_fails_ends_no_session_each_is_told_once_and_hears_again() -> None:
    async def script() -> None:
        server, vad = scripted_server(QUERY), Detecting()
        assert server.parts is not None
        server.parts = replace(server.parts, detector=Detector(vad, InlineExecutor()))
        async with connected(server) as one, connected(server) as two:
            for number in (1, 2):
                vad.sick = True
                await asyncio.gather(one.speak(), two.speak())
                for socket in (one, two):
                    assert [error["error"]["code"] for error in socket.all("error")] == ["vad_failed"] * number
                    assert socket.closed is None
                vad.sick = False
                await asyncio.gather(one.speak(), two.speak())
                for socket in (one, two):
                    done = await socket.until("response.done", number)
                    assert done["response"]["status"] == "completed"

    run(script())


def test_an_utterance_in_which_the_detector_fails_ends_there() -> None:
    async def script() -> None:
        vad = Detecting()
        async with conversation(reply(), vad=vad) as talk:
            await talk.speak(1.0)
            vad.sick = True
            await talk.speak(1.0)
            assert [notice.part for notice in talk.all(PartTrouble)] == ["vad"]
            assert talk.all(VerdictGiven)[0].accepted
            vad.sick = False
            await talk.silent_until(TurnRecorded)
            assert record(talk).status == "completed"

    run(script())
