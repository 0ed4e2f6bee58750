"""The ears of a session: the same events and the same samples, however the microphone's audio arrives."""

import asyncio
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import aclosing
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.virtual_time import InlineExecutor, run
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.events import SpeechEnded, SpeechPaused, SpeechResumed, SpeechStarted, SpeechSustained
from vita_duplex.engine.ports import Heard
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.endpoint import WINDOW, EndpointConfig
from vita_duplex.vad.listener import STARVED_S, WAITING_LIMIT, MicrophoneListener
from vita_duplex.vad.scripted import LevelVad

PRE_ROLL, PAUSE, CLOSING = 4800, 6 * WINDOW, 12 * WINDOW


def sound(*lengths: int) -> Samples:
    """Silence and noise in turn, of so many samples, no two of which are alike."""
    rng = np.random.default_rng(7)
    levels = np.repeat([1e-4 if number % 2 == 0 else 0.3 for number in range(len(lengths))], lengths)
    return np.asarray(levels * rng.uniform(-1, 1, levels.size), np.float32)


CONVERSATION = sound(20_000, 30_000, 6000, 8000, 24_001, 2000, 16_000, 700, 16_000, 40_000, 9000)


def open_listener(config: EndpointConfig | None = None) -> MicrophoneListener:
    return MicrophoneListener(Detector(LevelVad(), InlineExecutor()), config or EndpointConfig(), count(1))


async def listen(
    frames: Iterable[Samples], listener: MicrophoneListener, *, pause: float | None = None, remember: bool = True
) -> list[Heard]:
    """What is heard of the frames, given all at once or one per `pause` seconds."""
    heard: list[Heard] = []

    async def collect() -> None:
        async with aclosing(listener.run()) as ears:
            async for one in ears:
                if remember:
                    heard.append(one)

    collecting = asyncio.create_task(collect())
    for frame in frames:
        assert listener.hear(frame)
        if pause is not None:
            await asyncio.sleep(pause)
    await asyncio.sleep(1)
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)
    return heard


def heard_of(
    frames: Iterable[Samples], config: EndpointConfig | None = None, pause: float | None = None
) -> list[Heard]:
    async def main() -> list[Heard]:
        return await listen(frames, open_listener(config), pause=pause)

    return run(main())


def cut(samples: Samples, sizes: Iterable[int]) -> list[Samples]:
    """Frames of these sizes, over and over."""
    frames, sizes, at = [], list(sizes), 0
    while at < len(samples):
        for size in sizes:
            frames.append(samples[at : at + size])
            at += size
    return frames


def plain(heard: list[Heard]) -> list[tuple[object, ...]]:
    """For comparison: samples as bytes."""
    return [(h.event, h.start, h.end, h.now, h.samples.tobytes() if h.samples is not None else None) for h in heard]


def test_an_utterance_is_told_with_its_exact_samples() -> None:
    samples = sound(20 * WINDOW, 10 * WINDOW, 20 * WINDOW)
    early, kept = (samples[20 * WINDOW - PRE_ROLL : 30 * WINDOW + rest].tobytes() for rest in (PAUSE, CLOSING))
    start, end = 20 * WINDOW, 30 * WINDOW
    assert plain(heard_of([samples])) == [
        (SpeechStarted(1), start, 23 * WINDOW, 23 * WINDOW, None),
        (SpeechSustained(1), start, 24 * WINDOW, 24 * WINDOW, None),
        (SpeechPaused(1), start, end, 36 * WINDOW, early),
        (SpeechEnded(1), start, end, 46 * WINDOW, kept),
    ]


def test_a_conversation_has_numbered_utterances() -> None:
    assert [heard.event for heard in heard_of([CONVERSATION])] == [
        SpeechStarted(1),
        SpeechSustained(1),
        SpeechPaused(1),
        SpeechResumed(1),
        SpeechPaused(1),
        SpeechEnded(1),
        SpeechStarted(2),
        SpeechSustained(2),
        SpeechPaused(2),
        SpeechEnded(2),
        SpeechStarted(3),
        SpeechSustained(3),
        SpeechPaused(3),
        SpeechEnded(3),
    ]


