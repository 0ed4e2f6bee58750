"""The dialogue of a session: what was asked, and what was heard of the answers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vita_duplex.engine.dialogue import HISTORY_LIMIT, Dialogue, fit
from vita_duplex.engine.seams import INPUT_RATE, AssistantMessage, Message, UserMessage, Utterance


def dialogue(*script: str | tuple[int, str, bool]) -> Dialogue:
    """A query as text; what was heard of a turn as its number, the text and whether it was cut."""
    talk = Dialogue()
    for entry in script:
        if isinstance(entry, str):
            talk.accept(UserMessage(entry))
        else:
            turn, text, cut = entry
            talk.begin_reply(turn)
            talk.heard(turn, text, cut=cut)
    return talk


def test_a_new_dialogue_is_empty() -> None:
    assert Dialogue().history() == ()


def test_messages_stand_in_the_order_of_speaking() -> None:
    talk = dialogue("What time is it?", (1, "It is ten.", False), "And now?", (2, "Still ten.", False))
    assert talk.history() == (
        UserMessage("What time is it?"),
        AssistantMessage("It is ten."),
        UserMessage("And now?"),
        AssistantMessage("Still ten."),
    )


def test_a_reply_is_kept_as_far_as_it_was_heard() -> None:
    talk = dialogue("Tell me a story.", (1, "Once upon", True), "Stop.")
    assert talk.history() == (
        UserMessage("Tell me a story."),
        AssistantMessage("Once upon", cut=True),
        UserMessage("Stop."),
    )


def test_a_reply_of_which_nothing_was_heard_leaves_no_trace() -> None:
    assert dialogue("One.", (1, "", True), "Two.").history() == (UserMessage("One."), UserMessage("Two."))
    talk = dialogue("One.")
    talk.begin_reply(1)
    assert talk.history() == (UserMessage("One."),)


def test_a_reply_keeps_its_place_when_it_is_heard_after_the_next_query() -> None:
    talk = dialogue("One.", (1, "Begun", True), "Two.")
    talk.heard(1, "Begun to", cut=True)
    talk.begin_reply(2)
    assert talk.history() == (UserMessage("One."), AssistantMessage("Begun to", cut=True), UserMessage("Two."))


def test_a_running_reply_counts_as_cut_until_it_is_complete() -> None:
    talk = dialogue("One.", (1, "Begun", True))
    assert talk.history()[-1] == AssistantMessage("Begun", cut=True)
    talk.heard(1, "Begun and done.", cut=False)
    assert talk.history()[-1] == AssistantMessage("Begun and done.", cut=False)


def test_a_history_once_given_does_not_change() -> None:
    talk = dialogue("One.", (1, "Begun", True))
    before = talk.history()
    talk.heard(1, "Begun and done.", cut=False)
    assert before == (UserMessage("One."), AssistantMessage("Begun", cut=True))


def test_a_query_without_words_keeps_its_audio() -> None:
    talk = Dialogue()
    message = UserMessage(None, (Utterance(1),))
    talk.accept(message)
    assert talk.history() == (message,)


def test_an_unknown_turn_changes_nothing() -> None:
    talk = dialogue("One.", (1, "Begun", True))
    talk.heard(7, "Nobody said this.", cut=False)
    assert talk.history() == (UserMessage("One."), AssistantMessage("Begun", cut=True))


@given(st.integers(0, 3 * HISTORY_LIMIT))
def test_only_the_newest_messages_are_kept(count: int) -> None:
    talk = dialogue(*map(str, range(count)))
    assert talk.history() == tuple(UserMessage(str(n)) for n in range(count))[-HISTORY_LIMIT:]


# ── what fits ──────────────────────────────────────────────────────────────────────────

IMAGE = np.zeros((2, 2, 3), np.uint8)


def cost(message: Message) -> int:
    """As VITA's: a token for each word here, 12.5 a second of audio, 256 an image."""
    if isinstance(message, AssistantMessage):
        return len(message.text.split())
    seconds = sum(len(u.samples) for u in message.utterances if u.samples is not None) / INPUT_RATE
    return len((message.text or "").split()) + round(12.5 * seconds) + 256 * len(message.images)


