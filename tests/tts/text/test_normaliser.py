"""The normaliser's process: says what `normalise` says, comes back when it ends, and never keeps a text for ever."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.tts.text.test_normalise import CASES
from vita_duplex.tts.text import normaliser as module
from vita_duplex.tts.text import reading
from vita_duplex.tts.text.maths import Language
from vita_duplex.tts.text.normalise import is_plain, language_of, normalise
from vita_duplex.tts.text.normaliser import Normaliser

WRITTEN, SAID = "It opens at 9:30.", "It opens at nine thirty."


@pytest.fixture
def normaliser() -> Iterator[Normaliser]:
    executor = ThreadPoolExecutor(1)
    normaliser = Normaliser(executor)
    yield normaliser
    normaliser.close()
    executor.shutdown()
    assert normaliser._process is None


def ask(normaliser: Normaliser, *texts: str) -> list[str]:
    async def script() -> list[str]:
        return list(await asyncio.gather(*(normaliser(text, language_of(text)) for text in texts)))

    return asyncio.run(script())


def instead(monkeypatch: pytest.MonkeyPatch, program: str) -> list["subprocess.Popen[str]"]:
    """Let another program stand for the process; those that were started."""
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        started.append(subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True))
        return started[-1]

    monkeypatch.setattr(module, "_start", start)
    return started


@pytest.mark.real
def test_it_says_what_the_function_says(normaliser: Normaliser) -> None:
    texts = [written.replace("\\n", "\n") for written, _ in CASES] + ["", "a\nb 2", "\u2028 3", "😀 4"]
    assert ask(normaliser, *texts) == [normalise(text, language_of(text)) for text in texts]


@pytest.mark.real
def test_it_comes_back_when_its_process_was_killed(normaliser: Normaliser) -> None:
    assert ask(normaliser, WRITTEN) == [SAID]
    assert normaliser._process is not None
    first = normaliser._process.pid
    os.kill(first, signal.SIGKILL)
    assert ask(normaliser, WRITTEN) == [SAID]
    assert normaliser._process.pid != first


@pytest.mark.real
def test_loading_the_grammars_does_not_count_as_work_on_a_text(
    normaliser: Normaliser, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[tuple[str, float]] = []

    class NotedTimer(threading.Timer):
        def start(self) -> None:
            timers.append(("starts", self.interval))

        def cancel(self) -> None:
            timers.append(("ends", self.interval))

    monkeypatch.setattr(module, "Timer", NotedTimer)
    assert ask(normaliser, WRITTEN) == [SAID]
    assert timers == [(what, limit) for limit in (module.START_S, module.LIMIT_S) for what in ("starts", "ends")]


def test_half_an_answer_is_none(normaliser: Normaliser, monkeypatch: pytest.MonkeyPatch) -> None:
    started = instead(monkeypatch, """print('"It opens', end="", flush=True); input()""")
    assert ask(normaliser, WRITTEN) == [WRITTEN]
    assert len(started) == 2


def test_plain_text_needs_no_process(normaliser: Normaliser, monkeypatch: pytest.MonkeyPatch) -> None:
    started = instead(monkeypatch, "")
    assert ask(normaliser, "It opens, **quietly**.") == ["It opens, quietly."]
    assert started == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_plain_text_is_never_for_the_grammars(language: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would load in the server's process, and stop it."""
    asked: list[Language] = []
    monkeypatch.setattr(reading, "_grammar", asked.append)
    plain = [written for written, _ in CASES if is_plain(written)]
    assert len(plain) > 50
    for text in (*plain, *filter(is_plain, ("x²", "H₂O", "½", "①", "10⁻⁹"))):
        normalise(text, language)
    assert asked == []


def test_a_text_that_ends_every_process_is_said_as_it_is_written(
    normaliser: Normaliser, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = instead(monkeypatch, "input()")
    assert ask(normaliser, WRITTEN) == [WRITTEN]
    assert [process.returncode for process in started] == [0, 0]


def test_a_text_that_takes_too_long_is_said_as_it_is_written(
    normaliser: Normaliser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.01)
    started = instead(monkeypatch, "import time; time.sleep(600)")
    assert ask(normaliser, WRITTEN) == [WRITTEN]
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2
