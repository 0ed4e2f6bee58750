"""Manners of vLLM's engine process: it goes when the server goes, and not before.

vLLM imports this module inside that process (`worker_extension_cls`), which is the only place from which
both can be set. Importing it anywhere else does nothing.

Without it an engine whose server was killed lives on with all its memory: it waits for a socket that
nobody will ever write to. `PR_SET_PDEATHSIG` is no help, for it follows the thread that started the
process, and the server starts engines in worker threads that end.
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


class EngineManners:
    """What is added to vLLM's worker: nothing; that vLLM imports this module is what counts."""


def follow_parent(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def settle_in() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    threading.Thread(target=follow_parent, args=(parent,), name="follow-parent", daemon=True).start()
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches the whole process group; the server ends its sessions, then stops the engine.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


settle_in()
