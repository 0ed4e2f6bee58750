"""Measure a configuration on this machine: start a server, talk to it, set the numbers beside their bars."""

import argparse
import asyncio
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from vita_duplex.cli import slo
from vita_duplex.client.connection import Session, open_session
from vita_duplex.client.conversation import Conversation
from vita_duplex.client.errors import TalkError
from vita_duplex.client.latency import STEPS, answer_s, steps_s
from vita_duplex.client.messages import Record
from vita_duplex.client.recording import Pcm, Recording, read_recording
from vita_duplex.client.talk import FRAME, FRAME_S, converse, table

ANSWER_BAR_S = 2.0
MEMORY_BAR_GB = 4.0
IDLE_BAR_PERCENT = 5.0
SESSION_BAR_MB = 3.0

READY_LIMIT_S = 900.0
"""A big model on a cold disk takes minutes."""
STOP_LIMIT_S = 30.0
IDLE_S = 20.0
SESSIONS = 20
SESSION_AUDIO_S = 2.0
CALM_S = 2.0
"""Between measurements, so that what the last one left running does not count for the next one."""


EARLY_BAR_S = 0.01
EARLY_RUNS = 5
SLOW_ENGINE = """\
engine:
  kind: scripted
  scripted: [{text: "Yes, of course.", verdict_s: 0.2, token_s: 0.1}]
voice: {kind: humming}
"""
"""300 ms from the request to the first token, with the ASR of the default."""


class BenchError(Exception):
    """The measurement could not be made; the text says why."""


# --- the server under measurement -------------------------------------------------------------------------


class Loading(BaseModel):
    progress: float = 0.0
    phase: str = ""


class Readiness(BaseModel):
    model_config = ConfigDict(extra="ignore")

    ready: bool = False
    loading: Loading | None = None


class Server:
    """A server process of our own, with its children."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
        self._process = process
        self._log = log
        self._port = port

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/v1/realtime"

    def wait_ready(self) -> float:
        """Seconds until `/ready` said so. Errors: `BenchError`."""
        began = time.monotonic()
        phase = ""
        while time.monotonic() - began < READY_LIMIT_S:
            if self._process.poll() is not None:
                raise BenchError(f"the server ended with {self._process.returncode}:\n{self._last_lines()}")
            readiness = self._readiness()
            if readiness.ready:
                return time.monotonic() - began
            if readiness.loading is not None and readiness.loading.phase != phase:
                phase = readiness.loading.phase
                _print(f"  {time.monotonic() - began:5.1f} s  {phase}")
            time.sleep(0.1)
        raise BenchError(f"the server was not ready after {READY_LIMIT_S:.0f} s:\n{self._last_lines()}")

    def _readiness(self) -> Readiness:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self._port}/ready", timeout=5) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:  # 503 while it loads, with the same body
            body = error.read()
        except OSError:
            return Readiness()
        try:
            return Readiness.model_validate_json(body)
        except ValidationError as error:
            raise BenchError(f"/ready answered {body[:200]!r}") from error

    def processes(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self._process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess as error:
            raise BenchError(f"the server died:\n{self._last_lines()}") from error

    def memory(self) -> int:
        """Bytes in RAM. What processes share is counted for each of them, so this is not too small."""
        return sum(_memory(one) for one in self.processes())

    def cpu_s(self) -> float:
        return sum(_cpu_s(one) for one in self.processes())

    def stop(self) -> None:
        everyone = self.processes() if self._process.poll() is None else []
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for left in psutil.wait_procs(everyone, timeout=STOP_LIMIT_S)[1]:
            left.kill()

    def _last_lines(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-20:])


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:  # it ended since it was listed
        return 0


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


@contextmanager
def serving(config: Path) -> Iterator[Server]:
    """A server with that configuration on a free port of this machine, stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "vita_duplex.cli.main", "serve", "--config", str(config)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        server = Server(process, port, log)
        try:
            yield server
        finally:
            server.stop()


