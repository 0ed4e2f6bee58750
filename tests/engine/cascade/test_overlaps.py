"""The measured table of docs/measurements.md holds its bars, and its figures mean what they say."""

import numpy as np
import pytest

from tests.support import sounds
from tests.support.judging import Event
from tests.support.overlap_policies import Effect, detector_alone, hold_and_verdict, pause_on_timer
from tests.support.overlap_report import effects, lateness, pauses, penalty, recall, report, wrongly_ended
from tests.support.overlaps import ASIDE_DB, ASIDE_HZ, REFLECTIONS, Outcome, Overlap, far, measure, read, span


def outcome(*, query: bool, noticed: float | None = 0.2, words: bool = True, **more: object) -> Outcome:
    """A sound of two seconds."""
    row = Overlap("question" if query else "side talk", False, Event("", query, "speech", "", 1.0, "none", 0.0))
    fields = {"holds": (), "ended_s": None, "whole": True, "p1": 0.0} | more
    return Outcome(row, 2.0, noticed, words, **fields)  # type: ignore[arg-type]


def cost(effect: Effect) -> tuple[bool, float, float]:
    return effect.ended, effect.penalty_s, effect.penalty_with_pauses_s


def test_a_query_costs_the_time_until_the_reply_is_silent_or_all_its_length() -> None:
    taken = outcome(query=True, holds=((0.2, 0.5), (0.6, 3.0)), ended_s=3.0)
    assert cost(hold_and_verdict(taken)) == (True, 0.6, 0.6)
    assert cost(hold_and_verdict(outcome(query=True, holds=((0.2, 1.2),)))) == (False, 2.0, 2.0)
    assert cost(detector_alone(taken)) == (True, 0.2, 0.2)
    assert cost(detector_alone(outcome(query=True, noticed=None))) == (False, 2.0, 2.0)
    assert cost(pause_on_timer(taken)) == (True, 0.5, 0.5)


def test_any_other_sound_costs_its_length_if_it_ends_the_reply_and_else_its_pauses() -> None:
    spared = outcome(query=False, holds=((0.2, 0.5), (0.75, 1.25)))
    assert cost(hold_and_verdict(spared)) == (False, 0.0, pytest.approx(0.8))
    assert cost(hold_and_verdict(outcome(query=False, holds=((0.2, 3.0),), ended_s=3.0))) == (True, 2.0, 2.0)
    assert cost(detector_alone(spared)) == (True, 2.0, 2.0)
    assert cost(pause_on_timer(spared)) == (True, 2.0, 2.0)
    assert cost(pause_on_timer(outcome(query=False, words=False))) == (False, 0.0, 3.5)


def test_talk_from_afar_is_quieter_duller_and_reflected() -> None:
    click = np.zeros(sounds.RATE, np.float32)
    click[1000] = 1.0
    heard = far(click, ASIDE_DB, ASIDE_HZ, REFLECTIONS)
    loudest = [int(np.abs(heard[at : at + 40]).argmax()) + at for at in (1000, 1000 + 560, 1000 + 1280)]
    direct, first, second = (abs(heard[at]) for at in loudest)
    assert 20 * np.log10([first / direct, second / direct]) == pytest.approx([-13, -18], abs=0.1)
    high = far(sounds.tone(6000), ASIDE_DB, ASIDE_HZ)
    low = far(sounds.tone(500), ASIDE_DB, ASIDE_HZ)
    assert 20 * np.log10(np.std(low) / np.std(sounds.tone(500))) == pytest.approx(ASIDE_DB, abs=0.2)
    assert np.std(high) < np.std(low) / 5


def test_the_span_of_a_sound_is_that_of_its_loud_part() -> None:
    assert span(np.pad(sounds.tone(seconds=1.0), (4800, 8000))) == pytest.approx((0.3, 1.3), abs=0.011)


@pytest.mark.real
def test_the_verdict_keeps_nearly_all_interruptions_and_spares_nearly_all_other_replies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    overlaps = read()
    assert len(overlaps) >= 40
    assert sum(one.human for one in overlaps) >= 10
    outcomes = measure(overlaps)
    with capsys.disabled():
        print(f"\n{report(outcomes)}")
    each = effects(outcomes)
    ours, detector = each["hold and verdict"], each["detector alone"]
    assert recall(ours).value >= 0.95
    assert wrongly_ended(ours).value <= 0.10
    assert wrongly_ended(detector).value >= 3 * wrongly_ended(ours).value
    assert penalty(ours) <= penalty(detector) / 2
    assert np.median(lateness(ours)) <= 0.4
    assert np.median(pauses(ours)) > 0, "most of what is spared was held"
    assert all(one.whole for one in outcomes if one.ended_s is None)
