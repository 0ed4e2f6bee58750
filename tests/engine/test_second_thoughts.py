"""Verdicts that the user corrects: what can be taken back, for how long, and what is kept until then."""

import gc
import weakref

import numpy as np

from tests.support.conversations import Conversation, conversation
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.messages import Situation, UserMessage, Utterance, Verdict
from vita_duplex.engine.notices import Corrected, TurnAudio, TurnEnded, TurnStarted, UtteranceCommitted, VerdictGiven
from vita_duplex.engine.second_thoughts import KEPT_S, SecondThoughts

NOISE = ScriptedReply(p1=0.3, transcript="secret words", text="One two three. Four five six.")
QUERY = ScriptedReply(p1=0.9, transcript="a query", text="One two three. Four five six.")
SOUND = np.ones(1600, np.float32)


def rejected(*numbers: int, now: float = 0.0) -> SecondThoughts:
    thoughts = SecondThoughts()
    verdict = Verdict(0.3, 0.7, 0.0)
    thoughts.reject([Utterance(one, SOUND) for one in numbers], verdict, Situation("speaking"), now)
    return thoughts


def test_what_was_rejected_together_is_claimed_together_and_once() -> None:
    thoughts = rejected(3, 4)
    assert thoughts.can_claim(3, 1.0)
    found = thoughts.claim(3, 1.0)
    assert found is not None
    utterance, corrected = found
    assert utterance.number == 4
    assert utterance.samples is not None
    assert len(utterance.samples) == 2 * len(SOUND)
    assert corrected == Corrected((3, 4), True, 0.3, "speaking")
    assert thoughts.claim(4, 1.0) is None


def test_only_the_last_can_be_corrected_and_only_for_a_while() -> None:
    thoughts = rejected(3)
    assert thoughts.claim(2, 1.0) is None
    assert thoughts.deadline == KEPT_S
    assert not thoughts.can_claim(3, KEPT_S)
    thoughts.forget(KEPT_S - 0.1)
    assert thoughts.deadline is not None
    thoughts.forget(KEPT_S)
    assert thoughts.deadline is None
    thoughts = rejected(3)
    thoughts.reject([Utterance(5, SOUND)], None, Situation(), 1.0)
    assert thoughts.claim(3, 2.0) is None
    assert thoughts.claim(5, 2.0) is not None
    thoughts.accept((7,), Verdict(0.9, 0.1, 0.0), Situation(), 2, 0.0)
    assert thoughts.disclaim(7, KEPT_S) is None
    assert thoughts.disclaim(7, 1.0) == ((7,), 2, Corrected((7,), False, 0.9, "idle"))
    assert thoughts.disclaim(7, 1.0) is None


def test_the_sound_of_what_was_rejected_is_gone_after_its_time() -> None:
    thoughts = rejected(3)
    assert thoughts._rejected is not None
    assert thoughts._rejected.utterance is not None
    sound = thoughts._rejected.utterance.samples
    assert sound is not None
    kept = weakref.ref(sound)
    del sound
    thoughts.forget(KEPT_S)
    gc.collect()
    assert kept() is None


async def say(talk: Conversation, verdicts: int = 1) -> VerdictGiven:
    await talk.speak(1.0)
    await talk.silent_until(VerdictGiven, verdicts)
    return talk.all(VerdictGiven)[-1]


def test_an_utterance_that_was_left_alone_is_answered_when_it_is_claimed() -> None:
    async def script() -> None:
        async with conversation(NOISE) as talk:
            [number] = (await say(talk)).utterances
            assert talk.all(TurnStarted) == []
            assert await talk.session.claim(number)
            await talk.silent_until(TurnEnded)
            assert talk.all(UtteranceCommitted) == [UtteranceCommitted(number)]
            assert talk.all(TurnStarted)[0].answers == number
            assert talk.all(TurnEnded)[0].status == "completed"
            assert talk.all(Corrected) == [Corrected((number,), True, 0.3, "idle")]
            assert talk.session.dialogue.history()[0] == UserMessage("secret words")
            assert not await talk.session.claim(number)

    run(script())


def test_it_cannot_be_claimed_when_its_time_is_over_and_nothing_keeps_the_session_awake() -> None:
    async def script() -> None:
        async with conversation(NOISE) as talk:
            [number] = (await say(talk)).utterances
            await talk.be_silent(KEPT_S)
            assert talk.session._second_thoughts.deadline is None
            assert not await talk.session.claim(number)

    run(script())


def test_what_was_answered_by_mistake_stops_and_leaves_no_trace() -> None:
    async def script() -> None:
        async with conversation(QUERY) as talk:
            [number] = (await say(talk)).utterances
            await talk.silent_until(TurnAudio)
            assert await talk.session.disclaim(number) == ((number,), talk.all(TurnStarted)[0].turn)
            await talk.silent_until(TurnEnded)
            assert talk.all(TurnEnded)[0].cause == "client_cancelled"
            assert talk.session.dialogue.history() == ()
            assert talk.all(Corrected) == [Corrected((number,), False, 0.9, "idle")]
            assert await talk.session.disclaim(number) is None

    run(script())