# --- the measurements -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Measured:
    """What came out."""

    ready_s: float = 0.0
    runs: int = 0
    answers: list[Record] = field(default_factory=list)
    """The first answered turn of each run that was answered."""
    heard_s: list[float] = field(default_factory=list)
    """End of speech to the first audio in the listener's ear."""
    memory: int = 0
    """Bytes, the most that was seen."""
    idle_percent: float = 0.0
    sessions: int = 0
    session_bytes: float = 0.0
    early_s: list[float] = field(default_factory=list)
    """Endpoint to first text with an engine of 300 ms …"""
    late_s: list[float] = field(default_factory=list)
    """… and the same without the early start."""


def measure(config: Path, question: Recording, runs: int) -> Measured:
    """Start a server and measure it. Errors: `BenchError`, `TalkError`."""
    measured = Measured(runs=runs)
    with serving(config) as server:
        _print(f"starting a server with {config}")
        measured.ready_s = server.wait_ready()
        _print(f"ready after {measured.ready_s:.1f} s")
        measured.memory = server.memory()
        for number in range(1, runs + 1):
            conversation = asyncio.run(converse(server.url, question))
            measured.memory = max(measured.memory, server.memory())
            _print(f"  run {number:2}: {_take(measured, conversation)}")
        _print(f"nobody talks for {IDLE_S:.0f} s")
        time.sleep(CALM_S)
        measured.idle_percent = _idle_percent(server)
        _print(f"opening {SESSIONS} further sessions")
        measured.sessions, measured.session_bytes = asyncio.run(_further_sessions(server))
        measured.memory = max(measured.memory, server.memory())
    measured.early_s = _first_texts(question, "")
    measured.late_s = _first_texts(question, "endpoint: {early_ms: 1000}\n")
    return measured


def _first_texts(question: Recording, settings: str) -> list[float]:
    """Seconds from the endpoint to the first text, from a scripted engine of 300 ms."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "slow.yaml"
        config.write_text(SLOW_ENGINE + settings)
        with serving(config) as server:
            _print(f"a scripted engine of 300 ms to its first token {'without' if settings else 'with'} early start")
            server.wait_ready()
            talks = [asyncio.run(converse(server.url, question)) for _ in range(EARLY_RUNS)]
    return [
        max(0.0, record.first_token - record.endpoint)
        for talk in talks
        for record in talk.records
        if record.first_token is not None and record.endpoint is not None
    ]


def _take(measured: Measured, conversation: Conversation) -> str:
    for record in conversation.records:
        heard = conversation.first_heard(record.response_id) if record.response_id else None
        answer = answer_s(record)
        if heard is not None and answer is not None and record.speech_end is not None:
            measured.answers.append(record)
            measured.heard_s.append(heard - record.speech_end)
            return f"answered after {answer:.2f} s"
    return "judged as not for the assistant" if conversation.all_rejected else "no answer"


def _idle_percent(server: Server) -> float:
    before, began = server.cpu_s(), time.monotonic()
    time.sleep(IDLE_S)
    return 100 * (server.cpu_s() - before) / (time.monotonic() - began)


async def _further_sessions(server: Server) -> tuple[int, float]:
    """How many sessions were opened, and the bytes each of them took after some audio."""
    before = server.memory()
    # a silent room: digital silence could take a shorter way
    noise = np.random.default_rng(1).normal(0, 20, round(SESSION_AUDIO_S / FRAME_S) * FRAME)
    room = np.rint(noise).astype(np.int16)
    async with AsyncExitStack() as stack:
        sessions = []
        for _ in range(SESSIONS):
            try:
                sessions.append(await stack.enter_async_context(open_session(server.url)))
            except TalkError as error:
                _print(f"  only {len(sessions)}: {error}")
                break
        async with asyncio.TaskGroup() as tasks:
            for session in sessions:
                tasks.create_task(_send(session, room))
        await asyncio.sleep(CALM_S)
        return len(sessions), (server.memory() - before) / max(1, len(sessions))


async def _send(session: Session, samples: Pcm) -> None:
    start = session.now()
    for number, frame in enumerate(samples.reshape(-1, FRAME)):
        await session.send(frame)
        await session.listen_until(start + (number + 1) * FRAME_S)


# --- what people read -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One number, the bar it has to meet, and whether it does."""

    what: str
    value: str
    bar: str
    met: bool


