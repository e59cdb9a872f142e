"""Waiting for what another process works on, with a word when it is stopped: else nobody would know why nothing moves.

A worker that is killed breaks its pool at once; one that is stopped (SIGSTOP, a batch system's suspension, a debugger)
looks as if it worked. It is left alone, since it may be let go on.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from llmforge.runtime.console import Console
from llmforge.runtime.process_tree import stopped_below

T = TypeVar("T")
LOOK_SECONDS = 5.0  # so long without a result before it is looked, and between two looks
REPEAT_SECONDS = 60.0


def result_of(future: Future[T]) -> T:
    """The result of a future, however long it takes; stopped processes of this one are named on stderr meanwhile.

    Raises:
        Exception: whatever the work raised.
    """
    began = time.monotonic()
    told = began - REPEAT_SECONDS
    while not wait([future], LOOK_SECONDS).done:
        stopped, now = stopped_below(os.getpid()), time.monotonic()
        if stopped and now - told >= REPEAT_SECONDS:
            told = now
            numbers = " ".join(map(str, stopped))
            Console().warn(
                f"{now - began:.0f} s without a result: worker process {numbers} is stopped (SIGSTOP); "
                f"`kill -CONT {numbers}` lets it go on"
            )
    return future.result()


def shut_down(pool: Executor) -> None:
    """Ends a pool's workers when what they have begun is done; an idle one that is stopped does not end either."""
    with ThreadPoolExecutor(1) as aside:
        result_of(aside.submit(pool.shutdown, wait=True, cancel_futures=True))
