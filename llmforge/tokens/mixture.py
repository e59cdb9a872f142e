"""Which window of which source each row of training is: arithmetic over seed and row number, no state.

Row g of a run (counted over all steps) belongs to one source by weight, is the i-th row of it, and therefore stands in
epoch i // windows at place i % windows of that epoch's shuffle. A source that has been repeated often enough leaves;
the others then share the rows by their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """A source as the mixture sees it: its windows, its weight, and how often each window may come."""

    windows: int
    weight: float
    max_repetition: float | None = None

    @property
    def cap(self) -> int | None:
        """Rows that the source can give in all."""
        return None if self.max_repetition is None else int(self.windows * self.max_repetition)


@dataclass(frozen=True)
class _Phase:
    """Rows from `start` on come from `active` sources; `used` rows of each source lie before."""

    start: int
    active: tuple[int, ...]
    used: tuple[int, ...]


class Mixture:
    """`locate(row)` -> (source, how many of its rows came before)."""

    def __init__(self, shares: Sequence[Share]) -> None:
        self.shares = list(shares)
        self.num_rows: int | None = None  # None: never used up
        self._phases = self._plan()

    def _plan(self) -> list[_Phase]:
        used = [0] * len(self.shares)
        active = [at for at, share in enumerate(self.shares) if share.weight > 0 and share.cap != 0]
        phases, start = [], 0
        while active:
            phase = _Phase(start, tuple(active), tuple(used))
            phases.append(phase)
            ends = {at: self._exhausted(phase, at) for at in active}
            limits = [end for end in ends.values() if end is not None]
            if not limits:
                return phases
            length = min(limits)
            for at, more in zip(active, self._counts(phase, length), strict=True):
                used[at] += more
            active = [at for at in active if (cap := self.shares[at].cap) is None or used[at] < cap]
            start += length
        self.num_rows = start
        return phases

    def _exhausted(self, phase: _Phase, source: int) -> int | None:
        """Rows of the phase after which a source has given all it may."""
        cap = self.shares[source].cap
        if cap is None:
            return None
        left, place = cap - phase.used[source], phase.active.index(source)
        low, high = 0, 1
        while self._counts(phase, high)[place] < left:
            high *= 2
        while high - low > 1:
            middle = (low + high) // 2
            if self._counts(phase, middle)[place] < left:
                low = middle
            else:
                high = middle
        return high

    def _counts(self, phase: _Phase, rows: int) -> list[int]:
        """How many of the first `rows` rows of a phase each active source gets.

        One source after the other is split off from those before it by rounding; each split moves by 0 or 1 when
        `rows` does, so every row belongs to exactly one source.
        """
        weights = [self.shares[at].weight for at in phase.active]
        counts, left, total = [0] * len(weights), rows, sum(weights)
        for place in range(len(weights) - 1, 0, -1):
            before = min(left, int(left * ((total - weights[place]) / total) + 0.5))
            counts[place], left, total = left - before, before, total - weights[place]
        counts[0] = left
        return counts

    def locate(self, row: int) -> tuple[int, int] | None:
        """The source of a row and the rows of that source before it; None when all sources are used up."""
        if self.num_rows is not None and row >= self.num_rows:
            return None
        phase = next(phase for phase in reversed(self._phases) if phase.start <= row)
        before = self._counts(phase, row - phase.start)
        after = self._counts(phase, row - phase.start + 1)
        place = next(place for place, count in enumerate(before) if after[place] > count)
        source = phase.active[place]
        return source, phase.used[source] + before[place]
