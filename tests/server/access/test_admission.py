"""The queue for sessions: bounded, fair between keys, with places and estimates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vita_duplex.server.access.admission import FIRST_GUESS_S, Admission, Ticket
from vita_duplex.server.errors import Refusal


def ticket(admission: Admission, key: str | None, now: float = 0.0) -> Ticket:
    found = admission.ask(key, now, may_wait=True)
    assert isinstance(found, Ticket)
    return found


def test_the_first_come_in_the_next_wait_and_the_rest_are_told_when_to_come_again() -> None:
    admission = Admission(2, 2)
    tickets = [ticket(admission, None) for _ in range(4)]
    assert [one.began for one in tickets] == [0.0, 0.0, None, None]
    assert [admission.place(one) for one in tickets[2:]] == [(1, FIRST_GUESS_S / 2), (2, FIRST_GUESS_S)]
    refused = admission.ask(None, 0.0, may_wait=True)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.retry_after_s) == ("session_limit_reached", 1.5 * FIRST_GUESS_S)


def test_who_cannot_be_told_its_place_does_not_wait() -> None:
    admission = Admission(1, 5)
    ticket(admission, None)
    refused = admission.ask(None, 0.0, may_wait=False)
    assert isinstance(refused, Refusal)
    assert admission.waiting == 0


def test_who_leaves_makes_room_for_the_next() -> None:
    admission = Admission(1, 3)
    first, second, third, fourth = (ticket(admission, None) for _ in range(4))
    admission.leave(third, 1.0)  # gave up waiting
    admission.leave(first, 2.0)
    assert (second.began, third.began, fourth.began) == (2.0, None, None)
    assert admission.place(fourth)[0] == 1
    admission.leave(second, 3.0)
    admission.leave(fourth, 4.0)
    assert (admission.running, admission.waiting) == (0, 0)


def test_a_key_with_many_clients_does_not_keep_the_others_waiting() -> None:
    admission = Admission(3, 10)
    running = [ticket(admission, "greedy") for _ in range(3)]
    greedy = [ticket(admission, "greedy") for _ in range(4)]
    modest = [ticket(admission, "modest") for _ in range(2)]
    assert admission.queue() == [*modest, *greedy]
    admission.leave(running[0], 1.0)
    assert modest[0].began == 1.0
    admission.leave(running[1], 2.0)
    assert greedy[0].began == 2.0, "both have one: first come, first served"
    admission.leave(running[2], 3.0)
    admission.leave(modest[0], 4.0)
    assert (greedy[1].began, modest[1].began) == (3.0, 4.0)


def test_estimates_follow_how_long_sessions_last() -> None:
    admission = Admission(1, 1)
    for start in range(0, 1000, 10):
        admission.leave(ticket(admission, None, start), start + 10)
    ticket(admission, None, 1000)
    assert admission.place(ticket(admission, None, 1000)) == (1, pytest.approx(10, abs=0.1))


def test_short_requests_do_not_count_as_sessions() -> None:
    admission = Admission(1, 1)
    for start in range(100):
        request = admission.ask(None, start, may_wait=False, is_session=False)
        assert isinstance(request, Ticket)
        admission.leave(request, start + 0.8)
    ticket(admission, None, 100)
    refused = admission.ask(None, 100, may_wait=False)
    assert isinstance(refused, Refusal)
    assert refused.retry_after_s == FIRST_GUESS_S


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 20)), max_size=80))
def test_places_are_never_lost_or_given_twice(steps: list[tuple[str, bool, int]]) -> None:
    admission, inside = Admission(3, 4), list[Ticket]()
    for now, (key, leaves, which) in enumerate(steps):
        if leaves and inside:
            admission.leave(inside.pop(which % len(inside)), now)
        elif isinstance(found := admission.ask(key, now, may_wait=True), Ticket):
            inside.append(found)
        running = [one for one in inside if one.began is not None]
        waiting = [one for one in inside if one.began is None]
        assert (admission.running, admission.waiting) == (len(running), len(waiting))
        assert len(running) <= 3
        assert len(waiting) <= 4
        assert not waiting or len(running) == 3, "nobody waits while there is room"
        assert sorted(admission.place(one)[0] for one in waiting) == list(range(1, len(waiting) + 1))
