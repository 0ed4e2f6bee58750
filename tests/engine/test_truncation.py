"""What is left out of a dialogue that outgrows the model: the oldest turns, seldom and much at a time."""

from hypothesis import given
from hypothesis import strategies as st

from vita_duplex.engine.truncation import RETAINED, left_out

SIZES = st.lists(st.integers(1, 50), max_size=120)


def test_a_dialogue_that_fits_is_whole() -> None:
    assert left_out([10, 10, 10], 30, RETAINED) == 0


def test_the_oldest_turns_go_until_the_share_is_filled() -> None:
    assert left_out([10] * 11, 100, 0.5) == 6
    assert left_out([10] * 15, 100, 0.5) == 6, "nothing more goes while there is room"
    assert left_out([10] * 17, 100, 0.5) == 12


def test_a_turn_that_fills_the_room_alone_is_the_only_one_that_is_kept() -> None:
    assert left_out([10, 10, 1000], 100, RETAINED) == 2
    assert left_out([1000], 100, RETAINED) == 0
    assert left_out([], -5, RETAINED) == 0


@given(SIZES, st.integers(60, 200), st.sampled_from([0.0, 0.5, RETAINED, 1.0]))
def test_what_is_left_fits_and_the_beginning_moves_only_when_it_must(
    sizes: list[int], room: int, retained: float
) -> None:
    before = 0
    for count in range(len(sizes) + 1):
        first = left_out(sizes[:count], room, retained)
        assert sum(sizes[first:count]) <= room
        assert first >= before
        if first > before:
            assert sum(sizes[before:count]) > room, "it would have fitted"
            assert sum(sizes[first:count]) <= room * retained or first == count - 1
        before = first
