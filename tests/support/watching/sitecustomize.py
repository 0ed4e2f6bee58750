"""Refuses and notes what would leave this machine, in each Python process that has this folder in its PYTHONPATH."""

import os
import socket
import sys
from typing import Any

INSIDE = ("127.", "::1", "localhost", "0.0.0.0", "::ffff:127.")
NAMES = {"", socket.gethostname()}


def watch(event: str, given: tuple[Any, ...]) -> None:
    match event, given:
        case (("socket.connect" | "socket.sendto" | "socket.sendmsg"), (_, (host, *_))):
            pass
        case "socket.getaddrinfo", (host, *_):
            pass
        case _:
            return
    host = host.decode() if isinstance(host, bytes) else host or ""
    if host in NAMES or host.startswith(INSIDE):
        return
    with open(os.environ["LEFT_THE_MACHINE"], "a") as notes:
        print(event, host, *sys.argv[:3], file=notes)
    raise OSError(f"{event} to {host}: this machine is not to be left")


sys.addaudithook(watch)
