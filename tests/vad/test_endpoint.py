"""The endpointer: a script of probabilities in, the exact beginnings and ends of utterances out."""

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vita_duplex.vad.endpoint import WINDOW, Endpoint, EndpointConfig, Mark

PRE_ROLL = 4800
CONFIG = EndpointConfig()  # in windows: 3 to start, 4 to sustain, 6 to pause, 16 to end, 938 at most
SHORT = EndpointConfig(max_utterance_s=1.2)  # 38 windows at most
PROBABILITIES = {".": 0.0, "~": 0.4, "#": 0.9}  # silence, between the two levels, speech


def windows(script: str) -> list[float]:
    """`#*3 .` reads: three windows of speech, one of silence."""
    found = re.findall(r"([.~#])(?:\*(\d+))?", script)
    return [PROBABILITIES[kind] for kind, times in found for _ in range(int(times or 1))]


def play(endpoint: Endpoint, script: str) -> list[Mark]:
    """The marks, but for those that only say that speech goes on."""
    marks = [mark for probability in windows(script) for mark in endpoint.push(probability)]
    return [mark for mark in marks if mark.kind != "grown"]


def moments(endpoint: Endpoint, script: str) -> list[tuple[str, int]]:
    """The marks and the number of windows seen when they came."""
    return [
        (mark.kind, endpoint.sample // WINDOW) for probability in windows(script) for mark in endpoint.push(probability)
    ]


def kinds(marks: list[Mark]) -> list[str]:
    return [mark.kind for mark in marks]


def at(kind: str, begin: int, start: int, end: int, keep: int) -> Mark:
    """A mark with its positions after `begin` in windows."""
    return Mark(kind, begin, start * WINDOW, end * WINDOW, keep * WINDOW)  # type: ignore[arg-type]


def test_an_utterance_has_exact_samples() -> None:
    begin = 20 * WINDOW - PRE_ROLL
    assert play(Endpoint(CONFIG), ".*20 #*10 .*20") == [
        at("started", begin, 20, 23, 23),
        at("sustained", begin, 20, 24, 24),
        at("paused", begin, 20, 30, 36),
        at("ended", begin, 20, 30, 42),
    ]


def test_each_mark_comes_with_the_window_that_decides_it() -> None:
    assert moments(Endpoint(CONFIG), ".*20 #*10 .*20") == [
        ("started", 23),
        ("sustained", 24),
        ("paused", 36),
        ("ended", 46),
    ]


def grown(script: str) -> list[int]:
    """Windows after which it was told that speech goes on."""
    return [window for kind, window in moments(Endpoint(CONFIG), script) if kind == "grown"]


def test_speech_that_goes_on_is_told_at_growing_distances_up_to_a_second() -> None:
    assert grown("#*200") == [14, 20, 28, 41, 59, 85, 116, 147, 178]


def test_behind_a_pause_it_is_told_as_from_the_beginning() -> None:
    assert grown("#*30 .*8 #*30") == [14, 20, 28, 38 + 14, 38 + 20, 38 + 28]
    assert grown("#*14 .*4 #*14")[:1] == [14], "what is too short for a pause is part of the speech"


def test_what_is_told_of_speech_that_goes_on_is_all_of_it_so_far() -> None:
    endpoint = Endpoint(CONFIG)
    marks = [mark for probability in windows(".*20 #*20") for mark in endpoint.push(probability)]
    assert [mark for mark in marks if mark.kind == "grown"] == [
        at("grown", 20 * WINDOW - PRE_ROLL, 20, end, end) for end in (34, 40)
    ]


def test_silence_says_nothing() -> None:
    assert play(Endpoint(CONFIG), ".*2000") == []


def test_a_blip_of_60_ms_starts_nothing() -> None:
    assert play(Endpoint(CONFIG), ".*20 #*2 .*20 #*2 . #*2 .*20") == []


def test_a_blip_of_60_ms_holds_no_reply_even_where_it_touches_three_windows() -> None:
    assert kinds(play(Endpoint(CONFIG), ".*20 #*3 .*20")) == ["started", "paused", "ended"]


def test_a_word_of_96_ms_is_an_utterance() -> None:
    begin = 50 * WINDOW - PRE_ROLL
    assert play(Endpoint(CONFIG), ".*50 #*3 .*16")[-1] == at("ended", begin, 50, 53, 65)


def test_speech_that_has_begun_goes_on_at_a_lower_level() -> None:
    assert play(Endpoint(CONFIG), "~*30") == []
    assert kinds(play(Endpoint(CONFIG), "#*3 ~*40")) == ["started", "sustained"]
    assert moments(Endpoint(CONFIG), "# ~*2 .*16") == [("started", 3), ("paused", 9), ("ended", 19)]


def test_after_the_end_the_upper_level_counts_again() -> None:
    assert kinds(play(Endpoint(CONFIG), "#*5 .*16 ~*50")) == ["started", "sustained", "paused", "ended"]


def test_a_low_threshold_keeps_a_level_below_which_there_is_silence() -> None:
    quiet = EndpointConfig(threshold=0.1)
    assert kinds(play(Endpoint(quiet), "#*5 .*16")) == ["started", "sustained", "paused", "ended"]


def test_a_pause_shorter_than_the_end_continues_the_utterance() -> None:
    assert play(Endpoint(CONFIG), "#*5 .*15 #*2 .*16") == [
        at("started", 0, 0, 3, 3),
        at("sustained", 0, 0, 4, 4),
        at("paused", 0, 0, 5, 11),
        at("resumed", 0, 0, 5, 11),
        at("paused", 0, 0, 22, 28),
        at("ended", 0, 0, 22, 34),
    ]


def test_a_silence_shorter_than_a_pause_is_not_told() -> None:
    assert kinds(play(Endpoint(CONFIG), "#*5 .*5 #*5 .*5 #*5")) == ["started", "sustained"]


def test_the_audio_at_the_end_is_that_at_the_pause_with_more_silence_when_nothing_was_said_between() -> None:
    paused, ended = play(Endpoint(CONFIG), ".*30 #*9 .*8 #*9 .*16")[-2:]
    assert kinds([paused, ended]) == ["paused", "ended"]
    assert paused.begin == ended.begin
    assert ended.keep_until - paused.keep_until == 6 * WINDOW


def test_an_utterance_keeps_no_more_silence_however_late_it_ends() -> None:
    patient = EndpointConfig(silence_ms=5000)
    assert play(Endpoint(patient), "#*5 .*160")[-1] == at("ended", 0, 0, 5, 17)


def test_the_pre_roll_does_not_reach_into_the_utterance_before() -> None:
    first, second = (mark for mark in play(Endpoint(CONFIG), "#*5 .*17 #*5 .*16") if mark.kind == "ended")
    assert first == at("ended", 0, 0, 5, 17)
    assert second == at("ended", 17 * WINDOW, 22, 27, 39)
    long = EndpointConfig(pre_roll_ms=2000)
    first, second = (mark for mark in play(Endpoint(long), "#*5 .*16 #*5 .*16") if mark.kind == "ended")
    assert second.begin == first.keep_until == 17 * WINDOW


def test_long_speech_is_cut_and_goes_on_in_the_next_utterance() -> None:
    marks = play(Endpoint(SHORT), "#*100 .*16")
    assert kinds(marks) == [*["started", "sustained", "ended"] * 2, "started", "sustained", "paused", "ended"]
    assert [mark for mark in marks if mark.kind == "ended"] == [
        at("ended", 0, 0, 38, 38),
        at("ended", 38 * WINDOW, 38, 76, 76),
        at("ended", 76 * WINDOW, 76, 100, 112),
    ]


def test_a_cut_loses_no_speech_however_little_is_left() -> None:
    for left in range(1, 8):
        for tail in ("#", "~"):
            *_, cut, ended = (m for m in play(Endpoint(SHORT), f"#*38 {tail}*{left} .*16") if m.kind == "ended")
            assert cut == at("ended", 0, 0, 38, 38)
            assert ended == at("ended", 38 * WINDOW, 38, 38 + left, 38 + left + 12)


def test_speech_that_ends_at_the_cut_leaves_nothing_behind() -> None:
    assert kinds(play(Endpoint(SHORT), "#*38 .*40")) == ["started", "sustained", "ended"]


def test_settings_may_change_in_the_middle() -> None:
    endpoint = Endpoint(CONFIG)
    assert moments(endpoint, "#*5 .*8") == [("started", 3), ("sustained", 4), ("paused", 11)]
    endpoint.configure(EndpointConfig(silence_ms=320))  # 10 windows instead of 16
    assert moments(endpoint, ".*2") == [("ended", 15)]
    endpoint.configure(EndpointConfig(silence_ms=960))
    assert moments(endpoint, "#*5 .*30") == [("started", 18), ("sustained", 19), ("paused", 26), ("ended", 50)]


def test_an_earlier_pause_set_during_silence_is_told_at_once() -> None:
    endpoint = Endpoint(CONFIG)
    play(endpoint, "#*5 .*5")
    endpoint.configure(EndpointConfig(early_ms=96))
    assert kinds(play(endpoint, ". #")) == ["paused", "resumed"]


def test_a_later_pause_set_during_a_pause_is_not_told_twice() -> None:
    endpoint = Endpoint(CONFIG)
    play(endpoint, "#*5 .*8")
    endpoint.configure(EndpointConfig(early_ms=320))
    assert kinds(play(endpoint, ".*3 #")) == ["resumed"]


def test_nothing_starts_early_that_would_not_be_earlier_than_the_end() -> None:
    endpoint = Endpoint(EndpointConfig(early_ms=500, silence_ms=480))
    assert moments(endpoint, "#*5 .*20") == [("started", 3), ("sustained", 4), ("ended", 20)]


HINTED = EndpointConfig(hint=True, quick_ms=320, patient_ms=1600)  # 10 to 50 windows


def test_what_sounds_finished_ends_sooner_and_what_does_not_later() -> None:
    for completeness, windows_of_silence in ((1.0, 10), (0.5, 40), (0.0, 50)):
        endpoint = Endpoint(HINTED)
        [*_, paused] = play(endpoint, "#*5 .*6")
        assert paused.kind == "paused"
        endpoint.hint(paused.speech_end, completeness)
        assert moments(endpoint, ".*60") == [("ended", 5 + windows_of_silence)]


def test_without_an_answer_the_silence_counts() -> None:
    assert moments(Endpoint(HINTED), "#*5 .*60")[-1] == ("ended", 5 + 16)


def test_a_hint_counts_for_its_own_pause_only() -> None:
    endpoint = Endpoint(HINTED)
    [*_, paused] = play(endpoint, "#*5 .*6")
    endpoint.hint(paused.speech_end, 0.0)
    assert moments(endpoint, "# .*60") == [("resumed", 12), ("paused", 18), ("ended", 28)]
    endpoint.hint(paused.speech_end, 1.0)  # much too late
    assert moments(endpoint, "#*5 .*8")[-1][0] == "paused"
    endpoint.hint(paused.speech_end, 1.0)
    assert moments(endpoint, ".*4") == []


@pytest.mark.parametrize(
    ("sound", "words", "windows_of_silence"),
    [(1.0, 1.0, 10), (1.0, 0.0, 50), (0.0, 1.0, 50), (0.5, 0.5, 48), (None, 0.0, 50), (None, 1.0, 16), (1.0, None, 10)],
)
def test_sound_and_words_together_decide_and_words_alone_never_shorten(
    sound: float | None, words: float | None, windows_of_silence: int
) -> None:
    for order in (1, -1):
        endpoint = Endpoint(HINTED)
        [*_, paused] = play(endpoint, "#*5 .*6")
        for completeness, by_words in ((sound, False), (words, True))[::order]:
            if completeness is not None:
                endpoint.hint(paused.speech_end, completeness, words=by_words)
        assert moments(endpoint, ".*60") == [("ended", 5 + windows_of_silence)]


def test_what_was_said_of_one_pause_is_forgotten_in_the_next() -> None:
    endpoint = Endpoint(HINTED)
    [*_, paused] = play(endpoint, "#*5 .*6")
    endpoint.hint(paused.speech_end, 0.0, words=True)
    [*_, paused] = play(endpoint, "# .*6")
    endpoint.hint(paused.speech_end, 1.0)
    assert moments(endpoint, ".*60") == [("ended", 12 + 10)]


def test_a_hint_that_comes_late_ends_the_utterance_with_the_next_window() -> None:
    endpoint = Endpoint(HINTED)
    [*_, paused] = play(endpoint, "#*5 .*14")
    endpoint.hint(paused.speech_end, 1.0)
    assert moments(endpoint, ".") == [("ended", 20)]


probabilities = st.lists(
    st.tuples(st.sampled_from([0.0, 0.34, 0.36, 0.49, 0.5, 1.0]), st.integers(1, 45)), max_size=12
).map(lambda runs: [probability for probability, count in runs for _ in range(count)])
configs = st.builds(
    EndpointConfig,
    min_speech_ms=st.sampled_from([32, 96, 200]),
    hold_after_ms=st.sampled_from([32, 128, 300]),
    pre_roll_ms=st.sampled_from([0, 300, 3000]),
    early_ms=st.sampled_from([32, 200, 400]),
    silence_ms=st.sampled_from([64, 200, 500]),
    max_utterance_s=st.sampled_from([1.1, 2.0, 30.0]),
)

LETTERS = {"started": "s", "sustained": "u", "paused": "p", "resumed": "r", "grown": "g", "ended": "e"}
LEGAL = re.compile(r"(s[ug]*(pr[ug]*)*p?e)*(s[ug]*(pr[ug]*)*p?)?")


def check_order(marks: list[Mark]) -> None:
    letters = "".join(LETTERS[mark.kind] for mark in marks)
    assert LEGAL.fullmatch(letters), letters
    assert all(utterance.count("u") <= 1 for utterance in letters.split("e")), letters


@settings(deadline=None, max_examples=60)
@given(configs, probabilities)
def test_marks_come_in_order_and_utterances_do_not_overlap(config: EndpointConfig, script: list[float]) -> None:
    endpoint = Endpoint(config)
    marks, free = [], 0
    for probability in script:
        for mark in endpoint.push(probability):
            assert free <= mark.begin <= mark.speech_start < mark.speech_end <= mark.keep_until <= endpoint.sample
            assert mark.speech_start - mark.begin <= config.pre_roll_ms * 16
            free = mark.keep_until if mark.kind == "ended" else free
            marks.append(mark)
    check_order(marks)


@settings(deadline=None, max_examples=60)
@given(configs, probabilities)
def test_speech_long_enough_is_always_in_an_utterance(config: EndpointConfig, script: list[float]) -> None:
    endpoint = Endpoint(config)
    silence = [0.0] * 40
    marks = [mark for probability in [*script, *silence] for mark in endpoint.push(probability)]
    kept = [(mark.begin, mark.keep_until) for mark in marks if mark.kind == "ended"]
    needed = -(-config.min_speech_ms // 32)
    run = 0
    for window, probability in enumerate([*script, 0.0]):
        if probability >= config.threshold:
            run += 1
            continue
        for spoken in range(window - run, window) if run >= needed else ():
            assert any(begin <= spoken * WINDOW and (spoken + 1) * WINDOW <= end for begin, end in kept)
        run = 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(configs, probabilities), min_size=1, max_size=4))
