"""Runs the tests in two tiers: `make test`, minutes long and yet real, and `make test-all`, which leaves nothing out.

The quick tests share one pytest and all cores. Each file of the others has a process of its own, because engines in one
process share state. All of them run, and what failed is listed at the end. An interrupted `make test-all` goes on where
it stopped, as long as no file has changed; FRESH=1 begins anew. SEED=… repeats what is random.
"""

import hashlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAMPS = ROOT / ".cache" / "test-all"
APART = {
    **{f"tests/client/test_{name}.py": "stock" for name in ("clients_page", "stock_clients", "stock_conversations")},
    "tests/train/test_circle.py": "train-test",
}
"""Files that have an environment of their own, and the make target that makes it and runs them."""
AT_ONCE = min(4, len(os.sched_getaffinity(0)))
"""Files at a time: an engine computes on one thread and takes 2 GB."""
NOTHING_CHOSEN = 5
"""Of pytest: where arguments choose tests, a file may have none of them."""
LIMIT_S, GRACE_S = 3600, 120
"""After the limit a file is interrupted; after the grace it is killed."""


@dataclass(frozen=True)
class Shard:
    name: str
    command: tuple[str, ...]
    alone: bool = False


@dataclass(frozen=True)
class Outcome:
    shard: Shard
    status: int
    output: str
    wall_s: float
    cpu_s: float

    def __str__(self) -> str:
        counts = re.findall(r"^=*\s*(\d+ (?:passed|failed|skipped|deselected|error).*?) in ", self.output, re.MULTILINE)
        told = counts[-1] if counts else f"exit status {self.status}"
        return f"{self.shard.name}: {told}; {self.wall_s:.0f} s, {self.cpu_s:.0f} s of CPU"

    def lines(self, *kinds: str) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith(kinds)]


def marks(file: Path) -> set[str]:
    return set(re.findall(r"pytest\.mark\.(real|long|smoke|vllm|alone)\b", file.read_text("utf-8")))


def shards(tier: str, more: Sequence[str]) -> Iterator[Shard]:
    pytest = (sys.executable, "-m", "pytest", "-q", "--durations=5", "--durations-min=5", *more)
    cores = ("-n", "logical", "--maxprocesses", "8", "--dist", "worksteal")
    yield Shard("quick tests", (*pytest, *cores, "-m", "not real and not long"), alone=True)
    wanted = {"smoke"} if tier == "test" else {"real", "long"}
    chosen = (*pytest, "-m", " or ".join(sorted(wanted)))
    together = []
    if tier == "all":
        yield from (Shard(f"make {target}", ("make", target)) for target in sorted({*APART.values()}))
    for file in sorted(ROOT.glob("tests/**/test_*.py")):
        name, has = str(file.relative_to(ROOT)), marks(file)
        if name in APART:
            continue
        if has & wanted and "vllm" in has:
            together.append(name)
        elif has & wanted:
            yield Shard(name, (*chosen, name), alone="alone" in has)
    yield Shard("vLLM in one process", (*chosen, *together))


def run(shard: Shard) -> Outcome:
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(shard.command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        timers = [threading.Timer(LIMIT_S, process.send_signal, [signal.SIGINT])]
        timers += [threading.Timer(LIMIT_S + GRACE_S, process.kill)]
        for timer in timers:
            timer.start()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for timer in timers:
            timer.cancel()
        log.seek(0)
        cpu_s = used.ru_utime + used.ru_stime
        return Outcome(shard, process.returncode, log.read(), time.monotonic() - start, cpu_s)


def run_all(todo: list[Shard]) -> Iterator[Outcome]:
    """First those that share the machine, then one by one those that need it for themselves."""
    for alone in (False, True):
        with ThreadPoolExecutor(1 if alone else AT_ONCE) as threads:
            running = [threads.submit(run, shard) for shard in todo if shard.alone is alone]
            for one in as_completed(running):
                yield one.result()


def digest_of_the_files() -> str:
    """Of every file that git knows or would add."""
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT).split(b"\0")
    digest = hashlib.sha256()
    for name in sorted({*listed} - {b""}):
        path = ROOT / os.fsdecode(name)
        digest.update(name + b"\0" + (hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"-"))
    return digest.hexdigest()[:16]


class Stamps:
    """What earlier runs over the same files have passed, and their seed."""

    def __init__(self, folder: Path, digest: str, fresh: bool) -> None:
        self.folder = folder / digest
        for other in folder.glob("*"):
            if fresh or other != self.folder:
                shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "seed").exists():
            (self.folder / "seed").write_text(new_seed())

    def seed(self) -> str:
        return (self.folder / "seed").read_text()

    def path(self, shard: Shard) -> Path:
        return self.folder / shard.name.replace("/", "-")


def new_seed() -> str:
    return str(secrets.randbelow(2**32))


def tell(outcome: Outcome) -> None:
    print(outcome, *outcome.lines("SKIPPED"), sep="\n    ", flush=True)
    if outcome.status:
        print(outcome.output, flush=True)


def main(tier: str, *more: str) -> int:
    start, todo, failed = time.monotonic(), list(shards(tier, more)), []
    stamps = Stamps(STAMPS, digest_of_the_files(), bool(os.environ.get("FRESH"))) if tier == "all" else None
    seed = os.environ["SEED"] = os.environ.get("SEED") or (stamps.seed() if stamps else new_seed())
    print(f"SEED={seed}", flush=True)
    if stamps:
        done = [shard for shard in todo if stamps.path(shard).exists()]
        print(*(f"passed before: {stamps.path(shard).read_text()}" for shard in done), sep="\n", flush=True)
        todo = [shard for shard in todo if shard not in done]
    for outcome in run_all(todo):
        tell(outcome)
        if outcome.status and not (more and outcome.status == NOTHING_CHOSEN):
            failed.append(outcome)
        elif stamps:
            stamps.path(outcome.shard).write_text(str(outcome))
    print(f"\n{len(todo) - len(failed)} of {len(todo)} passed in {time.monotonic() - start:.0f} s, SEED={seed}")
    for outcome in failed:
        print(f"FAILED {outcome}", *outcome.lines("FAILED", "ERROR"), sep="\n    ")
    if stamps and not failed:
        shutil.rmtree(stamps.folder)  # the next run is a new one, with another seed
    return min(1, len(failed))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
