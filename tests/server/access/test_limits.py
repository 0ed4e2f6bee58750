"""Rates, and how long sessions last, on a clock of numbers."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vita_duplex.config import LimitsConfig
from vita_duplex.server.access.limits import MESSAGE_LIMIT, AudioAllowance, Lifetime, TokenBucket, Usage

amounts = st.floats(0, 50)


@given(st.lists(st.tuples(st.floats(0, 5), amounts), max_size=40))
def test_a_bucket_never_gives_more_than_it_saved_and_earned(steps: list[tuple[float, float]]) -> None:
    bucket, now, taken = TokenBucket(2.0, 10.0, 0.0), 0.0, 0.0
    for wait, tokens in steps:
        now += wait
        if bucket.take(tokens, now):
            taken += tokens
        assert taken <= 10 + 2 * now + 1e-6


def test_a_bucket_says_how_long_to_wait() -> None:
    bucket = TokenBucket(2.0, 10.0, 0.0)
    bucket.spend(16, 0.0)
    assert (bucket.wait(0, 0.0), bucket.wait(0, 2.0), bucket.wait(4, 3.0)) == (3.0, 1.0, 2.0)
    assert bucket.available(100.0) == 10


def test_a_microphone_ten_times_too_fast_is_heard_up_to_the_bound_and_then_with_long_gaps() -> None:
    allowance = AudioAllowance(60, 0.0)
    taken = [allowance.take(0.2, frame * 0.02) for frame in range(50 * 60)]  # a minute
    assert 60 < sum(taken) * 0.2 <= 60 + 60, "at most the bound and real time"
    gaps = sum(1 for before, after in itertools.pairwise(taken) if before and not after)
    assert gaps == 2
    assert taken.index(False) * 0.02 == pytest.approx(60 / 9, abs=0.1)


def test_audio_at_the_pace_of_speech_is_always_taken() -> None:
    allowance = AudioAllowance(1, 0.0)
    assert all(allowance.take(0.02, frame * 0.02) for frame in range(50 * 3600))


def test_a_session_ends_when_nothing_comes_and_at_its_longest() -> None:
    lifetime = Lifetime(LimitsConfig(idle_s=10, session_s=100), None, now=5)
    assert (lifetime.deadline, lifetime.over(14.9)) == (15, None)
    reason = lifetime.over(15)
    assert reason is not None
    assert reason.code == "session_idle"
    for now in range(5, 105, 5):
        lifetime.heard(now)
    assert (lifetime.deadline, lifetime.over(104.9)) == (105, None)
    reason = lifetime.over(105)
    assert reason is not None
    assert reason.code == "session_expired"


def test_the_time_of_a_key_is_used_up_by_all_its_sessions_and_comes_back() -> None:
    usage = Usage.under(LimitsConfig(key_minutes_per_day=10), 0.0)
    assert usage.session_time is not None
    one, two = (Lifetime(LimitsConfig(), usage.session_time, 0.0) for _ in range(2))
    now = 0.0
    while one.over(now) is None and two.over(now) is None:
        now = min(one.deadline, two.deadline)
        one.heard(now)
        two.heard(now)
    assert now == pytest.approx(300, abs=20)
    refused = usage.refusal(now)
    assert refused is not None
    assert refused.code == "key_minutes_used_up"
    assert refused.retry_after_s is not None
    assert usage.refusal(now + refused.retry_after_s + 1) is None


def test_a_key_has_only_so_many_sessions() -> None:
    usage = Usage.under(LimitsConfig(key_sessions=2), 0.0)
    usage.sessions = 1
    assert usage.refusal(0.0) is None
    usage.sessions = 2
    refused = usage.refusal(0.0)
    assert refused is not None
    assert refused.code == "key_session_limit_reached"


def test_the_largest_message_is_paid_for_at_once() -> None:
    usage = Usage.under(LimitsConfig(key_bytes_per_s=100_000), 0.0)
    usage.bytes_in.spend(MESSAGE_LIMIT, 0.0)
    assert usage.bytes_in.wait(0, 0.0) == 0
    usage.bytes_in.spend(50_000, 0.0)
    assert usage.bytes_in.wait(0, 0.0) == 0.5
