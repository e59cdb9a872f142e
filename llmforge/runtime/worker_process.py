"""How worker processes are started, and what every one does first: it leaves stop signals to its parent, ends when the
parent ends, and keeps freed memory.

A terminal's Ctrl-C, and a scheduler's SIGTERM, reach a whole group of processes: the parent decides what becomes of the
work. A parent that is killed takes its workers along, which would otherwise wait for work for ever.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext

from llmforge.runtime.malloc import keep_freed_memory
from llmforge.runtime.stop import SIGNALS

# One thread in each worker: the workers are the parallelism.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
_THREADS = "/proc/self/task"  # on Linux


def one_thread() -> None:
    """Has libraries that this process loads from now on use one thread, where the user says nothing else."""
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


def load_with_one_thread(modules: Iterable[str]) -> None:
    """Loads modules that start threads by the number of CPUs; here and in workers forked from here they have one."""
    with _single_threaded():
        for module in modules:
            importlib.import_module(module)


def worker_context() -> BaseContext:
    """How workers are best started: forked where this process has one thread, else spawned.

    A forked worker has at once all that is loaded here; a spawned one loads everything again, most of a second. With
    several threads one of them may hold a lock at the fork that nobody would ever let go in the worker.
    """
    alone = os.path.isdir(_THREADS) and len(os.listdir(_THREADS)) == 1
    return multiprocessing.get_context("fork" if alone else "spawn")


@contextmanager
def _single_threaded() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    one_thread()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


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
