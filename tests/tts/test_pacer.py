"""The pacer: what may be sent when, and what was heard by then."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vita_duplex.tts.pacer import Pacer

RATE = 1000
"""So that a sample is a millisecond."""


def pacer(*, client_pauses: bool = False, lead_ms: int = 200) -> Pacer:
    return Pacer(RATE, lead_ms, client_pauses=client_pauses)


def test_the_lead_is_due_at_once_and_no_more() -> None:
    p = pacer()
    assert (p.due(5.0), p.wait(200, 5.0), p.heard(5.0)) == (200, 0.0, 0)
    p.send(200, 5.0)
    assert (p.due(5.0), p.wait(40, 5.0), p.drained(5.0)) == (0, 0.04, 0.2)


def test_what_was_heard_makes_room() -> None:
    p = pacer()
    p.send(200, 5.0)
    assert [(p.heard(t), p.due(t)) for t in (5.0, 5.125, 5.25, 9.0)] == [(0, 0), (125, 125), (200, 200), (200, 200)]


def test_heard_never_exceeds_sent() -> None:
    p = pacer()
    p.send(50, 1.0)
    assert p.heard(100.0) == p.sent == 50
    assert p.drained(100.0) == 0


def test_after_an_underrun_the_clock_starts_again() -> None:
    p = pacer()
    p.send(100, 0.0)
    assert p.heard(3.0) == 100  # ran out at 0.1
    p.send(100, 3.0)
    assert [p.heard(t) for t in (3.0, 3.0625, 3.125)] == [100, 162, 200]


def test_a_client_that_pauses_hears_nothing_during_a_hold() -> None:
    p = pacer(client_pauses=True)
    p.send(200, 0.0)
    p.hold(0.125)
    assert (p.heard(0.125), p.heard(9.0)) == (125, 125)
    assert (p.due(9.0), p.wait(40, 9.0), p.drained(9.0)) == (0, None, None)
    p.resume(10.0)
    assert [p.heard(t) for t in (10.0, 10.0625, 10.5)] == [125, 187, 200]
    assert p.due(10.0) == 125


def test_a_client_that_does_not_pause_plays_out_what_it_has() -> None:
    p = pacer(client_pauses=False)
    p.send(200, 0.0)
    p.hold(0.125)
    assert (p.heard(0.125), p.heard(0.1875), p.heard(9.0)) == (125, 187, 200)
    assert (p.due(9.0), p.wait(40, 9.0)) == (0, None)
    p.resume(10.0)
    assert (p.heard(10.0), p.due(10.0)) == (200, 200)
    p.send(100, 10.0)
    assert [p.heard(t) for t in (10.0, 10.0625)] == [200, 262]


def test_a_hold_after_all_was_heard_does_not_invent_samples() -> None:
    for client_pauses in (True, False):
        p = pacer(client_pauses=client_pauses)
        p.send(100, 0.0)
        p.hold(1.0)
        p.resume(2.0)
        assert p.heard(50.0) == 100
        p.send(100, 50.0)
        assert [p.heard(t) for t in (50.0, 50.0625, 60.0)] == [100, 162, 200]


def test_a_hold_before_the_first_sample_delays_it() -> None:
    p = pacer(client_pauses=True)
    p.hold(0.0)
    assert p.wait(40, 1.0) is None
    p.resume(2.0)
    assert (p.wait(40, 2.0), p.heard(3.0)) == (0.0, 0)
    p.send(40, 3.0)
    assert p.heard(3.03125) == 31


def test_repeated_holds_and_resumes_change_nothing() -> None:
    p = pacer(client_pauses=True)
    p.send(200, 0.0)
    p.resume(0.125)  # was not held
    assert p.heard(0.125) == 125
    p.hold(0.125)
    p.hold(0.5)
    assert p.heard(0.5) == 125
    p.resume(1.0)
    p.resume(1.0625)
    assert p.heard(1.0625) == 187


actions = st.lists(
    st.tuples(st.sampled_from(["send", "hold", "resume", "look"]), st.integers(1, 300), st.floats(0, 0.5)), max_size=40
)


@settings(max_examples=120)
@given(actions, st.booleans(), st.sampled_from([40, 200, 1000]), st.sampled_from([1000, 22_050, 24_000]))
def test_the_lead_is_kept_and_heard_only_grows(
    script: list[tuple[str, int, float]], client_pauses: bool, lead_ms: int, rate: int
) -> None:
    p = Pacer(rate, lead_ms, client_pauses=client_pauses)
    now, heard, held = 0.0, 0, False
    for action, samples, passed in script:
        now += passed
        match action:
            case "send" if p.wait(samples, now) == 0:
                p.send(samples, now)
            case "hold":
                p.hold(now)
                held = True
            case "resume":
                p.resume(now)
                held = False
        assert heard <= p.heard(now) <= p.sent
        heard = p.heard(now)
        assert p.sent - heard <= rate * lead_ms // 1000
        assert (p.wait(samples, now) is None) == held


@settings(max_examples=80)
@given(st.integers(1, 200), st.floats(0, 100), st.integers(0, 200))
def test_after_the_wait_the_samples_are_due(samples: int, now: float, sent: int) -> None:
    p = pacer()
    p.send(sent, now)
    wait = p.wait(samples, now)
    assert wait is not None
    assert p.due(now + wait + 1e-9) >= samples
    assert wait == 0 or p.due(now + wait - 0.0011) < samples
