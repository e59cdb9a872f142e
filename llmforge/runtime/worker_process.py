"""What every worker process does first: it leaves stop signals to its parent, ends when the parent ends, and keeps
freed memory.

A terminal's Ctrl-C, and a scheduler's SIGTERM, reach a whole group of processes: the parent decides what becomes of the
work. A parent that is killed takes its workers along, which would otherwise wait for work for ever.
"""

from __future__ import annotations

import os
import signal
import threading

from llmforge.runtime.malloc import keep_freed_memory
from llmforge.runtime.stop import SIGNALS


def begin_worker() -> None:
    """To be called in a process that `multiprocessing` started."""
    keep_freed_memory()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
