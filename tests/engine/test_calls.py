"""The ledger of calls, as scripts."""

from vita_duplex.engine.calls import CALL_LIMIT, OPEN_LIMIT_S, Calls, Taken
from vita_duplex.engine.messages import Call

WEATHER = Call("call_1", "get_weather", "{}")
TIME = Call("call_2", "get_time", "{}")


def two_calls() -> Calls:
    calls = Calls()
    assert calls.make(WEATHER, 1, 0)
    assert calls.make(TIME, 1, 0)
    return calls


def test_an_output_completes_its_call_and_waits_to_be_answered() -> None:
    calls = two_calls()
    assert calls.take("call_1", 1) == Taken(WEATHER, late=False)
    assert (calls.state("call_1", 1), calls.state("call_2", 1)) == ("completed", "open")
    assert calls.waiting == {"call_1"}
    assert calls.take("call_2", 2) == Taken(TIME, late=False)
    calls.answered(frozenset({"call_1"}))
    assert calls.waiting == {"call_2"}, "it came after the request that answers the first"


def test_the_first_output_counts() -> None:
    calls = two_calls()
    calls.take("call_1", 1)
    assert calls.take("call_1", 2) == "twice"
    calls.move_on()
    assert calls.take("call_1", 3) == "twice", "it was answered, and is not stale"


def test_an_output_for_an_unknown_call_is_refused() -> None:
    assert two_calls().take("call_3", 1) == "unknown"


def test_a_call_is_made_once() -> None:
    calls = two_calls()
    assert not calls.make(WEATHER, 2, 1)
    calls.forget("call_1")
    assert calls.take("call_1", 1) == "unknown"
    assert calls.make(WEATHER, 2, 1), "its id is free again"


def test_when_the_user_goes_on_open_calls_are_stale_and_their_outputs_wait_for_nothing() -> None:
    calls = two_calls()
    calls.take("call_1", 1)
    calls.move_on()
    assert calls.state("call_2", 2) == "stale"
    assert calls.take("call_2", 2) == Taken(TIME, late=True)
    assert calls.waiting == {"call_1"}, "that output came in time"
    assert calls.take("call_2", 3) == "twice"


def test_a_cancelled_reply_cancels_its_own_calls_only() -> None:
    calls = two_calls()
    calls.make(Call("call_3", "get_time", "{}"), 2, 1)
    calls.cancel(1)
    assert [calls.state(f"call_{n}", 2) for n in (1, 2, 3)] == ["cancelled", "cancelled", "open"]
    assert calls.take("call_1", 2) == Taken(WEATHER, late=True)


def test_a_call_does_not_wait_for_ever() -> None:
    calls = two_calls()
    assert calls.take("call_1", OPEN_LIMIT_S - 1) == Taken(WEATHER, late=False)
    assert calls.state("call_2", OPEN_LIMIT_S) == "stale"
    assert calls.take("call_2", OPEN_LIMIT_S) == Taken(TIME, late=True)


def test_calls_that_never_get_an_output_are_forgotten_the_oldest_first() -> None:
    calls = Calls()
    for number in range(CALL_LIMIT + 1):
        calls.make(Call(f"call_{number}", "f", "{}"), number, number)
    assert calls.take("call_0", 100) == "unknown"
    assert calls.take("call_1", 100) == Taken(Call("call_1", "f", "{}"), late=False)