def test_changing_settings_breaks_no_order(parts: list[tuple[EndpointConfig, list[float]]]) -> None:
    endpoint = Endpoint(parts[0][0])
    marks: list[Mark] = []
    for config, script in parts:
        endpoint.configure(config)
        marks += [mark for probability in script for mark in endpoint.push(probability)]
    check_order(marks)
    ended = [mark for mark in marks if mark.kind == "ended"]
    assert all(mark.keep_until <= later.begin for mark, later in pairwise(ended))


def cut_at(loudness: list[float]) -> list[tuple[str, int, int, int]]:
    """Speech that loud in each window, cut after 38 of them; kind and the numbers of windows of each mark."""
    endpoint = Endpoint(SHORT)
    marks = [mark for level in loudness for mark in endpoint.push(0.9, level)]
    told = [mark for mark in marks if mark.kind != "grown"]
    return [(m.kind, m.begin // WINDOW, m.speech_start // WINDOW, m.speech_end // WINDOW) for m in told]


def test_long_speech_is_cut_where_it_is_quietest_and_goes_on_at_once() -> None:
    breath = [1.0] * 25 + [0.1, 0.0, 0.1] + [1.0] * 10
    assert cut_at(breath)[2:] == [("ended", 0, 0, 27), ("started", 27, 27, 38), ("sustained", 27, 27, 38)]


def test_a_stop_inside_a_word_is_no_pause() -> None:
    assert cut_at([1.0] * 22 + [0.3] * 3 + [1.0] * 5 + [0.0] + [1.0] * 7)[2] == ("ended", 0, 0, 24)


def test_the_quietest_point_is_searched_in_the_later_half() -> None:
    assert cut_at([1.0] * 5 + [0.0] * 3 + [1.0] * 30)[2] == ("ended", 0, 0, 38)


def test_what_is_left_after_a_cut_is_long_enough_for_speech() -> None:
    marks = cut_at([1.0] * 33 + [0.2, 0.0, 0.0] + [1.0] * 2)
    assert marks[2:] == [("ended", 0, 0, 35), ("started", 35, 35, 38)]
    assert cut_at([1.0] * 35 + [0.0, 0.0, 1.0])[2] == ("ended", 0, 0, 38), "one window would be left"


@settings(deadline=None, max_examples=60)
@given(configs, probabilities, st.integers(0, 10_000))
def test_cuts_lose_and_repeat_nothing(config: EndpointConfig, script: list[float], seed: int) -> None:
    endpoint, marks, free, rng = Endpoint(config), [], 0, random.Random(seed)
    for probability in [*script, *[0.0] * 40]:
        for mark in endpoint.push(probability, rng.choice([0.0, 0.5, 1.0])):
            assert free <= mark.begin <= mark.speech_start < mark.speech_end <= mark.keep_until <= endpoint.sample
            assert mark.speech_start - mark.begin <= config.pre_roll_ms * 16
            if mark.kind == "ended":
                free = mark.keep_until
                waited = (
                    max(config.silence_ms, config.patient_ms) // 32 + 1
                )  # a cut falls into speech, never into a pause
                most = int(config.max_utterance_s * 31.25) + 1 + waited
                assert mark.speech_end - mark.speech_start <= most * WINDOW
            marks.append(mark)
    check_order(marks)
    needed, run, at = -(-config.min_speech_ms // 32), 0, 0
    kept = [(mark.begin, mark.keep_until) for mark in marks if mark.kind == "ended"]
    for at, probability in enumerate([*script, 0.0]):
        if probability >= config.threshold:
            run += 1
            continue
        for spoken in range(at - run, at) if run >= needed else ():
            assert any(begin <= spoken * WINDOW and (spoken + 1) * WINDOW <= end for begin, end in kept)
        run = 0
