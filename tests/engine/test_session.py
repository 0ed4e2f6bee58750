"""A session with scripted instance, ears and voice, on virtual time."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import numpy as np
import pytest

from tests.support.conversations import NOISE, QUERY, Conversation, conversation
from tests.support.virtual_time import run
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.events import SpeechSustained
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import AssistantMessage, Query, UserMessage, Verdict
from vita_duplex.engine.notices import (
    Notice,
    PartTrouble,
    Roles,
    TurnAudio,
    TurnEnded,
    TurnHeld,
    TurnRecorded,
    TurnResumed,
    TurnStarted,
    UserStarted,
    UserStopped,
    UtteranceAccepted,
    UtteranceCommitted,
    VerdictGiven,
    VoiceActivity,
)
from vita_duplex.engine.ports import Heard, PartFailed
from vita_duplex.engine.settings import Configure
from vita_duplex.tts.text.normalise import normalise
from vita_duplex.tts.voices.fallback import WithFallback
from vita_duplex.tts.voices.scripted import HummingVoice
from vita_duplex.vad.endpoint import EndpointConfig
from vita_duplex.vad.listener import MicrophoneListener

LONG = ScriptedReply(
    transcript="a long story", text=" ".join("abcdefghij"[n % 10] * 5 for n in range(60)) + ".", token_s=0.01
)


async def whole_audio(text: str) -> Samples:
    return np.concatenate([part async for part in HummingVoice().synthesise(normalise(text))])


async def ask(talk: Conversation) -> None:
    await talk.speak(1.0)
    await talk.be_silent(0.6)


def test_a_spoken_question_is_answered_in_order() -> None:
    async def script() -> None:
        async with conversation(QUERY) as talk:
            await talk.be_silent(0.5)
            await ask(talk)
            await talk.silent_until(TurnRecorded)
            kinds = [type(notice) for _, notice in talk.told]
            first_audio = kinds.index(TurnAudio)
            assert kinds[: first_audio + 1] == [
                Roles, VoiceActivity, VoiceActivity, VerdictGiven, UserStarted, UserStopped, UtteranceAccepted,
                TurnStarted, TurnAudio,
            ]  # fmt: skip
            assert set(kinds[first_audio:-2]) == {TurnAudio}
            assert kinds[-2:] == [TurnEnded, TurnRecorded]
            assert talk.endings() == [(1, "completed", None)]
            assert talk.text(1) == ["One two three four five.", "Six seven eight nine ten."]
            whole = np.concatenate([await whole_audio(text) for text in talk.text(1)])
            assert np.array_equal(talk.audio(1), whole)

    run(script())


def test_the_answer_starts_as_soon_as_speech_is_over_for_certain() -> None:
    """The early start hides the 300 ms an engine needs for its verdict and its first words."""

    async def delay(verdict_s: float) -> float:
        async with conversation(replace_reply(QUERY, verdict_s=verdict_s, token_s=0.0)) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            return talk.times(TurnAudio)[0] - talk.times(UserStopped)[0]

    quick, slow = run(delay(0.0)), run(delay(0.25))
    assert slow == pytest.approx(quick, abs=0.011)


def replace_reply(reply: ScriptedReply, **fields: object) -> ScriptedReply:
    return reply.model_copy(update=fields)


def test_noise_gets_no_answer_and_leaves_no_trace() -> None:
    async def script() -> None:
        async with conversation(NOISE, QUERY) as talk:
            await ask(talk)
            await talk.silent_until(VerdictGiven)
            assert [(n.accepted, n.reason) for n in talk.all(VerdictGiven)] == [(False, "verdict")]
            assert talk.all(TurnStarted) == []
            assert talk.all(UtteranceAccepted) == []
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.instances[0].queries[-1].history == ()
            await asyncio.sleep(1)
            assert talk.instances[0].running == 0

    run(script())


def test_a_query_during_the_answer_stops_it_and_is_answered_by_the_other_instance() -> None:
    async def script() -> None:
        async with conversation(LONG, QUERY) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(2.0)
            await ask(talk)
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings() == [(1, "cancelled", "turn_detected"), (2, "completed", None)]
            assert [(r.generator, r.monitor, r.swaps) for r in talk.all(Roles)] == [("a", "b", 0), ("b", "a", 1)]
            told = [notice for _, notice in talk.told]
            last_of_first = max(place for place, n in enumerate(told) if isinstance(n, TurnAudio) and n.turn == 1)
            held, ended = (
                next(place for place, n in enumerate(told) if isinstance(n, k)) for k in (TurnHeld, TurnEnded)
            )
            assert last_of_first < held < ended
            assert [i.running for i in talk.instances] == [0, 0]

    run(script())


def test_the_engine_is_aborted_before_the_client_is_told() -> None:
    order: list[str] = []

    class Watched(ScriptedInstance):
        async def answer(self, query: Query) -> AsyncGenerator[Verdict | str]:
            try:
                async for item in super().answer(query):
                    yield item
            finally:
                order.append(f"aborted in {self.name}")

    async def script() -> None:
        endless = replace_reply(LONG, token_s=1.0)
        pair = Watched("a", (endless, QUERY)), Watched("b", (endless, QUERY))
        async with conversation(instances=pair) as talk:
            outgoing: asyncio.Queue[Notice] = asyncio.Queue()

            async def write() -> None:  # like the gateway's writer, a task of its own
                while True:
                    order.append(type(await outgoing.get()).__name__)

            tell, talk.tell = talk.tell, lambda notice: (outgoing.put_nowait(notice), tell(notice))  # type: ignore
            writing = asyncio.create_task(write())
            await ask(talk)
            await talk.be_silent(10)
            await ask(talk)
            await talk.silent_until(TurnEnded)
            writing.cancel()
        assert order.index("aborted in a") < order.index("TurnEnded")

    run(script())


def test_noise_during_the_answer_pauses_it_and_loses_no_sample() -> None:
    async def script() -> None:
        async with conversation(LONG, NOISE) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(1.0)
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)]
            assert len(talk.all(Roles)) == 1
            held, resumed = talk.times(TurnHeld)[0], talk.times(TurnResumed)[0]
            assert held < resumed
            assert not [t for t, n in talk.told if isinstance(n, TurnAudio) and held < t < resumed], "sent while held"
            whole = np.concatenate([await whole_audio(text) for text in talk.text(1)])
            assert np.array_equal(talk.audio(1), whole), "a sample was lost or repeated"
            assert len(talk.all(UserStarted)) == 1, "a stock client would have thrown the reply away"

    run(script())


def test_a_blip_during_the_answer_does_not_even_pause_it() -> None:
    async def script() -> None:
        async with conversation(LONG, NOISE) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(1.0)
            await talk.speak(0.06)
            await talk.silent_until(TurnEnded)
            assert talk.all(TurnHeld) == []

    run(script())


def test_an_instance_that_says_nothing_in_time_lets_the_answer_go_on() -> None:
    async def script() -> None:
        mute = replace_reply(QUERY, verdict_s=60.0)
        async with conversation(LONG, mute) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(1.0)
            await ask(talk)
            await talk.silent_until(TurnResumed, limit_s=5)
            assert [(n.accepted, n.reason) for n in talk.all(VerdictGiven)] == [(True, "verdict"), (False, "deadline")]
            stopped = talk.all(TurnRecorded)[0].record.speech_end
            assert stopped is not None
            assert talk.times(TurnResumed)[0] - stopped < 0.55 + 1.5 + 0.1

    run(script())


def test_the_next_request_is_told_what_was_heard_and_not_what_was_generated() -> None:
    async def script() -> None:
        async with conversation(LONG, QUERY) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(2.0)
            await ask(talk)
            await talk.silent_until(TurnEnded)
            question, heard = talk.instances[1].queries[-1].history
            assert question == UserMessage("a long story")
            assert isinstance(heard, AssistantMessage)
            assert heard.cut
            assert LONG.text.startswith(heard.text)
            # Two seconds and the half second of the second question's onset, at 15 characters a second.
            assert 20 < len(heard.text) < 50

    run(script())


def test_a_completed_answer_enters_the_dialogue_whole() -> None:
    async def script() -> None:
        async with conversation(QUERY) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            await talk.session.ask(next(talk.numbers), "and typed?")
            await talk.silent_until(TurnEnded, 2)
            assert talk.instances[0].queries[-1].history == (UserMessage("a query"), AssistantMessage(QUERY.text))
            assert [n.verdict.state for n in talk.all(VerdictGiven) if n.verdict] == ["<1>", "<3>"]

    run(script())


def test_a_typed_query_during_the_answer_takes_the_floor() -> None:
    async def script() -> None:
        async with conversation(LONG, QUERY) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.session.ask(next(talk.numbers), "something else")
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings() == [(1, "cancelled", "turn_detected"), (2, "completed", None)]

    run(script())


def test_the_client_can_cancel_and_then_hears_nothing_more() -> None:
    async def script() -> None:
        async with conversation(LONG) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.session.cancel_reply(1)
            ended = await talk.silent_until(TurnEnded)
            await talk.be_silent(2)
            assert talk.endings() == [(1, "cancelled", "client_cancelled")]
            assert max(talk.times(TurnAudio)) <= ended

    run(script())


def test_an_instance_that_fails_mid_answer_ends_the_turn_and_not_the_session() -> None:
    async def script() -> None:
        alone = ScriptedInstance("a", (replace_reply(QUERY, fails_after=7, token_s=0.1), QUERY))
        async with conversation(instances=[alone]) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "failed", "instance_failed")]
            assert talk.text(1)[0] == "One two three four five.", "what it said is heard"
            assert [n.part for n in talk.all(PartTrouble)] == ["a"]
            await ask(talk)
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings()[1] == (2, "completed", None)

    run(script())


def test_an_instance_that_hangs_in_mid_answer_fails_the_turn_and_gives_the_floor_free() -> None:
    async def script() -> None:
        async with conversation(replace_reply(QUERY, token_s=3600.0), QUERY) as talk:
            await ask(talk)
            ended = await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "failed", "instance_failed")]
            assert ended < 35
            assert talk.instances[0].running == 0, "its request was closed"
            await ask(talk)
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings()[1] == (2, "completed", None)

    run(script())


def test_a_slow_instance_is_not_taken_for_one_that_hangs() -> None:
    async def script() -> None:
        async with conversation(replace_reply(QUERY, token_s=4.0)) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)]

    run(script())


def test_an_instance_that_fails_before_its_verdict_is_told_of_as_trouble() -> None:
    async def script() -> None:
        async with conversation(instances=[ScriptedInstance("a", (replace_reply(QUERY, fails_after=0),))]) as talk:
            await ask(talk)
            await talk.silent_until(VerdictGiven)
            assert [(n.accepted, n.reason) for n in talk.all(VerdictGiven)] == [(False, "failed")]
            # The early request failed, the one at the end again.
            assert {n.part for n in talk.all(PartTrouble)} == {"a"}

    run(script())


def test_a_voice_that_fails_leaves_the_text() -> None:
    class Hoarse(HummingVoice):
        async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
            if "Six" in text:
                raise PartFailed("tts", "hoarse")
            async for samples in super().synthesise(text):
                yield samples

    async def script() -> None:
        async with conversation(QUERY, voice=Hoarse()) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)]
            assert talk.text(1) == ["One two three four five.", "Six seven eight nine ten."]
            assert talk.all(PartTrouble) == [PartTrouble("tts", "hoarse")]

    run(script())


class Failing(HummingVoice):
    """Fails in these pieces of a reply, the first being 0, `begun` or before it has said anything."""

    def __init__(self, *pieces: int, begun: bool = False) -> None:
        super().__init__(pitch_hz=120)
        self._pieces = pieces
        self._begun = begun
        self.asked: list[str] = []

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        if text not in self.asked:
            self.asked.append(text)
        if self.asked.index(text) not in self._pieces:
            async for samples in super().synthesise(text):
                yield samples
        else:
            if self._begun:
                yield np.ones(2400, np.float32)
            raise PartFailed("tts", "hoarse")


SENTENCES = ("One two three four five.", "Six seven eight nine ten.", "And that is the end of it all.")


@pytest.mark.parametrize(
    ("voice", "messages", "told_at"),
    [
        (Failing(0), ["hoarse; another voice speaks"], [0]),
        (Failing(1), ["hoarse; another voice speaks"], [1]),
        (Failing(0, 1, 2), ["hoarse; another voice speaks"], [0]),
        (Failing(0, begun=True), ["hoarse", "hoarse; another voice speaks"], [0, 1]),
        (Failing(2, begun=True), ["hoarse"], [2]),
    ],
    ids=["first", "second", "all", "in the middle", "in the middle of the last"],
)
def test_a_turn_that_another_voice_goes_on_with_says_so_once(
    voice: Failing, messages: list[str], told_at: list[int]
) -> None:
    async def script() -> None:
        async with conversation(
            QUERY.model_copy(update={"text": " ".join(SENTENCES)}), voice=WithFallback(voice, HummingVoice())
        ) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)]
            assert talk.text(1) == list(SENTENCES)
            assert [trouble.message for trouble in talk.all(PartTrouble)] == messages
            notices = [notice for _, notice in talk.told]
            pieces = [notices.index(one) for one in talk.all(PartTrouble)]
            texts = [place for place, one in enumerate(notices) if isinstance(one, TurnAudio) and one.text is not None]
            # The trouble comes just before the first sound of the other voice, or after the last of what is cut.
            assert [sum(place < piece for place in texts) for piece in pieces] == [
                at + (not message.endswith("speaks")) for at, message in zip(told_at, messages, strict=True)
            ]

    run(script())


def test_a_turn_that_no_voice_speaks_is_told_and_goes_out_as_text() -> None:
    async def script() -> None:
        reply = QUERY.model_copy(update={"text": " ".join(SENTENCES)})
        async with conversation(reply, voice=WithFallback(Failing(0, 1, 2), Failing(0, 1))) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)]
            assert talk.text(1) == list(SENTENCES)
            messages = [trouble.message for trouble in talk.all(PartTrouble)]
            assert messages == ["hoarse", "hoarse", "hoarse; another voice speaks"]

    run(script())


def test_text_that_has_no_sound_is_not_the_first_audio() -> None:
    silent_first = ScriptedReply(transcript="a query", text="🎉\nNow a word.")

    async def script() -> None:
        async with conversation(silent_first) as talk:
            await ask(talk)
            await talk.silent_until(TurnRecorded)
            assert talk.text(1) == ["🎉", "Now a word."]
            [record] = [notice.record for notice in talk.all(TurnRecorded)]
            assert record.first_synthesised is not None
            assert record.first_audio_sent is not None
            assert record.first_audio_sent >= record.first_synthesised

    run(script())


def test_output_is_never_more_than_the_lead_ahead_of_real_time() -> None:
    async def script() -> None:
        async with conversation(LONG) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            begun, sent = talk.times(TurnAudio)[0], 0
            for time, notice in talk.told:
                if isinstance(notice, TurnAudio):
                    sent += len(notice.samples)
                    assert sent / 24_000 - (time - begun) <= 0.2 + 1e-6

    run(script())


def test_one_instance_can_serve_both_slots() -> None:
    async def script() -> None:
        async with conversation(instances=(ScriptedInstance("a", (LONG, QUERY)),)) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(1.0)
            await ask(talk)
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings() == [(1, "cancelled", "turn_detected"), (2, "completed", None)]
            assert [(r.generator, r.monitor) for r in talk.all(Roles)] == [("a", "a"), ("a", "a")]

    run(script())


@pytest.mark.parametrize("moment_s", [0.0, 0.5, 1.3, 1.55, 1.7, 2.5, 4.0, 5.2, 5.8])
def test_a_session_can_end_at_any_moment_and_leaves_nothing_running(moment_s: float) -> None:
    async def script() -> None:
        pair = ScriptedInstance("a", (LONG, QUERY)), ScriptedInstance("b", (LONG, QUERY))
        async with conversation(instances=pair) as talk:

            async def user() -> None:
                await ask(talk)
                await talk.silent_until(TurnAudio)
                await talk.be_silent(2.0)
                await ask(talk)

            speaking = asyncio.create_task(user())
            await asyncio.sleep(moment_s)
            speaking.cancel()
        await asyncio.sleep(0)
        assert [instance.running for instance in pair] == [0, 0]

    run(script())


def test_every_turn_leaves_one_record_whose_moments_are_in_order() -> None:
    async def script() -> None:
        async with conversation(LONG, NOISE, QUERY) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(1.0)
            await ask(talk)  # noise
            await talk.silent_until(TurnResumed)
            await talk.be_silent(1.0)
            await ask(talk)  # a query
            await talk.silent_until(TurnEnded, 2)
            await talk.silent_until(TurnRecorded, 3)
            records = {notice.record.turn: notice.record for notice in talk.all(TurnRecorded)}
            assert {turn: record.status for turn, record in records.items()} == {
                1: "cancelled", 2: "rejected", 3: "completed",
            }  # fmt: skip
            last = records[3]
            moments = [
                last.speech_start, last.speech_end, last.begun, last.verdict, last.endpoint, last.floor,
                last.first_audio_sent, last.finished,
            ]  # fmt: skip
            assert all(moment is not None for moment in moments)
            assert moments == sorted(moments, key=lambda moment: moment or 0)
            assert len(records[1].holds) == 2
            assert all(end is not None for _, end in records[1].holds)
            counts = last.samples
            assert counts.synthesised == counts.sent == counts.heard == len(talk.audio(3))
            assert records[1].samples.heard <= records[1].samples.sent <= records[1].samples.synthesised

    run(script())


def test_barge_in_off_ignores_what_is_said_during_the_answer() -> None:
    async def script() -> None:
        async with conversation(LONG, QUERY, QUERY, config=DuplexConfig(barge_in="off")) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(1.0)
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)]
            assert talk.all(TurnHeld) == []
            assert [n.speaking for n in talk.all(VoiceActivity)] == [True, False] * 2
            assert [n.utterance for n in talk.all(UserStarted)] == [1]
            await ask(talk)
            await talk.silent_until(TurnEnded, 2)
            assert talk.endings()[1:] == [(2, "completed", None)]

    run(script())


def test_barge_in_verdict_speaks_on_until_the_verdict() -> None:
    async def script() -> None:
        async with conversation(LONG, QUERY, config=DuplexConfig(barge_in="verdict")) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(1.0)
            spoke_from = asyncio.get_running_loop().time()
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.all(TurnHeld) == []
            during = [t for t, n in talk.told if isinstance(n, TurnAudio) and spoke_from < t < talk.times(TurnEnded)[0]]
            assert len(during) > 20

    run(script())


def test_the_reply_heard_until_the_verdict_is_in_the_dialogue_but_not_in_the_request_that_had_begun() -> None:
    async def script() -> None:
        slow = replace_reply(QUERY, verdict_s=1.0)
        async with conversation(LONG, slow, config=DuplexConfig(barge_in="verdict")) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(1.0)
            await ask(talk)
            await talk.silent_until(TurnEnded, 2)
            asked = talk.instances[1].queries[-1].history[-1]
            assert isinstance(asked, AssistantMessage)
            first, second, *_ = (m for m in talk.session.dialogue.history() if isinstance(m, AssistantMessage))
            assert asked.cut
            assert first.cut
            assert first.text == talk.all(TurnEnded)[0].heard
            assert len(first.text.split()) > len(asked.text.split()), "it went on for a second"
            assert first.text.startswith(asked.text)
            assert second.text == QUERY.text

    run(script())


class Warmable(ScriptedInstance):
    """Takes ten seconds for a warm-up and notes how it went."""

    def __init__(self, name: str, replies: tuple[ScriptedReply, ...]) -> None:
        super().__init__(name, replies)
        self.warmed: list[tuple[float, Query]] = []
        self.cancelled: list[float] = []

    async def warm(self, query: Query) -> None:
        self.warmed.append((asyncio.get_running_loop().time(), query))
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            self.cancelled.append(asyncio.get_running_loop().time())
            raise


def test_the_instance_that_would_judge_is_warmed_when_speech_begins_and_delays_no_request() -> None:
    async def script() -> None:
        pair = Warmable("a", (LONG, QUERY)), Warmable("b", (LONG, QUERY))
        async with conversation(instances=pair) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            assert len(pair[0].warmed) == 1
            await talk.be_silent(2.0)
            await ask(talk)
            await talk.silent_until(TurnEnded, 2)
            [(warmed, query)] = pair[1].warmed
            assert warmed < talk.times(TurnHeld)[0]
            question, answer = query.history
            assert question == UserMessage("a long story")
            assert isinstance(answer, AssistantMessage)
            assert LONG.text.startswith(answer.text)
            assert query.utterances == ()
            begun = [notice.record.begun for notice in talk.all(TurnRecorded)]
            assert pair[0].cancelled + pair[1].cancelled == pytest.approx(begun)

    run(script())


def test_a_warm_up_that_fails_harms_nothing() -> None:
    class Cold(ScriptedInstance):
        async def warm(self, query: Query) -> None:
            raise PartFailed(self.name, "cold")

    async def script() -> None:
        async with conversation(instances=(Cold("a", (QUERY,)),)) as talk:
            await ask(talk)
            await talk.silent_until(TurnEnded)
            assert talk.endings() == [(1, "completed", None)]
            assert talk.all(PartTrouble) == []

    run(script())


def test_a_typed_query_is_answered_alone_and_the_noise_before_it_stays_unknown() -> None:
    async def script() -> None:
        noise = replace_reply(NOISE, verdict_s=0.7)
        async with conversation(noise, QUERY) as talk:
            await ask(talk)
            await talk.session.ask(next(talk.numbers), "typed words")
            await talk.silent_until(TurnEnded)
            assert [(n.utterances, n.accepted) for n in talk.all(VerdictGiven)] == [((2,), True), ((1,), False)]
            assert talk.endings() == [(2, "completed", None)]
            assert talk.session.dialogue.history() == (UserMessage("typed words"), AssistantMessage(QUERY.text))

    run(script())


def test_what_a_client_says_late_corrects_a_reply_that_was_cut() -> None:
    async def script() -> None:
        async with conversation(LONG, QUERY) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(2.0)
            await talk.session.cancel_reply(1)
            await talk.silent_until(TurnEnded)
            talk.session.acknowledge(1, 24_000)
            assert talk.session.dialogue.history()[-1] == AssistantMessage("aaaaa bbbbb ccccc", cut=True)
            assert await talk.session.truncate(1, 12_000)
            assert talk.session.dialogue.history()[-1] == AssistantMessage("aaaaa", cut=True)
            assert not await talk.session.truncate(7, 12_000)

    run(script())


def test_while_an_instance_is_down_the_other_one_has_both_roles() -> None:
    async def script() -> None:
        pair = ScriptedInstance("a", (QUERY,)), ScriptedInstance("b", (QUERY,))
        async with conversation(instances=pair) as talk:
            served: list[list[int]] = []
            for healthy in (False, True):
                pair[0].healthy = healthy
                await ask(talk)
                await talk.silent_until(TurnEnded, len(served) + 1)
                served.append([len(instance.queries) for instance in pair])
            assert served == [[0, 1], [1, 1]]

    run(script())


def test_nothing_more_is_sent_while_an_engine_takes_its_time_to_abort() -> None:
    class Slow(ScriptedInstance):
        async def answer(self, query: Query) -> AsyncGenerator[Verdict | str]:
            try:
                async for item in super().answer(query):
                    yield item
            finally:
                await asyncio.sleep(0.09)

    async def script() -> None:
        endless = replace_reply(LONG, token_s=0.3)
        pair = Slow("a", (endless, QUERY)), Slow("b", (endless, QUERY))
        async with conversation(instances=pair, config=DuplexConfig(barge_in="verdict")) as talk:
            await ask(talk)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(2.0)
            await ask(talk)
            ended = await talk.silent_until(TurnEnded)
            last = max(time for time, n in talk.told if isinstance(n, TurnAudio) and n.turn == 1)
            assert last <= ended - 0.09

    run(script())


class ForgetfulEars(MicrophoneListener):
    """Say everything of an utterance again in the middle of the next one."""

    async def run(self) -> AsyncGenerator[Heard]:
        earlier: list[Heard] = []
        async for heard in super().run():
            yield heard
            if isinstance(heard.event, SpeechSustained):
                for again in [one for one in earlier if one.event.utterance < heard.event.utterance]:
                    yield again
            earlier.append(heard)


@pytest.mark.parametrize("judged", [True, False])
def test_what_the_ears_say_again_of_an_older_utterance_changes_nothing(judged: bool) -> None:
    async def script(ears: type[MicrophoneListener]) -> tuple[list[str], list[str | int]]:
        async with conversation(NOISE, QUERY, ears=ears) as talk:
            await talk.session.configure(Configure(answers_speech=judged))
            await ask(talk)
            await ask(talk)
            await talk.be_silent(8.0)
            committed = [notice.utterance for notice in talk.all(UtteranceCommitted)]
            answered = [notice.transcript for notice in talk.all(UtteranceAccepted)]
            return [type(notice).__name__ for _, notice in talk.told if not isinstance(notice, TurnAudio)], [
                *committed, *answered,
            ]  # fmt: skip

    told, entered = run(script(ForgetfulEars))
    assert (told, entered) == run(script(MicrophoneListener))
    assert entered == (["a query"] if judged else [1, 2])


@pytest.mark.parametrize(("finished", "hint", "silence_s"), [(0.0, True, 1.6), (0.0, False, 0.5), (None, True, 0.5)])
def test_words_that_end_in_the_middle_wait_for_more(finished: float | None, hint: bool, silence_s: float) -> None:
    class Reader(ScriptedInstance):
        def _judge(self, query: Query, reply: ScriptedReply) -> Verdict:
            return replace(super()._judge(query, reply), finished=finished)

    async def script() -> None:
        async with conversation(instances=[Reader("a", (QUERY,)), Reader("b", (QUERY,))]) as talk:
            talk.listener.configure(EndpointConfig(hint=hint, patient_ms=1600))
            await talk.speak(1.0)
            spoken = asyncio.get_running_loop().time()
            assert await talk.silent_until(UserStopped) - spoken == pytest.approx(silence_s, abs=0.05)

    run(script())
