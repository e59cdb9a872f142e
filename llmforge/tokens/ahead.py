"""Batches made one step ahead in a thread, while an accelerator computes: the step does not wait for its text.

A batch is a pure function of its step, so it does not matter when it is made; a CPU that trains gains nothing from it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """`batches`, with the batch of the step after the last one asked for under way; `prepare` is done to each there."""

    def __init__(self, batches: Callable[[int], T], prepare: Callable[[T], T] | None = None) -> None:
        self._batches = batches if prepare is None else lambda step: prepare(batches(step))
        self._pool = ThreadPoolExecutor(1, "llmforge-batches")
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, step: int) -> T:
        """The batch of a step; what `batches` raises for a step is raised when that step is asked for."""
        if self._next is not None and self._next[0] == step:
            future = self._next[1]
        else:
            future = self._pool.submit(self._batches, step)
        self._next = (step + 1, self._pool.submit(self._batches, step + 1))
        return future.result()
