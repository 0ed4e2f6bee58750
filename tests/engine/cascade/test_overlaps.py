"""The measured table of docs/measurements.md holds its bars."""

import pytest

from tests.support.overlaps import figures, measure, read, report


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
    found = figures(outcomes)
    assert found.recall.value >= 0.95
    assert found.false.value <= 0.10
    assert found.false_vad.value >= 3 * found.false.value
    assert all(one.whole for one in outcomes if not one.taken)
    assert sum(one.held and not one.taken for one in outcomes) >= 40
