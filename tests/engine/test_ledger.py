"""The ledger of a turn: which words were heard by which sample."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vita_duplex.engine.ledger import Ledger, Piece


def ledger(*pieces: tuple[str, int]) -> Ledger:
    """Pieces of text and the samples they became, all sent in one go."""
    entries = Ledger()
    for text, samples in pieces:
        entries.add(text, samples, samples)
    return entries


def test_samples_are_counted_per_piece_in_the_order_sent() -> None:
    entries = Ledger()
    entries.add("One two.", 40, 400)
    entries.add(None, 40, 400)
    entries.add("Three.", 40, 300)
    assert entries.pieces == [Piece("One two.", 400, 80), Piece("Three.", 300, 40)]
    assert entries.sent == 120


def test_a_piece_grows_while_it_is_synthesised() -> None:
    entries = Ledger()
    entries.add("abcd efgh", 40, 45)
    entries.add(None, 40, 90)
    assert entries.heard_text(40) == "abcd"
    assert entries.heard_text(90) == "abcd efgh"


def test_nothing_heard_is_no_text() -> None:
    assert ledger(("One two.", 400)).heard_text(0) == ""
    assert Ledger().heard_text(0) == ""
    assert Ledger().heard_text(100) == ""


def test_all_heard_is_all_the_text() -> None:
    assert ledger(("One  two.", 400), ("Three.", 300)).heard_text(700) == "One  two. Three."


def test_the_text_is_cut_inside_the_sentence_where_it_was_cut() -> None:
    entries = ledger(("Yes.", 100), ("aaaa bbbb cccc dddd", 190))  # ten samples a character
    heard = [entries.heard_text(sample) for sample in (49, 99, 119, 121, 169, 171, 219, 221, 269, 271, 289, 290)]
    assert heard == [
        "",
        "Yes.",
        "Yes.",
        "Yes. aaaa",
        "Yes. aaaa",
        "Yes. aaaa bbbb",
        "Yes. aaaa bbbb",
        "Yes. aaaa bbbb cccc",
        "Yes. aaaa bbbb cccc",
        "Yes. aaaa bbbb cccc dddd",
        "Yes. aaaa bbbb cccc dddd",
        "Yes. aaaa bbbb cccc dddd",
    ]


def test_a_word_counts_once_half_of_it_was_heard() -> None:
    assert [ledger(("stop", 100)).heard_text(sample) for sample in (1, 49, 50, 100)] == ["", "", "stop", "stop"]


def test_a_piece_without_sound_counts_once_the_one_before_it_was_heard() -> None:
    entries = ledger(("One.", 100), ("Silent.", 0), ("Three.", 100))
    assert [entries.heard_text(sample) for sample in (99, 100, 150, 200)] == [
        "One.",
        "One. Silent.",
        "One. Silent. Three.",
        "One. Silent. Three.",
    ]


def test_what_is_told_late_of_a_piece_changes_nothing() -> None:
    entries = ledger(("One.", 100))
    entries.add(None, 0, 100)  # an error in mid-piece comes without samples
    assert entries.pieces == [Piece("One.", 100, 100)]


def test_chinese_is_cut_by_characters_and_joined_without_spaces() -> None:
    entries = ledger(("当然可以，", 50), ("我在这里。", 50), ("Good.", 50))  # ten samples a character
    assert [entries.heard_text(sample) for sample in (4, 5, 24, 50, 71, 100, 150)] == [
        "",
        "当",
        "当然",
        "当然可以，",
        "当然可以，我在",
        "当然可以，我在这里。",
        "当然可以，我在这里。Good.",
    ]


# ── what the client says ───────────────────────────────────────────────────────────────


def test_without_a_word_from_the_client_the_clock_says_what_was_heard() -> None:
    entries = ledger(("One two.", 400))
    assert [entries.heard(clock) for clock in (0, 100, 400, 500)] == [0, 100, 400, 400]


def test_what_the_client_says_counts_and_the_clock_goes_on_from_there() -> None:
    entries = ledger(("One two.", 400))
    entries.acknowledge(60, clock=100)
    assert [entries.heard(clock) for clock in (100, 150, 500)] == [60, 110, 400]


def test_news_that_are_late_or_impossible_change_nothing() -> None:
    entries = ledger(("One two.", 400))
    entries.acknowledge(200, clock=210)
    entries.acknowledge(100, clock=220)
    assert entries.heard(220) == 210
    entries.acknowledge(10_000, clock=230)
    assert entries.heard(230) == 400, "never more than was sent"
    entries.add("Three.", 100, 100)
    assert entries.heard(230) == 400, "nor what was sent after that"


def test_a_truncated_turn_is_heard_no_further() -> None:
    entries = ledger(("One two.", 400))
    entries.truncate(150)
    entries.acknowledge(300, clock=300)
    assert [entries.heard(clock) for clock in (100, 300, 500)] == [150, 150, 150]
    entries.truncate(200)
    assert entries.heard(500) == 150, "what was cut stays cut"


def test_truncating_what_was_never_sent_cuts_at_what_was() -> None:
    entries = ledger(("One two.", 400))
    entries.truncate(9000)
    entries.add("Three.", 100, 100)
    assert entries.heard(500) == 400


words = st.text("ab,", min_size=1, max_size=5)
pieces = st.lists(st.tuples(st.lists(words, min_size=1, max_size=5).map(" ".join), st.integers(0, 500)), max_size=5)


@given(pieces, st.lists(st.integers(0, 3000), min_size=2, max_size=8))
def test_the_longer_one_listens_the_more_one_has_heard(script: list[tuple[str, int]], moments: list[int]) -> None:
    entries = ledger(*script)
    whole = " ".join(text for text, _ in script).split()
    heard = [entries.heard_text(sample).split() for sample in sorted(moments)]
    for shorter, longer in pairwise(heard):
        assert longer[: len(shorter)] == shorter
    assert all(whole[: len(some)] == some for some in heard)
    assert entries.heard_text(entries.sent).split() == whole
