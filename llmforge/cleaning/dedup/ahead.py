"""The runs of words of documents that will be compared soon, made by other processes while earlier ones are compared.

What is made too much is thrown away, and what is missing is made where it is needed: nothing but time depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import accumulate
from typing import Any

from llmforge.runtime.waiting import result_of

_WINDOW_BYTES = 4 << 20  # of texts whose runs are made together
_LARGE_BYTES = 1 << 20  # a longer text is left to the comparing process
_TASKS = 4  # of a window
_TRIED = 2048  # documents, after which it is asked whether making runs ahead pays

Item = tuple[int, list[int]]  # a document and its buckets
TextRuns = tuple[Any, list[int]]  # the runs of several texts, one behind the other, and how many each has
Submit = Callable[[Sequence[int]], "Future[TextRuns]"]


class RunsAhead:
    """Goes through documents a window ahead of who compares them.

    Args:
        submit: has the runs of the documents of these numbers made.
        sizes: UTF-8 bytes of each document's text; documents beyond are of earlier corpora, and left out.
    """

    def __init__(self, submit: Submit, sizes: Sequence[int]) -> None:
        self._submit, self._sizes = submit, sizes
        self._ready: dict[int, tuple[Any, int, int]] = {}
        self._sent = self._used = 0
        self._broken = False

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items; when one comes, its runs are there."""
        left = iter(items)
        window = self._window(left)
        while window[0]:
            following = self._window(left)
            self._ready = dict(self._collected(window[1]))
            yield from window[0]
            window = following

    def take(self, number: int, is_asked: bool = True) -> Any:
        """A document's runs, sorted; None when they were not made, or not in this window.

        Without `is_asked` it is not known yet if they are wanted.
        """
        found = self._ready.get(number)
        if found is None:
            return None
        self._used += is_asked
        runs, begin, end = found
        return runs[begin:end].copy()  # the others of its task are not held with it

    def _window(self, left: Iterator[Item]) -> tuple[list[Item], list[tuple[list[int], Future[TextRuns]]]]:
        """The next items, and the work on them that has been begun."""
        items: list[Item] = []
        numbers: list[int] = []
        size = 0
        for item in left:
            items.append(item)
            number = item[0]
            own = self._sizes[number] if number < len(self._sizes) else 0
            if 0 < own <= _LARGE_BYTES:
                numbers.append(number)
            size += max(own, 1 << 10)
            if size >= _WINDOW_BYTES:
                break
        if self._broken or (self._sent >= _TRIED and 4 * self._used < self._sent):
            return items, []
        self._sent += len(numbers)
        shares = [numbers[first::_TASKS] for first in range(_TASKS)]
        try:
            return items, [(share, self._submit(share)) for share in shares if share]
        except BrokenProcessPool:
            self._broken = True
            return items, []

    def _collected(self, begun: list[tuple[list[int], Future[TextRuns]]]) -> Iterator[tuple[int, tuple[Any, int, int]]]:
        for numbers, future in begun:
            try:
                runs, counts = result_of(future)
            except BrokenProcessPool:  # a worker was killed: what is left is done here
                self._broken = True
                return
            ends = list(accumulate(counts, initial=0))
            yield from zip(numbers, zip([runs] * len(numbers), ends, ends[1:], strict=False), strict=True)