def spoken(number: int, seconds: int = 2, images: int = 0) -> UserMessage:
    utterance = Utterance(number, np.zeros(seconds * INPUT_RATE, np.float32))
    return UserMessage(None, (utterance,), (IMAGE,) * images)


def seen(text: str, images: int) -> UserMessage:
    return UserMessage(text, images=(IMAGE,) * images)


def shown(history: tuple[Message, ...]) -> list[tuple[object, int]]:
    """Of each message its words or its utterance's number, and how many images."""
    return [
        (m.text, 0) if isinstance(m, AssistantMessage) else (m.text or m.utterances[0].number, len(m.images))
        for m in history
    ]


def test_a_history_that_fits_is_left_alone() -> None:
    history = (seen("one two", 1), AssistantMessage("three"), spoken(1))
    assert fit(history, 256 + 2 + 1 + 25, cost) == history
    assert fit((), 0, cost) == ()


def test_the_oldest_turn_goes_first_and_whole() -> None:
    history = (UserMessage("a"), UserMessage("b"), AssistantMessage("c d", cut=True), UserMessage("e"))
    assert fit(history, 4, cost) == (UserMessage("e"),)


def test_images_go_before_audio_and_audio_before_text() -> None:
    history = (
        UserMessage("oldest words"), AssistantMessage("an answer"),
        spoken(1), AssistantMessage("another"),
        seen("look", 2), AssistantMessage("nice"),
        spoken(2, images=1), AssistantMessage("yes"),
    )  # fmt: skip
    everything = sum(map(cost, history))
    assert shown(fit(history, everything - 1, cost)) == [
        ("oldest words", 0), ("an answer", 0), (1, 0), ("another", 0), ("look", 0), ("nice", 0), (2, 1), ("yes", 0),
    ]  # fmt: skip
    without_images = everything - 3 * 256
    assert shown(fit(history, without_images, cost)) == [
        ("oldest words", 0), ("an answer", 0), (1, 0), ("another", 0), ("look", 0), ("nice", 0), (2, 0), ("yes", 0),
    ]  # fmt: skip
    assert shown(fit(history, without_images - 1, cost)) == [
        ("oldest words", 0), ("an answer", 0), ("look", 0), ("nice", 0), (2, 0), ("yes", 0),
    ]  # fmt: skip
    assert shown(fit(history, 6, cost)) == [("oldest words", 0), ("an answer", 0), ("look", 0), ("nice", 0)]
    assert shown(fit(history, 5, cost)) == [("look", 0), ("nice", 0)]
    assert fit(history, 1, cost) == ()


asked = st.tuples(st.booleans(), st.integers(1, 3), st.integers(0, 2))
"""One question: whether it is audio, how long it is, how many images it has."""


@given(st.lists(st.lists(asked, min_size=1, max_size=3), max_size=5), st.integers(0, 3000))
def test_turns_are_kept_whole_in_order_and_within_the_budget(
    script: list[list[tuple[bool, int, int]]], budget: int
) -> None:
    turns: list[list[Message]] = []
    for number, questions in enumerate(script):
        turns.append([])
        for audio, length, images in questions:
            name = number * 10 + len(turns[-1])
            words = seen(f"{name}" + " word" * length, images)
            turns[-1].append(spoken(name, length, images) if audio else words)
        turns[-1].append(AssistantMessage(f"answer {number}"))
    history = tuple(message for turn in turns for message in turn)
    kept = fit(history, budget, cost)
    assert sum(map(cost, kept)) <= budget
    if sum(map(cost, history)) <= budget:
        assert kept == history
    names = [name for name, _ in shown(kept)]
    whole = [[name for name, _ in shown(tuple(turn))] for turn in turns]
    assert names == [name for turn in whole if turn[0] in names for name in turn], "half a turn, or out of order"
    if len(kept) < len(history):
        assert not any(images for _, images in shown(kept)), "a turn went before an image"
