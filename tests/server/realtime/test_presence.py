"""Presence as scripts on a clock of numbers: resume × slow reader × limits × drain × replaced connection."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vita_duplex.config import LimitsConfig
from vita_duplex.server.access.limits import Lifetime, TokenBucket
from vita_duplex.server.realtime.presence import (
    DRAIN_LOOK_S,
    ERROR_BYTES,
    ERRORS_BURST,
    FAREWELL_S,
    HEARTBEAT_S,
    RESUME_S,
    TOO_MANY_ERRORS,
    TOO_SLOW,
    UNREAD_LIMIT,
    Back,
    Beat,
    Broken,
    Close,
    Command,
    Drain,
    End,
    Erred,
    Event,
    GoOn,
    Hold,
    Left,
    Presence,
    State,
    Tell,
)

SESSION_S, IDLE_S = 1000.0, 200.0
HEARD, QUIET, SLOW = "a frame came", "no turn is under way", "too much is unread"
Step = Event | str

LOST_SLOW = Close(4002, TOO_SLOW)
OUTDATED = Close(4001, "the session goes on in another connection")
NO_HEARTBEAT = Close(4002, "no heartbeat")


def closed(reason: str, code: int = 1000) -> Close:
    return Close(code, reason, flushed=True)


class Shell:
    """Wakes a presence at its deadlines and keeps what it commands."""

    def __init__(self, *, resumable: bool, key_s: float | None = None) -> None:
        key = None if key_s is None else TokenBucket(1e-20, key_s, 0.0)
        lifetime = Lifetime(LimitsConfig(session_s=SESSION_S, idle_s=IDLE_S), key, 0.0)
        self.presence = Presence(lifetime, 0.0, resumable=resumable)
        self.now, self.busy = 0.0, True
        self.commands: list[tuple[float, Command]] = []

    def wait(self, until: float) -> None:
        while (deadline := self.presence.deadline) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            before = len(self.commands)
            self.note(self.presence.tick(self.now, busy=self.busy))
            after = self.presence.deadline
            assert len(self.commands) > before or (after is not None and after > self.now), "it turns in circles"
        self.now = until

    def step(self, step: Step) -> None:
        match step:
            case "a frame came":
                self.presence.heard(self.now)
            case "no turn is under way":
                self.busy = False
            case "too much is unread":
                self.presence.unread(UNREAD_LIMIT + 1)
                self.wait(self.now)
            case Broken() | Left() | Back() | Beat() | Erred() | Drain():
                self.note(self.presence.receive(step, self.now))
            case _:
                raise AssertionError(step)

    def note(self, commands: list[Command]) -> None:
        self.commands += [(self.now, command) for command in commands]


def shown(commands: list[tuple[float, Command]]) -> list[tuple[float, object]]:
    """Of an error only its code."""
    return [(round(at, 1), cmd.reason.code if isinstance(cmd, Tell) else cmd) for at, cmd in commands]


Script = tuple[list[tuple[float, Step]], list[tuple[float, object]]]

WITH_A_TOKEN: dict[str, Script] = {
    "comes back": ([(5, Broken(1)), (34, Back()), (40, Left(2))], [(5, Hold()), (34, GoOn()), (40, End())]),
    "does not come back": ([(5, Broken(1)), (35, Back())], [(5, Hold()), (35, End())]),
    "leaves for good": ([(5, Left(1)), (6, Back())], [(5, End())]),
    "comes back before the old connection broke": (
        [(5, Back()), (6, Broken(1)), (7, Left(1)), (8, Back()), (9, Left(3))],
        [(5, OUTDATED), (8, OUTDATED), (9, End())],
    ),
    "reads too slowly and comes back": (
        [(5, SLOW), (6, Broken(1)), (7, Back()), (8, SLOW), (8.5, Broken(2)), (9, Back()), (10, Left(3))],
        [(5, LOST_SLOW), (5, Hold()), (7, GoOn()), (8, LOST_SLOW), (8, Hold()), (9, GoOn()), (10, End())],
    ),
    "reads too slowly, and its close is told after it came back": (
        [(5, SLOW), (6, Back()), (7, Broken(1)), (8, Left(2))],
        [(5, LOST_SLOW), (5, Hold()), (6, GoOn()), (8, End())],
    ),
    "reads too slowly and stays away": ([(5, SLOW), (6, Broken(1))], [(5, LOST_SLOW), (5, Hold()), (35, End())]),
    "misses its heartbeats": (
        [(5, Beat()), (10, HEARD), (10, Beat()), (30, Back()), (31, Left(2))],
        [(25, NO_HEARTBEAT), (25, Hold()), (30, GoOn()), (31, End())],
    ),
    "has sent no heartbeat in this connection": (
        [(5, Beat()), (6, Broken(1)), (7, Back()), (8, Beat()), (9, Back()), (60, Left(3))],
        [(6, Hold()), (7, GoOn()), (9, OUTDATED), (60, End())],
    ),
    "is idle": ([(10, HEARD)], [(210, "session_idle"), (210, closed("session_idle")), (220, End())]),
    "is idle, and comes back when it was told so": (
        [(205, Back()), (206, Broken(1))],
        [(200, "session_idle"), (200, closed("session_idle")), (206, End())],
    ),
    "outlasts the session in many connections": (
        [step for at in range(20, 1100, 20) for step in ((at, Broken(at // 20)), (at + 1, Back()))],
        [
            *[step for at in range(20, 1000, 20) for step in ((at, Hold()), (at + 1, GoOn()))],
            (1000, "session_expired"),
            (1000, closed("session_expired")),
            (1000, End()),
        ],
    ),
    "is replaced when the session is over": (
        [*[(at, HEARD) for at in range(100, 1000, 100)], (1001, Back()), (1005, Back())],
        [(1000, "session_expired"), (1000, closed("session_expired")), (1010, End())],
    ),
    "is away when the session is over": (
        [*[(at, HEARD) for at in range(100, 1000, 100)], (990, Broken(1)), (1000, Back())],
        [(990, Hold()), (1000, End())],
    ),
    "reads nothing while the session is over": (
        [*[(at, HEARD) for at in range(100, 1000, 100)], (1001, SLOW)],
        [(1000, "session_expired"), (1000, closed("session_expired")), (1010, End())],
    ),
    "is drained in the middle of a turn": (
        [(5, Drain()), (8, QUIET), (8.5, Broken(1))],
        [(8.1, closed("server_draining", 1012)), (8.5, End())],
    ),
    "is drained, and comes back afterwards": (
        [(5, QUIET), (5, Drain()), (6, Back()), (7, Broken(1))],
        [(5.1, closed("server_draining", 1012)), (7, End())],
    ),
    "is drained while it is away": (
        [(5, Broken(1)), (6, Drain()), (7, QUIET), (8, Back())],
        [(5, Hold()), (7.1, End())],
    ),
    "comes back into the drain": (
        [(5, Drain()), (6, SLOW), (7, Back()), (7.5, Broken(1)), (8, QUIET), (9, Left(2))],
        [(6, LOST_SLOW), (6, Hold()), (7, GoOn()), (8.1, closed("server_draining", 1012)), (9, End())],
    ),
    "is replaced during the drain": (
        [(5, Drain()), (6, Back()), (8, QUIET), (9, Broken(2))],
        [(6, OUTDATED), (8.1, closed("server_draining", 1012)), (9, End())],
    ),
}

WITHOUT: dict[str, Script] = {
    "breaks": ([(5, Broken(1)), (6, Back())], [(5, End())]),
    "reads too slowly": ([(5, SLOW), (6, Broken(1))], [(5, Close(1008, TOO_SLOW)), (6, End())]),
    "reads too slowly and cannot even be closed": ([(5, SLOW)], [(5, Close(1008, TOO_SLOW)), (15, End())]),
    "misses its heartbeats": ([(5, HEARD), (5, Beat()), (21, Broken(1))], [(20, NO_HEARTBEAT), (21, End())]),
}


def play(script: Script, *, resumable: bool, key_s: float | None = None) -> None:
    steps, expected = script
    shell = Shell(resumable=resumable, key_s=key_s)
    for at, step in steps:
        shell.wait(at - (0.001 if step is HEARD else 0))
        shell.now = at
        shell.step(step)
    shell.wait(5 * SESSION_S)
    assert shown(shell.commands) == expected
    assert (shell.presence.state, shell.presence.deadline) == (State.OVER, None)


@pytest.mark.parametrize("name", WITH_A_TOKEN)
def test_a_client_with_a_token(name: str) -> None:
    play(WITH_A_TOKEN[name], resumable=True)


@pytest.mark.parametrize("name", WITHOUT)
def test_a_client_without_a_token(name: str) -> None:
    play(WITHOUT[name], resumable=False)


def test_a_keys_minutes_run_out_in_whatever_connection() -> None:
    steps: list[tuple[float, Step]] = [(10, Broken(1)), (20, Back()), (30, SLOW), (40, Back()), (62, Broken(3))]
    told = [(60.0, "key_minutes_used_up"), (60.0, closed("key_minutes_used_up")), (62.0, End())]
    moves = [(10.0, Hold()), (20.0, GoOn()), (30.0, LOST_SLOW), (30.0, Hold()), (40.0, GoOn())]
    play((steps, [*moves, *told]), resumable=True, key_s=60)


def test_frames_that_are_read_late_are_waited_for() -> None:
    presence = Shell(resumable=True).presence
    presence.receive(Beat(), 0.0)
    presence.heard(100.0)
    assert presence.tick(60.0, busy=False) == []
    assert presence.tick(100.0 + HEARTBEAT_S, busy=False) == [NO_HEARTBEAT, Hold()]


@pytest.mark.parametrize(
    ("size", "every_s", "ends_after"),
    [
        (20, 1.0, None),  # a client with a fault, not a flood
        (20, 0.01, 101),
        (1_000_000, 1.0, 26),
        (16 * 2**20, 600.0, None),
    ],
)
def test_a_client_that_sends_hardly_anything_but_errors_is_ended(
    size: int, every_s: float, ends_after: int | None
) -> None:
    presence = Presence(Lifetime(LimitsConfig(), None, 0.0), 0.0, resumable=True)
    for number in range(1, 500):
        if commands := presence.receive(Erred(size), number * every_s):
            assert (number, [type(command) for command in commands]) == (ends_after, [Tell, Close])
            assert commands[1] == closed(TOO_MANY_ERRORS, 1008)
            return
    assert ends_after is None


def test_one_message_of_the_largest_size_may_be_wrong() -> None:
    assert 1 + 16 * 2**20 / ERROR_BYTES < ERRORS_BURST


# ── any order of anything ──────────────────────────────────────────────────────────────

numbers = st.integers(1, 4)
steps = st.one_of(
    st.sampled_from([HEARD, HEARD, QUIET, SLOW, Back(), Back(), Beat(), Drain()]),
    st.builds(Broken, numbers),
    st.builds(Left, numbers),
    st.builds(Erred, st.integers(0, 20 * ERROR_BYTES)),
)


@settings(deadline=None, max_examples=400)
@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 0.1, 1, 9, 16, 29, 31, 150]), steps), max_size=60),
    st.booleans(),
    st.none() | st.integers(1, 600),
)
def test_in_any_order_a_session_ends_once_and_in_time(
    script: list[tuple[float, Step]], resumable: bool, key_s: float | None
) -> None:
    shell = Shell(resumable=resumable, key_s=key_s)
    drained_at = None
    for wait, step in script:
        shell.wait(shell.now + wait)
        before, connection = shell.presence.state, shell.presence.connection
        shell.step(step)
        state = shell.presence.state
        assert before is not State.OVER or state is State.OVER, "nothing comes back from OVER"
        assert state is not State.AWAY or resumable
        assert shell.presence.connection == connection + (step == Back() and before is not State.OVER)
        if isinstance(step, Broken | Left) and step.connection != connection:
            assert state is before, "a stale connection changes nothing"
        if step == Drain() and drained_at is None:
            drained_at = shell.now
    shell.busy, quiet_at = False, shell.now
    shell.wait(5 * SESSION_S)
    check(shell, drained_at, quiet_at)


def check(shell: Shell, drained_at: float | None, quiet_at: float) -> None:
    commands = [command for _, command in shell.commands]
    assert [at for at, command in shell.commands if command == End()] == [shell.commands[-1][0]]
    ended_at = shell.commands[-1][0]
    assert ended_at <= SESSION_S + FAREWELL_S + 1e-6, "no limit is outlived"
    if drained_at is not None and drained_at < ended_at:
        assert ended_at <= max(drained_at, quiet_at) + 2 * DRAIN_LOOK_S + FAREWELL_S + 1e-6
    moves = [command for command in commands if isinstance(command, Hold | GoOn)]
    assert moves == [Hold(), GoOn()] * (len(moves) // 2) + [Hold()] * (len(moves) % 2)
    away = [at for at, command in shell.commands if isinstance(command, Hold | GoOn)]
    for began, over in zip(away[::2], [*away[1::2], ended_at], strict=False):
        assert over - began <= RESUME_S + 1e-6
    told = [place for place, command in enumerate(commands) if isinstance(command, Tell)]
    assert all(isinstance(commands[place + 1], Close) for place in told)
    assert len(told) <= 1
    assert sum(isinstance(command, Close) for command in commands) <= shell.presence.connection
