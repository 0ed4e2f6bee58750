"""One turn being spoken, on virtual time: order, pace, hold and resume, and what happens when the voice fails."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.virtual_time import run
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import Chunk, PartFailed, Synthesiser
from vita_duplex.tts.fades import FADE_MS
from vita_duplex.tts.speech import AHEAD_S, CHUNK_MS, PacedSpeech, SpeechConfig, slow_seconds
from vita_duplex.tts.text.sentences import SILENCE_S
from vita_duplex.tts.voices.queue import VoiceQueue
from vita_duplex.tts.voices.scripted import HummingVoice

RATE = 1000
CHUNK = RATE * CHUNK_MS // 1000
LEAD_S = 0.2


@dataclass
class CountingVoice:
    """Each character becomes 50 samples; all samples of a reply are numbered, so that none can be lost unseen."""

    part: int = 10_000
    """Samples it yields at a time."""
    part_s: float = 0.0
    """Seconds it takes for each."""
    failures: list[int | None] = field(default_factory=list)
    """For each attempt: fail before yielding this part, or do not."""
    rate: int = RATE
    asked: list[str] = field(default_factory=list)
    closed: int = 0
    made: int = 0

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        self.asked.append(text)
        fails_at = self.failures.pop(0) if self.failures else None
        left = 50 * len(text)
        try:
            for number in range(-(-left // self.part)):
                await asyncio.sleep(self.part_s)
                if number == fails_at:
                    raise PartFailed("tts", "scripted to fail")
                count = min(self.part, left)
                self.made, left = self.made + count, left - count
                yield np.arange(self.made - count, self.made, dtype=np.float32)
        finally:
            self.closed += 1


@dataclass
class Sent:
    """What went out, and when."""

    speech: PacedSpeech
    chunks: list[Chunk] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    leads: list[int] = field(default_factory=list)

    def __call__(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.times.append(asyncio.get_running_loop().time())
        self.leads.append(self.count - self.speech.heard())

    @property
    def count(self) -> int:
        return sum(len(chunk.samples) for chunk in self.chunks)

    @property
    def samples(self) -> Samples:
        return np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in self.chunks)])

    @property
    def texts(self) -> list[str]:
        return [chunk.text for chunk in self.chunks if chunk.text is not None]

    @property
    def errors(self) -> list[str]:
        return [chunk.error for chunk in self.chunks if chunk.error is not None]


def paced(voice: Synthesiser, *, client_pauses: bool = False, lead_ms: int = 200) -> tuple[PacedSpeech, Sent]:
    speech = PacedSpeech(voice, SpeechConfig(lead_ms=lead_ms), client_pauses=client_pauses)
    return speech, Sent(speech)


def say(voice: Synthesiser, *deltas: str) -> Sent:
    async def main() -> Sent:
        speech, sent = paced(voice)
        for delta in deltas:
            speech.write(delta)
        speech.finish()
        await speech.play(sent)
        return sent

    return run(main())


def numbered(count: int) -> list[float]:
    return list(range(count))


def assert_whole(sent: Sent, made: int, cuts: int = 0) -> None:
    """Every sample went out once and in order; at gaps and cuts, and only there, some were made softer."""
    softer = sent.samples < np.arange(made)
    assert len(sent.samples) == made
    assert np.all(sent.samples[~softer] == np.arange(made)[~softer])
    assert np.all(sent.samples >= 0)
    assert softer.sum() <= FADE_MS * (2 * sent.speech.underruns + cuts)


async def passed(seconds: float) -> None:
    await asyncio.sleep(seconds)


def test_every_sample_goes_out_once_and_in_order() -> None:
    for part in (7, 40, 41, 10_000):
        voice = CountingVoice(part=part)
        sent = say(voice, "One two. Three four.", " Five")
        assert voice.asked == ["One two.", "Three four.", "Five"]
        assert sent.samples.tolist() == numbered(voice.made) == numbered(50 * (8 + 11 + 4))
        assert sent.speech.synthesised == sent.speech.heard() == sent.count
        assert max(len(chunk.samples) for chunk in sent.chunks) <= CHUNK


def test_the_humming_voice_goes_out_sample_for_sample() -> None:
    async def synthesised(voice: HummingVoice, *texts: str) -> Samples:
        return np.concatenate([samples for text in texts async for samples in voice.synthesise(text)])

    sent = say(HummingVoice(), "This is a first sentence. And a second.")
    expected = run(synthesised(HummingVoice(), "This is a first sentence.", "And a second."))
    assert sent.samples.tobytes() == expected.tobytes()


def test_the_text_comes_with_the_first_chunk_of_its_piece() -> None:
    sent = say(CountingVoice(), "One two. Three.")
    assert [(number * CHUNK, chunk.text) for number, chunk in enumerate(sent.chunks) if chunk.text] == [
        (0, "One two."),
        (400, "Three."),
    ]
    assert [chunk.piece_samples for chunk in sent.chunks] == [400] * 10 + [300] * 8


def test_speaking_starts_before_the_text_is_complete() -> None:
    async def main() -> Sent:
        speech, sent = paced(CountingVoice(part_s=0.1))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speech.play(sent))
            await passed(1.0)
            speech.write("One two.")
            await passed(0.25)
            assert sent.times == []  # perhaps it goes on: "One two..."
            speech.write(" Three")
            await passed(0.0)
            assert speech.first_clause == 1.25
            await passed(1.0)
            assert (sent.times[0], speech.first_synthesised, sent.texts) == (1.35, 1.35, ["One two."])
            speech.write(" four.")
            speech.finish()
        return sent

    assert run(main()).texts == ["One two.", "Three four."]


def test_when_the_text_falls_silent_what_is_there_is_spoken() -> None:
    async def main() -> Sent:
        speech, sent = paced(CountingVoice())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speech.play(sent))
            speech.write("Let me")
            await passed(0.2)
            speech.write(" think about")
            await passed(SILENCE_S - 0.01)
            assert sent.texts == []
            await passed(0.02)
            assert sent.texts == ["Let me think"]
            speech.write(" it. Yes.")
            speech.finish()
        return sent

    assert run(main()).texts == ["Let me think", "about it.", "Yes."]


def test_moments_at_the_beginning_of_time_are_moments_too() -> None:
    async def main() -> PacedSpeech:
        speech, sent = paced(CountingVoice())
        speech.write("One two. ")
        playing = asyncio.create_task(speech.play(sent))
        await passed(1.0)
        speech.write("Three. ")
        speech.finish()
        await playing
        return speech

    speech = run(main())
    assert (speech.first_clause, speech.first_synthesised) == (0.0, 0.0)


def test_a_voice_that_comes_late_fades_out_and_in_and_is_counted() -> None:
    """Parts of 100 ms that take 250 ms each: after each one the client runs out."""
    sent = say(CountingVoice(part=100, part_s=0.25), "Ten chars.")
    assert_whole(sent, 500)
    assert sent.speech.underruns == 4
    out, back = sent.samples[95:100] / np.arange(95, 100), sent.samples[100:106] / np.arange(100, 106)
    assert out.tolist() == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])
    assert back.tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_voice_in_time_is_not_touched() -> None:
    for voice in (CountingVoice(part=30, part_s=0.029), CountingVoice(part=400, part_s=0.3), CountingVoice(part=3)):
        sent = say(voice, "Twenty characters...")
        assert (sent.samples.tolist(), sent.speech.underruns) == (numbered(1000), 0)


def test_a_hold_is_no_underrun() -> None:
    async def main() -> Sent:
        speech, sent = paced(CountingVoice())
        speech.write("Twenty characters...")
        speech.finish()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speech.play(sent))
            await passed(0.3)
            speech.hold()
            await passed(5)
            speech.resume()
        return sent

    sent = run(main())
    assert (sent.samples.tolist(), sent.speech.underruns) == (numbered(1000), 0)


def test_a_first_piece_waits_for_no_more_than_one_part_of_each_session_before_it() -> None:
    """Two sessions with long replies share a voice that serves one; a third one begins."""

    async def main() -> list[float | None]:
        voice_queue, voice = VoiceQueue(1), CountingVoice(part=1200, part_s=0.5)
        long = [PacedSpeech(voice, SpeechConfig(), client_pauses=False, voice_queue=voice_queue) for _ in range(2)]
        begun = []
        playing = [asyncio.create_task(speech.play(Sent(speech))) for speech in long]
        for speech in long:
            speech.write("Twenty characters... " * 20)
        for _ in range(4):
            await passed(1.3)
            newcomer = PacedSpeech(voice, SpeechConfig(), client_pauses=False, voice_queue=voice_queue)
            newcomer.write("One. ")
            newcomer.finish()
            before = asyncio.get_running_loop().time()
            await newcomer.play(Sent(newcomer))
            assert newcomer.first_synthesised is not None
            begun.append(newcomer.first_synthesised - before)
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
        return begun

    # Half a second for the part that is under way, half a second of its own.
    assert max(run(main())) <= 1.0


def test_no_more_than_the_lead_is_sent_ahead() -> None:
    for voice in (CountingVoice(), CountingVoice(part=33, part_s=0.03), HummingVoice()):
        sent = say(voice, "Long enough for many chunks. And one more.")
        assert max(sent.leads) <= LEAD_S * voice.rate
        assert max(sent.leads) >= (LEAD_S - 0.001) * voice.rate - CHUNK


def test_it_takes_as_long_as_it_takes_to_hear_it() -> None:
    sent = say(CountingVoice(), "Twenty characters..." * 2)
    assert sent.count == 2000
    assert sent.times[0] == 0
    assert sent.times[-1] == pytest.approx(2.0 - LEAD_S, abs=0.002)


def test_play_returns_when_the_last_sample_was_heard() -> None:
    async def main() -> float:
        speech, sent = paced(CountingVoice())
        speech.write("Twenty characters...")
        speech.finish()
        await speech.play(sent)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(1.0, abs=0.002)


def test_an_empty_reply_is_over_at_once() -> None:
    sent = say(CountingVoice(), "", "  ")
    assert (sent.chunks, sent.times) == ([], [])


@pytest.mark.parametrize("client_pauses", [False, True])
def test_during_a_hold_nothing_is_sent_and_then_the_exact_next_sample(client_pauses: bool) -> None:
    async def main() -> Sent:
        speech, sent = paced(CountingVoice(), client_pauses=client_pauses)
        speech.write("Twenty characters... ")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speech.play(sent))
            await passed(0.3)
            speech.hold()
            before, heard = sent.count, speech.heard()
            speech.write("Written during the hold. ")
            speech.finish()
            await passed(60)
            assert (sent.count, sent.texts) == (before, ["Twenty characters..."])
            assert speech.heard() == (heard if client_pauses else before)
            speech.resume()
            await passed(0)
            assert speech.heard() == (heard if client_pauses else before)
        return sent

    sent = run(main())
    assert sent.samples.tolist() == numbered(1000 + 24 * 50)
    assert sent.texts == ["Twenty characters...", "Written during the hold."]
    assert max(sent.leads) <= 200


def test_a_held_reply_sends_no_text_either() -> None:
    async def main() -> Sent:
        speech, sent = paced(CountingVoice(failures=[0, 0]))
        speech.hold()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speech.play(sent))
            speech.write("This fails. 🎉 ")
            speech.finish()
            await passed(5)
            assert sent.chunks == []
            speech.resume()
        return sent

    sent = run(main())
    assert sent.texts == ["This fails.", "🎉"]


def test_a_reply_may_be_held_before_its_first_sample() -> None:
    async def main() -> Sent:
        speech, sent = paced(CountingVoice(), client_pauses=True)
        speech.hold()
        speech.write("One two. ")
        speech.finish()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speech.play(sent))
            await passed(5)
            assert sent.chunks == []
            speech.resume()
        return sent

    sent = run(main())
    assert (sent.times[0], sent.samples.tolist()) == (5.0, numbered(400))


def test_a_piece_that_fails_once_is_said_again() -> None:
    voice = CountingVoice(failures=[0])
    sent = say(voice, "One two. Three.")
    assert voice.asked == ["One two.", "One two.", "Three."]
    assert (sent.texts, sent.errors, sent.count) == (["One two.", "Three."], [], 700)


def test_a_piece_that_fails_twice_goes_out_as_text() -> None:
    voice = CountingVoice(failures=[0, 0])
    sent = say(voice, "One two. Three.")
    assert voice.asked == ["One two.", "One two.", "Three."]
    assert [(c.text, len(c.samples), c.error) for c in sent.chunks[:2]] == [
        ("One two.", 0, "scripted to fail"),
        ("Three.", CHUNK, None),
    ]
    assert sent.samples.tolist() == numbered(300)


def test_a_piece_that_fails_in_the_middle_is_not_said_twice_and_the_failure_is_told_once() -> None:
    voice = CountingVoice(part=100, failures=[2])
    sent = say(voice, "One two. Three.")
    assert voice.asked == ["One two.", "Three."]
    assert_whole(sent, 200 + 300, cuts=1)
    cut = sent.samples[194:202] / np.arange(194, 202)
    assert cut.tolist() == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0, 1, 1])
    assert sent.texts == ["One two.", "Three."]
    assert sent.errors == ["scripted to fail"]


def test_what_cannot_be_said_goes_out_as_text_without_an_error() -> None:
    voice = CountingVoice()
    sent = say(voice, "Great! 🎉 ")
    assert voice.asked == ["Great!"]
    assert (sent.texts, sent.errors, sent.count) == (["Great!", "🎉"], [], 300)


def test_markdown_is_written_and_not_said() -> None:
    voice = CountingVoice()
    assert say(voice, "It is **very** late.").texts == ["It is **very** late."]
    assert voice.asked == ["It is very late."]


@pytest.mark.parametrize("end", ["\n```\nThat was it.", "\n```", ""])
def test_a_code_block_is_written_and_not_said(end: str) -> None:
    voice = CountingVoice()
    code = "```python\nprint('One. Two.')\n\n" + "print('three')\n" * 20
    sent = say(voice, f"Like this:\n{code}{end}")
    assert " ".join(" ".join(sent.texts).split()) == " ".join(f"Like this:\n{code}{end}".split())
    assert voice.asked == ["Like this:", *(["That was it."] if "That" in end else [])]


async def cancelled_after(
    seconds: float, speech: PacedSpeech, sent: Sent, when_over: Callable[[], None] = lambda: None
) -> None:
    async def play() -> None:
        try:
            await speech.play(sent)
        finally:
            when_over()

    playing = asyncio.create_task(play())
    await passed(seconds)
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.3, 2.0])
def test_cancelling_closes_the_voice_and_leaves_no_task(seconds: float) -> None:
    async def main() -> CountingVoice:
        voice = CountingVoice(part=50, part_s=0.04)
        speech, sent = paced(voice)
        speech.write("Twenty characters... " * 5)
        await cancelled_after(seconds, speech, sent)
        count = sent.count
        await passed(10)
        assert sent.count == count
        return voice

    voice = run(main())
    assert voice.closed == len(voice.asked)


def test_cancelling_closes_a_voice_that_waits_for_room_at_once() -> None:
    async def main() -> list[int]:
        voice, closed = CountingVoice(part=100), []
        speech, sent = paced(voice)
        speech.write("x" * 239 + ". ")  # 12 s
        await cancelled_after(1, speech, sent, lambda: closed.append(voice.closed))
        return closed

    assert run(main()) == [1]


@pytest.mark.parametrize("held", [False, True])
def test_the_voice_is_only_so_far_ahead(held: bool) -> None:
    async def main() -> None:
        voice = CountingVoice(part=100)
        speech, sent = paced(voice)
        if held:
            speech.hold()
        speech.write("Twenty characters... " * 40)  # 40 s
        speech.finish()
        playing = asyncio.create_task(speech.play(sent))
        for _ in range(25):
            await passed(1)
            assert speech.synthesised == voice.made - voice.part, "one part waits for room"
            assert AHEAD_S * RATE - CHUNK <= speech.synthesised - sent.count <= AHEAD_S * RATE + voice.part
        speech.resume()
        await playing
        assert sent.samples.tolist() == numbered(40 * 1000)

    run(main())


script = st.lists(st.tuples(st.sampled_from(["write", "hold", "resume"]), st.floats(0, 1.5)), max_size=10)


@settings(deadline=None, max_examples=25)
@given(script, st.booleans(), st.sampled_from([37, 10_000]), st.sampled_from([0.0, 0.05]), st.sampled_from([40, 200]))
def test_holds_at_any_moment_lose_and_repeat_nothing(
    actions: list[tuple[str, float]], client_pauses: bool, part: int, part_s: float, lead_ms: int
) -> None:
    async def main() -> None:
        voice = CountingVoice(part, part_s, failures=[None, 0, None, 0, 0])
        speech, sent = paced(voice, client_pauses=client_pauses, lead_ms=lead_ms)
        playing = asyncio.create_task(speech.play(sent))
        held, heard, written = False, 0, 0
        for action, seconds in actions:
            if action == "write":
                speech.write(f"Text {written}. ")
                written += 1
            else:
                held = action == "hold"
                (speech.hold if held else speech.resume)()
            before = len(sent.chunks)
            await passed(seconds)
            assert not held or len(sent.chunks) == before
            assert heard <= speech.heard() <= sent.count
            heard = speech.heard()
        speech.finish()
        speech.resume()
        await playing
        # A part that comes while the client has next to nothing left is faded at both ends, in time or not.
        assert_whole(sent, voice.made, cuts=2 * (voice.made // part + 1) if part_s else 0)
        assert speech.heard() == voice.made
        assert sent.texts == [f"Text {number}." for number in range(written)]
        assert max(sent.leads, default=0) <= lead_ms

    run(main())


def test_virtual_time_notices_a_task_left_behind() -> None:
    async def careless() -> None:
        task = asyncio.create_task(passed(5), name="forgotten")
        await passed(0)
        assert not task.done()

    coroutine: Coroutine[Any, Any, None] = careless()
    with pytest.raises(AssertionError, match="forgotten"):
        run(coroutine)


def test_a_piece_that_is_still_being_made_is_told_rather_too_long_and_its_true_length_at_the_end() -> None:
    class Hesitant(CountingVoice):
        async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
            async for samples in super().synthesise(text):
                yield samples
            await asyncio.sleep(3)  # nothing tells that this was all

    async def main() -> list[tuple[int, int]]:
        speech, sent = paced(Hesitant())
        speech.write("Twenty characters.. ")
        speech.finish()
        await speech.play(sent)
        return [(len(chunk.samples), chunk.piece_samples) for chunk in sent.chunks]

    *sounding, last = run(main())
    assert sum(count for count, _ in sounding) == 950
    assert {length for _, length in sounding} == {1900}, "a tenth of a second for each of 19 characters"
    assert last == (0, 950)


def test_slow_voices_take_longer_for_digits_and_chinese() -> None:
    assert slow_seconds("abc d") == pytest.approx(0.5)
    assert slow_seconds("1999") == pytest.approx(1.4)
    assert slow_seconds("你好") == pytest.approx(0.7)
