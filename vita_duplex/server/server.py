"""The server behind the endpoints: its parts once they are there, who may come in and who is in."""

import asyncio
import ctypes
import gc
import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from vita_duplex.config import Config
from vita_duplex.engine.instances.remote_tier import RemoteTier
from vita_duplex.engine.instances.supervisor import Supervisor
from vita_duplex.engine.ports import PartFailed, Progress
from vita_duplex.server.access.admission import Admission, Ticket
from vita_duplex.server.access.arrivals import Arrivals
from vita_duplex.server.access.auth import load_access
from vita_duplex.server.access.limits import Usage
from vita_duplex.server.access.renewal import Renewal
from vita_duplex.server.access.resumables import Resumables
from vita_duplex.server.access.shedding import Step, step
from vita_duplex.server.drain import Drain
from vita_duplex.server.errors import Refusal
from vita_duplex.server.observe.lag import TICK_S
from vita_duplex.server.observe.metrics import Metrics, ServerState
from vita_duplex.server.parts import Loading, Parts, load_parts
from vita_duplex.server.readiness import Readiness

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


log = logging.getLogger(__name__)

Result = TypeVar("Result")

CALM_S = 2.0
"""So long after the last session its memory is given back: collecting takes milliseconds that nobody misses then."""


class Server:
    """What the endpoints share. Errors: `ConfigError` if the keys are not in order."""

    def __init__(self, config: Config, load: Callable[..., Parts] = load_parts) -> None:
        self.config = config
        self.loading = Loading()
        self.access = load_access(config.access)
        self.renewals = [
            Renewal([file], lambda: self.access.renew(load_access(config.access).hashes))
            for file in (config.access.keys_file,)
            if file is not None
        ]
        self.arrivals = Arrivals(config.limits)
        self.admission = Admission(config.server.max_sessions, config.server.max_waiting)
        self.drain = Drain(config.server.grace_s)
        self.metrics = Metrics(self._state)
        self.resumables: Resumables[Any] = Resumables()
        self.calls: Resumables[Any] = Resumables()
        self.tracer: Tracer | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.on_progress: Progress = lambda share, phase: None
        self._parts: Parts | None = None
        self._readiness: Readiness | None = None
        self._usages: dict[str, Usage] = {}
        self._left = asyncio.Event()
        self._load = load

    @property
    def parts(self) -> Parts | None:
        """None until they are loaded."""
        return self._parts

    @parts.setter
    def parts(self, parts: Parts) -> None:
        self._parts, self._readiness = parts, Readiness(parts)

    @property
    def sessions(self) -> int:
        return self.admission.running

    def shedding(self) -> Step:
        """What is left out now."""
        return step(self.sessions, self.config.server.max_sessions)

    def progress(self, share: float, phase: str) -> None:
        if phase != self.loading.phase:
            log.info("%3.0f %% %s", 100 * share, phase)
        self.loading.progress, self.loading.phase = share, phase
        self.on_progress(share, phase)

    async def run(self) -> None:
        """Bring the parts up, then keep the engines running and watch the other parts, until cancelled."""
        await self.bring_up()
        if self.parts and self._readiness:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.watch_lag(), name="lag")
                    tasks.create_task(self._readiness.run(), name="probe parts")
                    for renewal in self.renewals:
                        tasks.create_task(renewal.run(), name="read keys and certificates again")
                    for number, (model, pool) in enumerate(self.parts.pools.items()):
                        remote = self.config.engines[model].remote
                        if self.config.engines[model].kind == "remote" and remote.service is not None:
                            tier = RemoteTier(pool, remote, f"{model} " if number else "")
                            tasks.create_task(tier.run(), name=f"engines of {model}")
                        tasks.create_task(Supervisor(pool, _in_thread).run(), name=f"supervise {model}")
            except* Exception:  # as below; without it engines that die stay dead
                log.exception("watching the engines ended by a bug")

    async def bring_up(self) -> None:
        """Load the parts in a worker thread, so that the page can show how far they are."""
        try:
            parts = await _in_thread(lambda: self._load(self.config, self.progress))
            await parts.warm()
            settle()
            self.parts = parts
            self.progress(1.0, "ready")
        except PartFailed as failure:
            log.error("%s", failure)
            self.fail(str(failure))
        except Exception:  # nobody awaits this task while the server runs: a bug here must not look like slowness
            log.exception("loading ended by a bug")
            self.fail("internal error while loading")

    def fail(self, reason: str) -> None:
        """The server cannot do its work, and ends."""
        self.loading.error = reason
        self.on_failure()

    # ── who may come in ────────────────────────────────────────────────────────────────

    @property
    def closed(self) -> Refusal | None:
        """Why nobody gets anything now."""
        if self.loading.error:
            return Refusal("server_failed", self.loading.error)
        if self.drain.begun.is_set():
            return Refusal("server_draining", "The server is stopping; try again when it is back.")
        if self.parts is None:
            progress = f"{self.loading.phase} ({self.loading.progress:.0%})"
            return Refusal("server_loading", f"The server is not ready yet: {progress}; try again soon.")
        return None

    def refusal(self, model: str | None) -> Refusal | None:
        """Why nobody gets a session with that model now."""
        if closed := self.closed:
            return closed
        assert self.parts is not None
        chosen = self.parts.chosen(model)
        if chosen is None:
            there = ", ".join(self.parts.pools)
            return Refusal("model_not_found", f"There is no model {model!r} here; there are {there}.")
        if not any(instance.healthy for instance in self.parts.pools[chosen].instances):
            return Refusal("server_failed", "No engine is running; they are being started again. Try again soon.")
        return None

    def usage(self, key: str | None) -> Usage:
        """What a key's sessions use together; those without a key use each their own."""
        now = asyncio.get_running_loop().time()
        if key is None:
            return Usage.under(self.config.limits, now)
        if key not in self._usages:
            self._usages[key] = Usage.under(self.config.limits, now)
        return self._usages[key]

    def leave(self, ticket: Ticket) -> None:
        """Give a place back, in a session or in the queue."""
        self.admission.leave(ticket, asyncio.get_running_loop().time())
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        left, self._left = self._left, asyncio.Event()
        left.set()

    async def watch_lag(self) -> None:
        """Measure how late the event loop is, and let sessions begin or wait accordingly; tidy up behind the last."""
        now = asyncio.get_running_loop().time
        busy = None
        while True:
            due = now() + TICK_S
            await asyncio.sleep(TICK_S)
            self.metrics.late(max(0.0, now() - due), now())
            self.admission.behind = self.metrics.lag.behind
            if self.admission.advance(now()):
                self._tell_waiting()
            if self.sessions:
                busy = now()
            elif busy is not None and now() - busy > CALM_S:
                give_back()
                busy = None

    async def changed(self) -> None:
        """Return when the queue has moved."""
        await self._left.wait()

    # ── how it is ──────────────────────────────────────────────────────────────────────

    def readiness(self) -> tuple[bool, dict[str, bool]]:
        """Whether sessions are served, and which parts work."""
        if self._readiness is None:
            return False, {}
        now = asyncio.get_running_loop().time()
        return self._readiness.ready(now) and not self.drain.begun.is_set(), self._readiness.found(now)

    def _state(self) -> ServerState:
        return ServerState(
            sessions=self.sessions,
            waiting=self.admission.waiting,
            shedding=self.shedding(),
            draining=self.drain.begun.is_set(),
            ready=self.readiness()[1],
            generators=self._generators(),
        )

    def _generators(self) -> dict[str, int]:
        pools = self.parts.pools.values() if self.parts else ()
        return {name: count for pool in pools for name, count in pool.generators.items()}


def give_back() -> None:
    """Return to the system what sessions took: their parts know each other, and glibc keeps what is freed."""
    gc.collect()
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def settle() -> None:
    """Leave what is loaded out of all further garbage collections.

    It stays anyway, and is large: with vLLM 700,000 objects, through which one collection goes for 0.4 s, in which no
    session is served.
    """
    gc.collect()
    gc.freeze()


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Run in a thread of its own that dies with the process: Ctrl-C while models load ends at once."""
    done: Future[Result] = Future()

    def run() -> None:
        done.set_running_or_notify_cancel()  # from here on nobody can cancel it: it is done even if nobody waits
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, name="load", daemon=True).start()
    return await asyncio.wrap_future(done)
