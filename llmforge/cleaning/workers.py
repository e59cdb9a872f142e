"""Batches of texts through the chain, in this process or in several, answered in the order they were given.

Processes are spawned, not forked, so that no thread or lock of the parent is copied; they end when the parent ends,
however it ends. What a batch gives does not depend on the number of workers or on what else is in the batch.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TypeVar

from llmforge.cleaning.pipeline import Chain, ChainSettings, Outcome
from llmforge.errors import MachineError

T = TypeVar("T")

_MAX_WAITING = 48 << 20  # characters handed out and not yet answered, which bounds memory when documents are huge

# One thread in each worker: the workers are the parallelism.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(slots=True)
class BatchResult:
    """Outcomes of a batch, and the MinHash signatures (uint32, row by row) of those that were not dropped."""

    outcomes: list[Outcome]
    signatures: bytes


class BatchCleaner:
    """Texts to outcomes, keys and signatures, by one chain."""

    def __init__(self, settings: ChainSettings) -> None:
        self._settings = settings
        self._chain = Chain(settings)

    def __call__(self, texts: list[str]) -> BatchResult:
        """The results for a batch."""
        outcomes = [self._chain.clean(text) for text in texts]
        kept = [outcome for outcome in outcomes if outcome.drop is None]
        if self._settings.exact:
            from llmforge.cleaning.dedup.exact import exact_key

            for outcome in kept:
                outcome.exact_key = exact_key(outcome.text)
        found = b""
        if self._settings.near is not None:
            from llmforge.cleaning.dedup.near import signatures

            found = signatures([outcome.text for outcome in kept], self._settings.near).tobytes()
        return BatchResult(outcomes, found)


_cleaner: BatchCleaner | None = None  # one in each worker process


def _start(settings: ChainSettings) -> None:
    global _cleaner
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    _cleaner = BatchCleaner(settings)


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(texts: list[str]) -> BatchResult:
    assert _cleaner is not None, "the worker was started by _start"
    return _cleaner(texts)


def clean_batches(
    batches: Iterator[T], texts_of: Callable[[T], list[str]], settings: ChainSettings, workers: int
) -> Iterator[tuple[T, BatchResult]]:
    """(batch, its result) in order; `texts_of` gives the texts of a batch.

    Raises:
        MachineError: a worker process was killed, most often for want of memory.
    """
    if workers <= 1:
        cleaner = BatchCleaner(settings)
        for batch in batches:
            yield batch, cleaner(texts_of(batch))
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(settings,))
    waiting: deque[tuple[T, Future[BatchResult], int]] = deque()
    characters = 0
    try:
        for batch in batches:
            texts = texts_of(batch)
            size = sum(map(len, texts))
            waiting.append((batch, pool.submit(_work, texts), size))
            characters += size
            while len(waiting) > 2 * workers + 1 or (characters > _MAX_WAITING and len(waiting) > 1):
                oldest, future, size = waiting.popleft()
                characters -= size
                yield oldest, future.result()
        while waiting:
            oldest, future, _ = waiting.popleft()
            yield oldest, future.result()
    except BrokenProcessPool as error:
        hint = "give fewer workers, or leave more memory to them"
        raise MachineError("a worker process was killed", "workers", hint) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def available_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
