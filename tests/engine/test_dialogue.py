"""The dialogue of a session: what was asked, and what was heard of the answers."""

import numpy as np
import pytest

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.dialogue import AUDIO_LIMIT_S, HISTORY_LIMIT, Dialogue
from vita_duplex.engine.messages import AssistantMessage, UserMessage, Utterance


def dialogue(*script: str | tuple[int, str, bool]) -> Dialogue:
    """A query as text; what was heard of a turn as its number, the text and whether it was cut."""
    talk = Dialogue()
    for entry in script:
        if isinstance(entry, str):
            talk.accept(UserMessage(entry))
        else:
            turn, text, cut = entry
            talk.begin_reply(turn)
            talk.note_heard(turn, text, cut=cut)
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
    talk.note_heard(1, "Begun to", cut=True)
    talk.begin_reply(2)
    assert talk.history() == (UserMessage("One."), AssistantMessage("Begun to", cut=True), UserMessage("Two."))


def test_a_running_reply_counts_as_cut_until_it_is_complete() -> None:
    talk = dialogue("One.", (1, "Begun", True))
    assert talk.history()[-1] == AssistantMessage("Begun", cut=True)
    talk.note_heard(1, "Begun and done.", cut=False)
    assert talk.history()[-1] == AssistantMessage("Begun and done.", cut=False)


def test_a_history_once_given_does_not_change() -> None:
    talk = dialogue("One.", (1, "Begun", True))
    before = talk.history()
    talk.note_heard(1, "Begun and done.", cut=False)
    assert before == (UserMessage("One."), AssistantMessage("Begun", cut=True))


def test_a_query_without_words_keeps_its_audio() -> None:
    talk = Dialogue()
    message = UserMessage(None, (Utterance(1),))
    talk.accept(message)
    assert talk.history() == (message,)


def test_an_unknown_turn_changes_nothing() -> None:
    talk = dialogue("One.", (1, "Begun", True))
    talk.note_heard(7, "Nobody said this.", cut=False)
    assert talk.history() == (UserMessage("One."), AssistantMessage("Begun", cut=True))


@pytest.mark.parametrize("count", [0, 1, HISTORY_LIMIT, HISTORY_LIMIT + 1, 2 * HISTORY_LIMIT])
def test_only_the_newest_messages_are_kept(count: int) -> None:
    talk = dialogue(*map(str, range(count)))
    assert talk.history() == tuple(UserMessage(str(n)) for n in range(count))[-HISTORY_LIMIT:]


def test_kept_speech_is_bounded_and_the_oldest_goes_first() -> None:
    talk = Dialogue()
    half_minutes = [Utterance(n, np.zeros(30 * INPUT_RATE, np.float32)) for n in range(AUDIO_LIMIT_S // 30 + 2)]
    for utterance in half_minutes:
        talk.accept(UserMessage(None, (utterance,)))
    kept = [message.utterances[0] for message in talk.history() if isinstance(message, UserMessage)]
    assert kept == half_minutes[2:]


def test_the_newest_speech_is_kept_however_long() -> None:
    talk = Dialogue()
    talk.accept(UserMessage("Hello"))
    talk.accept(UserMessage(None, (Utterance(1, np.zeros((AUDIO_LIMIT_S + 1) * INPUT_RATE, np.float32)),)))
    assert len(talk.history()) == 1
