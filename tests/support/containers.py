"""Images built and run without a daemon: buildah builds them, and their file system runs in a chroot, as an ordinary
user on a read-only root with a /tmp of its own, as Kubernetes and OpenShift would run it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

PYTHON = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "python3.11,python3-venv,python3-pip,ca-certificates"
USER = 12_345
"""Nobody: no image knows this number."""
READY_S, GONE_S = 300, 30
START = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
for pair in $BINDS; do mkdir -p "$ROOT/${pair#*:}"; mount --bind "${pair%%:*}" "$ROOT/${pair#*:}"; done
mount -o remount,bind,ro "$ROOT"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount --rbind /dev "$ROOT/dev"
mount --bind /proc "$ROOT/proc"
mount --rbind /sys "$ROOT/sys"
exec "$@"
"""


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.strip()


def images(*targets: str) -> None:
    """Build targets of docker/Dockerfile. Skips where there is nothing to build with, and says so."""
    missing = [tool for tool in ("buildah", "unshare", "chroot") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"no images here: {', '.join(missing) or 'not root'}")
    _have_python()
    run("tools/build_image.sh", *targets)


def _have_python() -> None:
    """The base image, pulled or, where no registry can be had, made of Debian's packages."""
    if subprocess.run(["buildah", "inspect", "--type", "image", PYTHON], capture_output=True).returncode == 0:
        return
    if subprocess.run(["buildah", "pull", PYTHON], capture_output=True, timeout=300).returncode == 0:
        return
    if shutil.which("debootstrap") is None:
        pytest.skip(f"no images here: {PYTHON} cannot be pulled, and there is no debootstrap to make one")
    container = run("buildah", "from", "scratch")
    root = run("buildah", "mount", container)
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root)
    run("buildah", "commit", "--rm", container, PYTHON)


class Container:
    """One that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path, start: list[str]) -> None:
        """`start`: enters it, before the words of a command."""
        self.port = port
        self.process = process
        self._log = log
        self._start = start

    def ready(self, path: str) -> None:
        """Wait until it says yes."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise AssertionError(f"not ready: {self.log}")

    def does(self, *words: str) -> str:
        """Run a command inside."""
        return run("nsenter", "--target", str(self.process.pid), "--mount", *self._start, *words)

    @property
    def log(self) -> str:
        return self._log.read_text()[-4000:]


def configured(image: str) -> dict[str, Any]:
    """What a Dockerfile said of an image: Env, Cmd, User, WorkingDir, Healthcheck."""
    found: dict[str, Any] = json.loads(run("buildah", "inspect", "--type", "image", f"localhost/{image}"))
    return dict(found["Docker"]["config"])


@contextmanager
def container(
    image: str, port: int, *command: str, variables: Mapping[str, str] = {}, binds: Mapping[Path, str] = {}
) -> Iterator[Container]:
    """Run an image's command, or another one; on leaving it gets SIGTERM and has to end well."""
    with ExitStack() as stack:
        name = run("buildah", "from", f"localhost/{image}")
        stack.callback(run, "buildah", "rm", name)
        root = run("buildah", "mount", name)
        config = configured(image)
        assert config["User"] not in ("", "root", "0")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        inside = ["env", "-i", *config["Env"], *(f"{name}={value}" for name, value in variables.items())]
        inside += ["sh", "-c", 'cd "$0" && exec "$@"', config["WorkingDir"]]
        outside = os.environ | {
            "ROOT": root,
            "BINDS": " ".join(f"{path}:{target}" for path, target in binds.items()),
        }
        enter = ["chroot", f"--userspec={USER}:0", root, *inside]
        log = folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", START, "sh", *enter, *(command or config["Cmd"])],
                env=outside, stdout=file, stderr=file,
            )  # fmt: skip
        try:
            yield Container(process, port, log, enter)
            process.terminate()
            assert process.wait(GONE_S) in (0, -15, 143), log.read_text()[-4000:]
        except BaseException:
            print(log.read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            process.kill()
            process.wait()