@pytest.mark.parametrize("sizes", [[160], [320], [511, 1], [512], [513], [48_000], [1, 48_000, 7, 900]])
@pytest.mark.parametrize("pause", [None, 0.02])
def test_any_frames_give_the_same_events_and_samples(sizes: list[int], pause: float | None) -> None:
    assert plain(heard_of(cut(CONVERSATION, sizes), pause=pause)) == plain(heard_of([CONVERSATION]))


def test_single_samples_give_the_same_events_and_samples() -> None:
    samples = sound(2000, 3000, 10_000)
    expected = plain(heard_of([samples]))
    assert len(expected) == 4
    assert plain(heard_of(cut(samples, [1]))) == expected
    assert plain(heard_of(cut(samples, [1]), pause=1 / INPUT_RATE)) == expected


def test_audio_that_trickles_in_starves_nothing() -> None:
    async def main() -> list[float]:
        listener, ends = open_listener(), list[float]()

        async def collect() -> None:
            async with aclosing(listener.run()) as ears:
                async for one in ears:
                    if isinstance(one, Heard) and isinstance(one.event, SpeechEnded):
                        ends.append(asyncio.get_running_loop().time())

        collecting = asyncio.create_task(collect())
        listener.hear(sound(2000, 20_000))
        for _ in range(4):
            await asyncio.sleep(STARVED_S - 0.1)
            listener.hear(np.zeros(100, np.float32))
        fed = asyncio.get_running_loop().time()
        await asyncio.sleep(2)
        collecting.cancel()
        return [end - fed for end in ends]

    assert run(main()) == [pytest.approx(STARVED_S)]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 48_000), min_size=1, max_size=8).filter(sum), st.sampled_from([None, 0.01, STARVED_S - 0.1])
)
def test_random_frames_give_the_same_events_and_samples(sizes: list[int], pause: float | None) -> None:
    sizes = [max(size, 50) if size else 0 for size in sizes]
    assert plain(heard_of(cut(CONVERSATION, sizes), pause=pause)) == plain(heard_of([CONVERSATION]))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=9), st.sampled_from([0, 300, 2500]))
def test_utterances_are_slices_of_what_was_pushed(lengths: list[int], pre_roll_ms: int) -> None:
    samples = sound(*lengths, 20_000)
    ended = [
        h for h in heard_of([samples], EndpointConfig(pre_roll_ms=pre_roll_ms)) if isinstance(h.event, SpeechEnded)
    ]
    free = 0
    for heard in ended:
        begin = max(free, heard.start - pre_roll_ms * 16)
        free = heard.end + CLOSING
        assert heard.samples is not None
        assert heard.samples.tobytes() == samples[begin:free].tobytes()


def test_long_speech_is_cut_without_losing_a_sample() -> None:
    samples = sound(0, 150_000, 20_000)
    ended = [h for h in heard_of([samples], EndpointConfig(max_utterance_s=2)) if isinstance(h.event, SpeechEnded)]
    assert [h.event.utterance for h in ended] == list(range(1, len(ended) + 1))
    assert all(1.0 <= (h.end - h.start) / INPUT_RATE <= 2.05 for h in ended[:-1])
    joined = np.concatenate([h.samples for h in ended if h.samples is not None])
    assert joined.tobytes() == samples[: ended[-1].end + CLOSING].tobytes()


def test_a_blip_of_60_ms_holds_nothing_wherever_it_falls() -> None:
    for offset in range(0, WINDOW, 37):
        heard = heard_of([sound(20_000 + offset, 960, 20_000)])
        assert not [one for one in heard if isinstance(one.event, SpeechSustained)]


def test_more_than_60_seconds_are_not_taken_in() -> None:
    async def main() -> None:
        listener = open_listener()
        assert WAITING_LIMIT == 60 * INPUT_RATE
        assert not listener.hear(np.zeros(WAITING_LIMIT + 1, np.float32))
        assert all(listener.hear(np.zeros(INPUT_RATE, np.float32)) for _ in range(60))
        assert not listener.hear(np.zeros(1, np.float32))
        assert await listen([], listener) == []
        assert listener.hear(np.zeros(WAITING_LIMIT, np.float32))  # what was listened to waits no more

    run(main())


