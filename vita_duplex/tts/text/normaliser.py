"""Normalising beside the event loop: the grammars keep Python's lock for 7 to 12 ms a sentence.

In a thread they would stop every session for so long, and with 64 sessions somebody says a number all the time. So they
run in a process of their own. Run as a program this file is that process: an empty line when the grammars are loaded,
then a line of JSON in, a line of JSON out.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from threading import Timer

from vita_duplex.tts.text.maths import Language
from vita_duplex.tts.text.normalise import is_plain, normalise

Normalise = Callable[[str, Language], Awaitable[str]]
"""The sayable form of one piece of text, as `normalise` gives it."""

LIMIT_S = 3.0
"""For one piece; others wait for it. The grammars take longer than its length would say: 0.9 s for 5,000 characters
with 200 numbers, 4.6 s for 19,000 with 800."""
START_S = 30.0
"""For loading the grammars: 1 s where they were read before, several with cold disks and busy cores."""
TRIES = 2
"""Of a piece whose process has ended: somebody may have killed it before, but what ends it again is the text."""


async def in_place(text: str, language: Language) -> str:
    """For voices and tests that have no sessions to stop."""
    return normalise(text, language)


class Normaliser:
    """`Normalise` in a process of its own, begun with the first text that has something to read out.

    Texts wait for each other, unbounded: each session waits for one. Plain text does not go there.
    """

    def __init__(self, executor: Executor) -> None:
        """`executor`: one thread, of its own."""
        self._executor = executor
        self._process: subprocess.Popen[str] | None = None

    async def __call__(self, text: str, language: Language) -> str:
        if is_plain(text):
            return normalise(text, language)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._ask, text, language)

    async def warm(self) -> None:
        """Begin the process (1 s)."""
        await self("1 one", "en")

    def close(self) -> None:
        """What waits is still answered."""
        self._executor.submit(self._stop)
        self._executor.shutdown(wait=False)

    def _ask(self, text: str, language: Language) -> str:
        for _ in range(TRIES):
            process = self._process = self._process or _start()
            limit = Timer(LIMIT_S, process.kill)
            limit.start()
            assert process.stdout
            try:
                print(json.dumps([text, language]), file=process.stdin, flush=True)
                if answer := process.stdout.readline():
                    return str(json.loads(answer))
            except (OSError, ValueError):
                pass  # it is gone, perhaps in the middle of its answer
            finally:
                limit.cancel()
            self._stop()
        return text  # with its numbers: most voices know them somehow

    def __del__(self) -> None:
        """Leave no process behind when nobody has closed the normaliser."""
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process:
            with suppress(OSError):
                process.communicate()


def _start() -> "subprocess.Popen[str]":
    """In a session of its own: Ctrl-C is for the server, which then ends it. Errors that it prints may have words."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vita_duplex.tts.text.normaliser"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    limit = Timer(START_S, process.kill)
    limit.start()
    process.stdout.readline()
    limit.cancel()
    return process


if __name__ == "__main__":
    normalise("1 一")  # the grammars of both languages load with the first number
    normalise("1 one")
    print(flush=True)
    for line in sys.stdin:
        print(json.dumps(normalise(*json.loads(line))), flush=True)
