"""Who gets a free seat: the one whose sound is needed first, and nobody who has left."""

import asyncio

from tests.support.virtual_time import run
from vita_duplex.tts.voices.queue import VoiceQueue


async def sit(voice_queue: VoiceQueue, name: str, due: float, order: list[str], seconds: float = 1.0) -> None:
    async with voice_queue.admit(due):
        order.append(name)
        await asyncio.sleep(seconds)


def test_the_most_urgent_is_served_next() -> None:
    async def main() -> list[str]:
        voice_queue, order = VoiceQueue(1), list[str]()
        async with asyncio.TaskGroup() as tasks:
            for name, due in (("first", 9.0), ("late", 8.0), ("soon", 2.0), ("soon too", 2.0), ("now", 0.0)):
                tasks.create_task(sit(voice_queue, name, due, order))
        return order

    assert run(main()) == ["first", "now", "soon", "soon too", "late"]


def test_as_many_as_there_are_seats_sit_at_once() -> None:
    async def main() -> tuple[int, float]:
        voice_queue, order = VoiceQueue(2), list[str]()
        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(sit(voice_queue, str(number), 0.0, order))
            await asyncio.sleep(0.5)
            at_once = len(order)
        return at_once, asyncio.get_running_loop().time()

    assert run(main()) == (2, 3.0)


def test_who_leaves_while_waiting_or_sitting_takes_no_seat_along() -> None:
    async def main() -> list[str]:
        voice_queue, order = VoiceQueue(1), list[str]()
        leaving = [
            asyncio.create_task(sit(voice_queue, name, due, order, 9)) for name, due in (("sits", 0), ("waits", 1))
        ]
        await asyncio.sleep(0.1)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await sit(voice_queue, "next", 2.0, order)
        return order

    assert run(main()) == ["sits", "next"]


def test_who_leaves_in_the_moment_the_seat_comes_passes_it_on() -> None:
    async def main() -> list[str]:
        voice_queue, order = VoiceQueue(1), list[str]()
        async with voice_queue.admit(0.0):
            leaving = asyncio.create_task(sit(voice_queue, "leaves", 1.0, order))
            await asyncio.sleep(0)
        leaving.cancel()  # it was given the seat and has not run since
        await asyncio.gather(leaving, return_exceptions=True)
        await sit(voice_queue, "next", 2.0, order)
        return order

    assert run(main()) == ["next"]