def test_what_is_left_of_a_long_frame_still_waits() -> None:
    async def main() -> None:
        listener = open_listener()
        assert listener.hear(sound(0, WAITING_LIMIT))
        async with aclosing(listener.run()) as ears:
            assert (await anext(ears)).event == SpeechStarted(1)  # 2 s are listened to
            assert listener.hear(np.zeros(INPUT_RATE, np.float32))
            assert not listener.hear(np.zeros(3 * INPUT_RATE, np.float32))

    run(main())


def test_what_is_refused_leaves_no_gap_in_what_was_taken() -> None:
    async def main() -> list[Heard]:
        listener = open_listener()
        padding = np.zeros(WAITING_LIMIT - len(CONVERSATION), np.float32)
        assert listener.hear(padding)
        assert listener.hear(CONVERSATION)
        assert not listener.hear(sound(0, 5000))
        return await listen([], listener)

    shift = WAITING_LIMIT - len(CONVERSATION)
    whole = np.concatenate([np.zeros(shift, np.float32), CONVERSATION])
    assert plain(run(main())) == plain(heard_of([whole]))


def test_forgotten_audio_is_not_listened_to() -> None:
    async def main() -> list[Heard]:
        listener = open_listener()
        await listen([np.full(100, 0.5, np.float32)], listener)  # less than a window, waits for more
        listener.hear(sound(0, 30_000))
        listener.forget()
        return await listen([np.zeros(40_000, np.float32)], listener)

    assert run(main()) == []


def test_forgetting_drops_also_what_is_less_than_a_window() -> None:
    async def main() -> list[Heard]:
        listener = open_listener()
        await listen([np.full(511, 0.5, np.float32)], listener)
        listener.forget()
        return await listen([samples], listener)

    samples = sound(2 * WINDOW, 10 * WINDOW, 20 * WINDOW)
    assert plain(run(main())) == plain(heard_of([samples]))


def test_new_settings_count_from_the_next_window() -> None:
    async def main() -> list[Heard]:
        listener = open_listener()
        first = await listen([sound(0, 10_240, 10 * WINDOW)], listener)
        listener.configure(EndpointConfig(silence_ms=320))
        assert listener.config.silence_ms == 320
        return [*first, *await listen([np.zeros(WINDOW, np.float32)], listener)]

    heard = run(main())
    assert [one.event for one in heard] == [SpeechStarted(1), SpeechSustained(1), SpeechPaused(1), SpeechEnded(1)]
    assert heard[-1].now == 31 * WINDOW


def memory_of(frame: Callable[[], Samples], seconds: int) -> tuple[int, int]:
    """Bytes in use after one second and at the end."""

    async def main() -> tuple[int, int]:
        listener = open_listener()
        await listen([frame()], listener, remember=False)
        before = tracemalloc.get_traced_memory()[0]
        await listen((frame() for _ in range(seconds)), listener, pause=1.0, remember=False)
        return before, tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        return run(main())
    finally:
        tracemalloc.stop()


def test_silence_takes_no_memory() -> None:
    before, after = memory_of(lambda: np.zeros(INPUT_RATE, np.float32), 60)  # 3.8 MB in all
    assert after - before < 400_000


def test_endless_noise_is_kept_for_one_utterance_at_most() -> None:
    before, after = memory_of(lambda: np.full(INPUT_RATE, 0.5, np.float32), 100)  # 6.4 MB, of which 30 s are 1.9 MB
    assert after - before < 2_500_000


def test_endless_speech_with_pauses_is_kept_for_one_utterance_at_most() -> None:
    breath = np.concatenate([np.full(15_000, 0.5, np.float32), np.full(1000, 0.05, np.float32)])
    before, after = memory_of(lambda: breath.copy(), 100)
    assert after - before < 2_500_000
