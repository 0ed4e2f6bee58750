"""What an utterance is said into, as the request for its verdict says it."""

from tests.support.conversations import QUERY, conversation
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import Query, Situation
from vita_duplex.engine.notices import TurnAudio, TurnEnded
from vita_duplex.engine.playback import last_sentence

ASKS = ScriptedReply(p1=0.95, transcript="a query", text="That is one way. Shall I go on?")


def last_query(*instances: ScriptedInstance) -> Query:
    return max(
        (query for one in instances for query in one.queries if query.utterances), key=lambda q: q.utterances[-1].number
    )


def test_nothing_was_said_yet() -> None:
    async def script() -> Situation:
        async with conversation(QUERY) as talk:
            await talk.speak(0.6)
            await talk.silent_until(TurnAudio)
            return last_query(*talk.instances).situation

    assert run(script()) == Situation("idle")


def test_what_is_said_behind_a_reply_knows_how_long_ago_and_what_was_asked() -> None:
    async def script() -> Situation:
        async with conversation(ASKS, QUERY) as talk:
            await talk.speak(0.6)
            await talk.silent_until(TurnEnded)
            await talk.be_silent(2.0)
            await talk.speak(0.6)
            await talk.silent_until(TurnEnded, 2)
            return last_query(*talk.instances).situation

    situation = run(script())
    assert (situation.reply, situation.last_words) == ("after", "Shall I go on?")
    assert 1.9 < situation.seconds < 2.3


def test_what_is_said_into_a_reply_knows_what_was_heard_of_it() -> None:
    async def script() -> Situation:
        async with conversation(QUERY) as talk:
            await talk.speak(0.6)
            await talk.silent_until(TurnAudio, 8)
            await talk.speak(0.6)
            await talk.silent_until(TurnEnded)
            return last_query(*talk.instances).situation

    situation = run(script())
    assert situation.reply == "speaking"
    assert situation.last_words
    assert "One two three four five. Six seven eight nine ten.".startswith(situation.last_words.rstrip("."))


def test_the_last_sentence_of_a_text() -> None:
    assert last_sentence("") == ""
    assert last_sentence("One. Two? Three") == "Three"
    assert last_sentence("One. Two?") == "Two?"
    assert last_sentence("你好。要我继续吗？") == "要我继续吗？"
    assert last_sentence("x" * 500) == "x" * 200
