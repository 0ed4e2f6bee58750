"""A look into vLLM's engine that no user has: requests under way, runs of a model's towers."""

import multiprocessing
import os
from contextlib import suppress
from functools import partial
from typing import Any

import psutil

from vita_duplex.engine.instances.vllm_engine import VllmEngine

os.environ.setdefault("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # read by engines that start later: they run `_towers`


def unfinished(engine: VllmEngine) -> int:
    """Requests that the engine computes or keeps waiting."""
    return 0 if engine._engine is None else int(engine._engine.get_num_unfinished_requests())


async def tower_runs(engine: VllmEngine) -> dict[str, int]:
    """How often each tower of a multimodal model has run since this was first asked."""
    [runs] = await engine._engine.collective_rpc(_towers)
    return dict(runs)


def _towers(worker: Any) -> dict[str, int]:
    """In the engine's process."""
    if not hasattr(worker, "tower_runs"):
        worker.tower_runs = {}
        for name, module in worker.get_model().named_children():
            if name.endswith("_tower"):
                worker.tower_runs[name] = 0
                module.register_forward_pre_hook(partial(_count, worker.tower_runs, name))
    return dict(worker.tower_runs)


def _count(runs: dict[str, int], name: str, *_: object) -> None:
    runs[name] += 1


def engine_process() -> psutil.Process | None:
    """The process of the engine that this one runs; None without one."""
    for child in multiprocessing.active_children():
        if child.name == "EngineCore" and child.pid:
            with suppress(psutil.NoSuchProcess):  # it ended this very moment
                return psutil.Process(child.pid)
    return None


def wait_for_its_end() -> None:
    """An engine that was told to go is gone; on a busy machine that takes a moment. Errors: `psutil.TimeoutExpired`."""
    if (engine := engine_process()) is not None:
        engine.wait(30)
