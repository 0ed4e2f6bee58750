"""Requests beside the conversation."""

import asyncio

from tests.support.conversations import Conversation, conversation
from tests.support.virtual_time import run
from vita_duplex.engine.asides import ASIDE_LIMIT
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import Query, Usage, Utterance
from vita_duplex.engine.notices import AsideEnded, AsideStarted, AsideText, PartTrouble

COUNT = ScriptedReply(text="one two three four five six", token_s=0.1)


def question(number: int, max_tokens: int | None = None) -> Query:
    return Query((), (Utterance(number, text="Count."),), max_tokens=max_tokens)


def text(talk: Conversation, number: int) -> str:
    return "".join(notice.delta for notice in talk.all(AsideText) if notice.number == number)


def test_an_aside_that_is_cancelled_before_it_ran_gives_its_place_back() -> None:
    async def script() -> None:
        async with conversation(COUNT) as talk:
            await asyncio.sleep(0)
            for number in range(1, 3 * ASIDE_LIMIT):
                assert talk.session.start_aside(number, question(number)), "all places are taken"
                assert talk.session.cancel_aside(number)
                await asyncio.sleep(0.01)
            endings = [(notice.number, notice.status, notice.cause) for notice in talk.all(AsideEnded)]
            assert endings == [(number, "cancelled", "client_cancelled") for number in range(1, 3 * ASIDE_LIMIT)]
            assert [notice.number for notice in talk.all(AsideStarted)] == [number for number, *_ in endings]

    run(script())


def test_an_aside_whose_instance_fails_goes_on_at_the_other_one() -> None:
    """As a reply does: the text is told once and whole."""

    async def script() -> None:
        ends = COUNT.model_copy(update={"fails_after": 3})
        pair = ScriptedInstance("a", (COUNT,)), ScriptedInstance("b", (ends,))
        async with conversation(instances=pair) as talk:
            await asyncio.sleep(0)
            assert talk.session.start_aside(1, question(1))
            await talk.silent_until(AsideEnded)
            assert text(talk, 1) == COUNT.text
            assert [notice.status for notice in talk.all(AsideEnded)] == ["completed"]
            assert talk.all(PartTrouble) == []
            assert pair[0].queries[-1].answer_so_far == "one two"

    run(script())


def test_an_aside_that_nobody_can_answer_fails_and_says_whose_fault_it_is() -> None:
    async def script() -> None:
        dead = COUNT.model_copy(update={"fails_after": 1})
        async with conversation(dead) as talk:
            await asyncio.sleep(0)
            assert talk.session.start_aside(1, question(1))
            await talk.silent_until(AsideEnded)
            assert [notice.cause for notice in talk.all(AsideEnded)] == ["instance_failed"]
            assert len(talk.all(PartTrouble)) == 1

    run(script())


def test_an_aside_that_is_as_long_as_allowed_says_what_it_cost() -> None:
    async def script() -> None:
        async with conversation(COUNT) as talk:
            await asyncio.sleep(0)
            assert talk.session.start_aside(1, question(1, max_tokens=3))
            await talk.silent_until(AsideEnded)
            assert text(talk, 1) == "one two three"
            [ended] = talk.all(AsideEnded)
            assert (ended.status, ended.cause) == ("incomplete", "max_output_tokens")
            assert ended.usage == Usage(1, 3)

    run(script())
