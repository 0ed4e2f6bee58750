"""Who is doubted, for what, and until when: scripts of reports."""

import pytest

from tests.support.virtual_time import run
from vita_duplex.engine.health import FAILURE_S, FAILURES, RETRY_S, UNUSED_S, WINDOW_S, Cause, Health, Standing
from vita_duplex.engine.instances.scripted import ScriptedInstance
from vita_duplex.engine.messages import Query
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import PartFailed


def reported(*reports: tuple[float, int, Cause], sessions: int = 4) -> Health:
    """The health of an instance after reports of (moment, session, cause)."""
    health = Health()
    for now, session, cause in reports:
        health.report(cause, session, sessions, now)
    return health


@pytest.mark.parametrize("cause", ["slow", "failing"])
def test_one_sessions_reports_make_only_that_session_avoid_the_instance(cause: Cause) -> None:
    health = reported((0, 1, cause), (1, 1, cause), (2, 1, cause))
    assert (health.doubted_by(1), health.doubted_by(2), health.doubted_by(None)) == (True, False, False)
    assert (health.doubted, health.suspected) == (False, True)


@pytest.mark.parametrize("cause", ["slow", "failing"])
def test_two_sessions_that_report_the_same_within_a_window_are_enough_for_all(cause: Cause) -> None:
    assert reported((0, 1, cause), (WINDOW_S - 1, 2, cause)).doubted_by(3)
    assert not reported((0, 1, cause), (WINDOW_S, 2, cause)).doubted


def test_different_causes_do_not_add_up() -> None:
    health = reported((0, 1, "slow"), (0, 2, "failing"))
    assert not health.doubted
    assert health.doubted_by(1)
    assert health.doubted_by(2)


def test_of_many_sessions_a_share_has_to_report() -> None:
    """Under load a few stalls are no evidence: nobody else is moved, so nothing flaps."""
    few: list[tuple[float, int, Cause]] = [(n, n, "slow") for n in range(6)]
    assert not reported(*few, sessions=64).doubted
    assert reported(*few, (6, 6, "slow"), sessions=64).doubted


def test_what_a_session_takes_back_is_no_evidence_and_other_causes_stay() -> None:
    health = reported((0, 1, "slow"), (0, 2, "failing"))
    assert health.withdraw("slow", 1)
    assert not health.withdraw("slow", 2), "it had not said so"
    health.report("slow", 3, 4, 1)
    assert not health.doubted
    assert health.doubted_by(2)


def test_an_instance_that_cannot_compute_is_avoided_by_all() -> None:
    health = Health()
    assert not health.suspected
    health.broken = True
    assert health.doubted_by(None)


def test_a_session_goes_round_an_instance_that_failed_it_and_comes_back_when_it_computed() -> None:
    a, b = ScriptedInstance("a"), ScriptedInstance("b")
    pool = Pool([a, b])
    first, second = pool.seat(), pool.seat()
    first.failed(a, 0)
    assert [first.serving(slot) for slot in (0, 1)] == [b, b]
    assert [second.serving(slot) for slot in (0, 1)] == [b, a], "bound the other way round"
    second.failed(a, 1)
    assert pool.doubted == {"a"}
    assert pool.seat().serving(0) is b
    pool.trust(a)
    assert pool.doubted == set()
    assert first.serving(0) is a


def test_when_all_are_doubted_every_request_stays_where_it_belongs() -> None:
    instances = [ScriptedInstance(name) for name in "ab"]
    pool = Pool(instances)
    seats = [pool.seat() for _ in range(3)]
    before = [seat.serving(0) for seat in seats]
    for seat in seats:
        for instance in instances:
            seat.stalled(instance, 0)
    assert pool.doubted == {"a", "b"}
    assert [seat.serving(0) for seat in seats] == before


def test_requests_of_no_session_report_too() -> None:
    a, b = ScriptedInstance("a"), ScriptedInstance("b")
    pool = Pool([a, b])
    for now in (0, 1):
        pool.report("failing", a, now)
    with pool.lend(()) as lent:
        assert lent is b


def test_an_instance_that_cannot_warm_up_is_left_to_its_supervisor() -> None:
    async def script() -> None:
        cold, other = ScriptedInstance("a"), ScriptedInstance("b")
        cold.crash()
        pool = Pool([cold, other])
        await pool.warm()
        assert pool.doubted == {"a"}
        assert pool.works == {"a": False, "b": True}

    run(script())


def test_instances_that_are_up_and_of_which_none_can_warm_up_are_an_error() -> None:
    class Wrong(ScriptedInstance):
        async def warm(self, query: Query) -> None:
            raise PartFailed(self.name, "the question does not fit")

    async def script() -> None:
        with pytest.raises(PartFailed, match="does not fit"):
            await Pool([Wrong("a"), Wrong("b")]).warm()
        pool = Pool([Wrong("a"), ScriptedInstance("b")])
        await pool.warm()
        assert pool.doubted == {"a"}

    run(script())


# ── parts that are no instance ─────────────────────────────────────────────────────────


def test_a_part_works_until_a_use_fails_and_again_when_one_succeeds() -> None:
    part = Standing()
    assert part.works(0)
    part.note(False, 1)
    assert not part.works(1000)
    part.note(True, 1001)
    assert part.works(1002)


def test_a_local_part_is_probed_when_nobody_has_used_it_for_a_while_and_at_once_when_a_use_fails() -> None:
    part = Standing()
    assert part.wants_probe(0)
    part.note(True, 0)
    assert not part.wants_probe(UNUSED_S - 1)
    assert part.wants_probe(UNUSED_S)
    part.note(True, UNUSED_S)
    part.note(False, UNUSED_S + 1)
    assert part.wants_probe(UNUSED_S + 1)
    part.probed(UNUSED_S + 1)
    part.note(False, UNUSED_S + 1)
    assert not part.wants_probe(UNUSED_S + RETRY_S)
    assert part.wants_probe(UNUSED_S + 1 + RETRY_S)


def test_a_part_in_the_cloud_is_never_probed_and_failures_in_a_row_are_believed_for_a_while() -> None:
    part = Standing(local=False)
    assert not part.wants_probe(1000)
    for now in range(FAILURES):
        assert part.works(now), "it may be the text"
        part.note(False, now)
    assert not part.works(FAILURES)
    assert not part.wants_probe(1000)
    assert part.works(FAILURES - 1 + FAILURE_S)
    part.note(True, 200)
    part.note(False, 201)
    assert part.works(202)
