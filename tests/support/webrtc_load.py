"""What sessions over WebRTC cost, and how soon they fall silent: python -m tests.support.webrtc_load SESSIONS

A server with scripted parts in a process of its own; the callers, made of aiortc, share another one.
"""

import asyncio
import sys

import numpy as np
import psutil

from tests.support.served import served
from tests.support.webrtc import Caller, calling

TALK_S = 15.0


def cpu_s(port: int) -> float:
    """CPU seconds of the process that listens there."""
    owner = next(one for one in psutil.net_connections("tcp") if one.laddr.port == port and one.status == "LISTEN")
    times = psutil.Process(owner.pid).cpu_times()
    return float(times.user + times.system)


async def interrupt(caller: Caller, turns: int) -> list[float]:
    """Ask, and speak into each answer; return in milliseconds how long after the first loud frame it was loud yet."""
    stops: list[float] = []
    await caller.speak()
    for _ in range(turns):
        await caller.until_loud()
        await asyncio.sleep(1)
        began = await caller.speak(0.8)
        stops.append(1000 * (max(time for time, level in caller.levels if level > 0.02) - began))
    return stops


async def measure(port: int, count: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        ready, done = asyncio.Barrier(count + 1), asyncio.Event()

        async def call() -> list[float]:
            async with calling(port) as caller:
                await ready.wait()
                stops = await interrupt(caller, 1)  # the third scripted utterance is meant for somebody else
                await caller.speak()
                await done.wait()
                return stops

        calls = [tasks.create_task(call()) for _ in range(count)]
        await ready.wait()
        before = cpu_s(port)
        await asyncio.sleep(TALK_S)
        used = (cpu_s(port) - before) / TALK_S
        done.set()
    stops = [stop for call in calls for stop in call.result()]
    p50, p95 = np.quantile(stops, [0.5, 0.95])
    print(f"{count} sessions: {100 * used:.0f} % of a core, {100 * used / count:.2f} % each")
    print(f"stop p50 {p50:.0f} ms, p95 {p95:.0f} ms ({len(stops)} interruptions)")


if __name__ == "__main__":
    with served("scripted") as port:
        asyncio.run(measure(port, int(sys.argv[1])))