def lines(measured: Measured) -> list[Line]:
    """The verdict on each measurement."""
    answered, runs = len(measured.answers), measured.runs
    after = _percentile([answer_s(one) or 0.0 for one in measured.answers], 50)
    memory, session = measured.memory / 1e9, measured.session_bytes / 1e6
    early, late = 1000 * _percentile(measured.early_s, 50), 1000 * _percentile(measured.late_s, 50)
    per_session = f"memory per further session (of {measured.sessions})"
    return [
        Line("questions answered", f"{answered} of {runs}", "all", answered == runs),
        _at_most("end of speech to first audio, p50", after, ANSWER_BAR_S, "s", answered, digits=2),
        _at_most("memory of all processes", memory, MEMORY_BAR_GB, "GB", True, digits=2),
        _at_most("CPU while nobody talks", measured.idle_percent, IDLE_BAR_PERCENT, "% of a core", True, digits=1),
        _at_most(per_session, session, SESSION_BAR_MB, "MB", measured.sessions, digits=2),
        _at_most("endpoint to first text, engine of 300 ms, p50", early, 1000 * EARLY_BAR_S, "ms", measured.early_s),
        Line("  the same without early start", f"{late:.0f} ms" if measured.late_s else "–", "more", late > early),
    ]


def _at_most(what: str, value: float, bar: float, unit: str, measured: object, *, digits: int = 0) -> Line:
    """A number with an upper bar; what was not measured has not met it."""
    shown = f"{value:.{digits}f} {unit}" if measured else "–"
    return Line(what, shown, f"≤ {bar:g} {unit}", bool(measured) and value <= bar)


def report(measured: Measured) -> str:
    parts = [f"{platform.system()}, {os.cpu_count()} cores; ready after {measured.ready_s:.1f} s", ""]
    if measured.answers:
        parts += [_latency_table(measured), "", EXPLAINED]
    rows = [["", "measured", "bar", ""]]
    rows += [[one.what, one.value, one.bar, "✓" if one.met else "✗"] for one in lines(measured)]
    return "\n".join([*parts, table(rows)])


EXPLAINED = """\
Seconds, without the way to the client; a step that was ready early (the verdict, thanks to the early
start) cost nothing and shows as 0. The steps of one run add up to its total, their percentiles need not.
"""


def _latency_table(measured: Measured) -> str:
    steps = [steps_s(one) for one in measured.answers]
    rows = {"end of speech to first audio sent": [answer_s(one) or 0.0 for one in measured.answers]}
    rows |= {f"  {name}": [one[name] for one in steps] for name, _ in STEPS}
    rows["ASR (inside wait and verdict)"] = [one.asr_s or 0.0 for one in measured.answers]
    rows["end of speech to first audio heard"] = measured.heard_s
    cells = [[name, *(f"{_percentile(values, percent):.3f}" for percent in (50, 95))] for name, values in rows.items()]
    return table([[f"{len(measured.answers)} answers", "p50", "p95"], *cells])


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else 0.0


# --- the command ------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a server of its own, play a question to it in fresh sessions, and print the latency with its "
        "parts, memory and idle CPU next to the bars they have to meet."
    )
    parser.epilog = "exit status: 0 all bars met; 1 one missed, or nothing could be measured; 2 wrong usage"
    parser.add_argument("question", type=Path, metavar="QUESTION.wav", help="what to ask")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("configs/cpu.yaml"),
        help="what to serve (default: configs/cpu.yaml)",
    )
    parser.add_argument("--runs", type=_count, default=10, help="how many times to ask (default: 10)")
    slo.add_arguments(parser)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """`vita-duplex bench`."""
    try:
        question = read_recording(args.question)
        if args.slo:
            return slo.run(args, [question, *map(read_recording, args.more)])
        if not args.config.is_file():
            raise BenchError(f"there is no configuration {args.config}")
        measured = measure(args.config, question, args.runs)
    except (BenchError, TalkError) as error:
        print(f"vita-duplex bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\n{report(measured)}")
    return 0 if all(one.met for one in lines(measured)) else 1


def _print(line: str) -> None:
    print(line, flush=True)
