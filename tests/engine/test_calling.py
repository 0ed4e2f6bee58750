"""Calls in a session: when the client is told of them, and what becomes of their outputs."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from tests.support.conversations import QUERY, Conversation, conversation
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedCall, ScriptedReply
from vita_duplex.engine.messages import Call, CallMessage, Message, Query, Tool, Tools, UserMessage, Verdict
from vita_duplex.engine.notices import (
    AsideCalled,
    AsideEnded,
    TurnAudio,
    TurnCalled,
    TurnEnded,
    TurnHeld,
    TurnResumed,
    TurnStarted,
)
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.settings import Configure, ReplySettings

TOOL = Tool("get_weather", "", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
OFFERED = ReplySettings(tools=Tools((TOOL,)))
CALLING = ScriptedReply(transcript="the weather?", calls=(ScriptedCall(),))
SAYING = CALLING.model_copy(update={"text_with_calls": "One moment please, I shall look that up for you at once."})
NOISE = ScriptedReply(p1=0.05, transcript="secret words", calls=(ScriptedCall(),))
LONG = ScriptedReply(transcript="a story", text=" ".join(["word"] * 60))


async def ask(talk: Conversation) -> None:
    await talk.speak(1.0)
    await talk.be_silent(0.6)


async def begin(talk: Conversation, settings: ReplySettings = OFFERED) -> None:
    await talk.session.configure(Configure(settings))


async def called(talk: Conversation) -> str:
    """The id of the one call, once it was told."""
    await talk.silent_until(TurnCalled)
    [notice] = talk.all(TurnCalled)
    return notice.call.id


async def answer(talk: Conversation) -> int:
    return await talk.session.answer_dialogue(talk.numbers, OFFERED)


def calls_in(history: tuple[Message, ...]) -> list[CallMessage]:
    return [message for message in history if isinstance(message, CallMessage)]


def test_a_call_is_told_its_output_enters_the_dialogue_and_is_answered_when_the_client_asks() -> None:
    async def script() -> None:
        async with conversation(CALLING, QUERY) as talk:
            await begin(talk)
            await ask(talk)
            call_id = await called(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)]
            assert talk.all(TurnCalled)[0].call == Call(call_id, "get_weather", '{"city": "Paris"}')
            assert talk.session.calling.add_output(call_id, "sunny") is None
            await talk.be_silent(3.0)
            assert len(talk.all(TurnStarted)) == 1, "an output starts nothing by itself"
            await answer(talk)
            await talk.silent_until(TurnEnded, 2)
            assert talk.text(2) == ["The tool said sunny."]
            assert talk.session.calling.ledger.waiting == frozenset(), "it would be answered again"
            call = CallMessage(Call(call_id, "get_weather", '{"city": "Paris"}'), "sunny")
            assert talk.instances[0].queries[-1].history == (UserMessage("the weather?"), call)

    run(script())


def test_what_was_not_meant_for_us_calls_nothing() -> None:
    async def script() -> None:
        async with conversation(NOISE, QUERY) as talk:
            await begin(talk)
            await ask(talk)
            await talk.be_silent(3.0)
            assert talk.all(TurnCalled) == []
            assert talk.session.dialogue.history() == ()

    run(script())


def test_a_call_of_an_early_request_waits_for_its_verdict() -> None:
    """The engine is done before the speech is over."""

    async def script() -> None:
        async with conversation(CALLING.model_copy(update={"verdict_s": 0.0}), QUERY) as talk:
            await begin(talk)
            await ask(talk)
            await called(talk)
            kinds = [type(notice) for _, notice in talk.told]
            assert kinds.index(TurnStarted) < kinds.index(TurnCalled)

    run(script())


def test_while_a_call_is_open_the_user_is_heard_and_its_late_output_is_marked_and_starts_nothing() -> None:
    async def script() -> None:
        async with conversation(CALLING, QUERY) as talk:
            await begin(talk)
            await ask(talk)
            call_id = await called(talk)
            await talk.silent_until(TurnEnded)
            await ask(talk)
            await talk.silent_until(TurnAudio)
            assert talk.session.calling.add_output(call_id, "sunny") is None
            assert talk.session.calling.ledger.waiting == frozenset(), "nobody waits for it any more"
            await talk.silent_until(TurnEnded, 2)
            assert [turn.turn for turn in talk.all(TurnStarted)] == [1, 2]
            [message] = calls_in(talk.session.dialogue.history())
            assert (message.output, message.late) == ("sunny", True)
            assert message is talk.session.dialogue.history()[-1], "the call stands where its output came"

    run(script())


def test_noise_into_an_open_call_leaves_it_open() -> None:
    async def script() -> None:
        async with conversation(CALLING, NOISE) as talk:
            await begin(talk)
            await ask(talk)
            call_id = await called(talk)
            await talk.silent_until(TurnEnded)
            await ask(talk)
            await talk.be_silent(2.0)
            assert talk.session.calling.ledger.state(call_id, 10) == "open"
            assert talk.session.calling.add_output(call_id, "sunny") is None
            assert talk.session.calling.ledger.waiting == {call_id}

    run(script())


def test_the_answer_to_an_output_waits_until_what_was_said_with_the_call_is_spoken() -> None:
    async def script() -> None:
        async with conversation(SAYING, QUERY) as talk:
            await begin(talk)
            await ask(talk)
            talk.session.calling.add_output(await called(talk), "sunny")
            await answer(talk)
            await answer(talk)  # a client may ask twice
            await talk.silent_until(TurnEnded, 2)
            await talk.be_silent(5.0)
            assert talk.endings() == [(1, "completed", None), (2, "completed", None)]
            assert talk.text(2) == ["The tool said sunny."]

    run(script())


def test_what_the_user_says_into_it_goes_before_an_answer_that_waits() -> None:
    async def script() -> None:
        async with conversation(SAYING, QUERY) as talk:
            await begin(talk)
            await ask(talk)
            talk.session.calling.add_output(await called(talk), "sunny")
            await answer(talk)
            await ask(talk)
            await talk.silent_until(TurnEnded, 2)
            await talk.be_silent(5.0)
            assert talk.endings() == [(1, "cancelled", "turn_detected"), (2, "completed", None)]
            [message] = calls_in(talk.instances[1].queries[-1].history)
            assert (message.output, message.late) == ("sunny", False)
            assert talk.session._reply_settings == {}, "what is not asked any more is forgotten"

    run(script())


def test_two_outputs_one_after_the_other_are_both_answered() -> None:
    both = CALLING.model_copy(update={"calls": (ScriptedCall(), ScriptedCall(arguments='{"city": "Rome"}'))})

    async def script() -> None:
        async with conversation(both, QUERY) as talk:
            await begin(talk)
            await ask(talk)
            await talk.silent_until(TurnEnded)
            first, second = (notice.call.id for notice in talk.all(TurnCalled))
            assert first != second
            for call_id, output in ((second, "rain"), (first, "sun")):
                talk.session.calling.add_output(call_id, output)
                await answer(talk)
                await talk.be_silent(0.3)
            await talk.silent_until(TurnEnded, 3)
            assert talk.endings() == [(number, "completed", None) for number in (1, 2, 3)]
            assert [message.output for message in calls_in(talk.session.dialogue.history())] == ["rain", "sun"]

    run(script())


def test_a_held_reply_calls_nothing_until_it_goes_on() -> None:
    talking = SAYING.model_copy(update={"token_s": 0.25})

    async def script() -> None:
        async with conversation(talking, NOISE.model_copy(update={"verdict_s": 1.0})) as talk:
            await begin(talk)
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(1.2)
            await talk.speak(1.5)
            await talk.silent_until(TurnResumed)
            [held], [resumed], [told] = talk.times(TurnHeld), talk.times(TurnResumed), talk.times(TurnCalled)
            assert held < resumed <= told

    run(script())


def test_a_call_that_an_instance_died_after_is_not_made_again() -> None:
    async def script() -> None:
        async with conversation(CALLING, QUERY) as talk:
            dying = talk.instances[0]
            plain = dying.answer

            async def dies(query: Query) -> AsyncGenerator[Verdict | str | Call]:
                async for item in plain(query):
                    yield item
                    if isinstance(item, Call):
                        raise PartFailed("a", "died")

            dying.answer = dies  # type: ignore[method-assign, assignment]
            await begin(talk)
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)]
            assert len(talk.all(TurnCalled)) == 1
            assert len(talk.instances[1].queries) == 0

    run(script())


def test_a_reply_that_the_client_cancels_leaves_its_call_cancelled() -> None:
    async def script() -> None:
        async with conversation(SAYING, QUERY) as talk:
            await begin(talk)
            await ask(talk)
            call_id = await called(talk)
            await talk.session.cancel_reply(1)
            await talk.silent_until(TurnEnded)
            assert talk.session.calling.ledger.state(call_id, 10) == "cancelled"

    run(script())


def test_calls_of_the_client_s_own_past_are_in_the_dialogue_with_their_outputs() -> None:
    async def script() -> None:
        async with conversation(QUERY) as talk:
            old = Call("call_old", "get_weather", "{}")
            assert talk.session.calling.add(old)
            assert not talk.session.calling.add(old)
            assert talk.session.calling.add_output("call_old", "rain") is None
            assert talk.session.calling.add_output("call_old", "sun") == "twice"
            assert talk.session.calling.add_output("call_new", "sun") == "unknown"
            assert talk.session.dialogue.history() == (CallMessage(old, "rain"),)
            talk.session.calling.remove("call_old")
            assert talk.session.dialogue.history() == ()

    run(script())


def test_an_aside_calls_too_and_its_call_is_the_client_s_alone() -> None:
    async def script() -> None:
        async with conversation(CALLING) as talk:
            await asyncio.sleep(0)
            number = next(talk.numbers)
            talk.session.start_aside(number, Query((UserMessage("And?"),), (), tools=Tools((TOOL,))))
            await talk.silent_until(AsideEnded)
            [notice] = talk.all(AsideCalled)
            assert talk.session.calling.add_output(notice.call.id, "sunny") == "unknown"

    run(script())


@pytest.mark.parametrize(
    ("tools", "names"),
    [
        (Tools((TOOL,), "none"), []),
        (Tools((TOOL, replace(TOOL, name="other")), "named", "other"), ["other"]),
        (Tools((TOOL,), parallel=False), ["get_weather"]),
        (Tools((TOOL,)), ["get_weather", "get_weather"]),
    ],
)
def test_only_what_is_offered_is_called(tools: Tools, names: list[str]) -> None:
    twice = CALLING.model_copy(update={"calls": (ScriptedCall(name="get_weather"), ScriptedCall(name="get_weather"))})

    async def script() -> None:
        async with conversation(twice) as talk:
            await begin(talk, ReplySettings(tools=tools))
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert [notice.call.name for notice in talk.all(TurnCalled)] == names
            assert talk.all(TurnStarted)[0].may_call == bool(tools.offered)

    run(script())
