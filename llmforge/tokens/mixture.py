"""Which source each row of training comes from: arithmetic over the row's number, no state.

Row g of a run (counted over all steps) belongs to one source by the weights of its stage, and is the i-th row of that
source; what the i-th row of a source is, the source's layout knows. A source that has been repeated often enough
leaves; the others then share the rows by their weights. All counts are exact: weights are taken as the decimal
fractions that were written down, and whole numbers stay whole numbers of any size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm


def exact(value: float) -> Fraction:
    """A number as it is written down: 0.1 is a tenth."""
    return Fraction(repr(value))


@dataclass(frozen=True)
class Share:
    """A source as the mixture sees it: rows of one pass over it, its weight, and how often each row may come."""

    windows: int
    weight: float
    max_repetition: float | None = None

    @property
    def cap(self) -> int | None:
        """Rows that the source can give in all."""
        return None if self.max_repetition is None else int(self.windows * exact(self.max_repetition))


@dataclass(frozen=True)
class Stage:
    """Other weights from a row of the run on, one for each source in their order."""

    start_row: int
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Phase:
    """Rows from `start` on come from the sources `active`, by `weights` (whole numbers, one for each of them).

    `used` rows of each source of the mixture lie before; `left` are those that were used up when the phase began.
    """

    start: int
    active: tuple[int, ...]
    weights: tuple[int, ...]
    used: tuple[int, ...]
    left: tuple[int, ...] = ()

    def counts(self, rows: int) -> list[int]:
        """How many of the first `rows` rows of the phase each active source gets.

        One source after the other is split off from those before it by rounding to the nearest whole row; each split
        moves by 0 or 1 when `rows` does, so every row belongs to exactly one source.
        """
        counts, left, total = [0] * len(self.weights), rows, sum(self.weights)
        for place in range(len(self.weights) - 1, 0, -1):
            rest = total - self.weights[place]
            before = (2 * left * rest + total) // (2 * total)
            counts[place], left, total = left - before, before, rest
        counts[0] = left
        return counts


class Mixture:
    """`locate(row)` -> (source, how many of its rows came before), and back: `row_of(source, before)`."""

    def __init__(self, shares: Sequence[Share], stages: Sequence[Stage] = ()) -> None:
        """`stages` rise in their `start_row`; before the first one the shares' own weights hold."""
        self.shares = list(shares)
        self.num_rows: int | None = None  # None: never used up
        own = Stage(0, tuple(share.weight for share in shares))
        self.stages = [*([] if stages and stages[0].start_row == 0 else [own]), *stages]
        assert all(a.start_row < b.start_row for a, b in zip(self.stages, self.stages[1:], strict=False))
        assert all(len(stage.weights) == len(self.shares) for stage in self.stages)
        self.phases = list(self._plan())
        self._starts = [phase.start for phase in self.phases]

    def _plan(self) -> Iterator[Phase]:
        used, start = [0] * len(self.shares), 0
        left: tuple[int, ...] = ()
        for number, stage in enumerate(self.stages):
            ends = self.stages[number + 1].start_row if number + 1 < len(self.stages) else None
            while ends is None or start < ends:
                phase = self._phase(start, stage, used, left)
                if phase is None:
                    self.num_rows = start
                    return
                yield phase
                last = self._exhausted(phase)
                if last is None and ends is None:
                    return
                stop = min(end for end in (ends, None if last is None else start + last) if end is not None)
                for at, more in zip(phase.active, phase.counts(stop - start), strict=True):
                    used[at] += more
                left = tuple(at for at in phase.active if used[at] == self.shares[at].cap)
                start = stop

    def _phase(self, start: int, stage: Stage, used: Sequence[int], left: tuple[int, ...]) -> Phase | None:
        """The phase that begins at a row; None when every source that the stage wants is used up."""
        shares = enumerate(self.shares)
        active = [at for at, share in shares if stage.weights[at] > 0 and (share.cap is None or used[at] < share.cap)]
        if not active:
            return None
        weights = [exact(stage.weights[at]) for at in active]
        scale = lcm(*(weight.denominator for weight in weights))
        return Phase(start, tuple(active), tuple(int(weight * scale) for weight in weights), tuple(used), left)

    def _exhausted(self, phase: Phase) -> int | None:
        """Rows of the phase after which the first of its sources has given all it may; None when none ever has."""
        found = []
        for place, source in enumerate(phase.active):
            cap = self.shares[source].cap
            if cap is not None:
                found.append(_first_with(phase, place, cap - phase.used[source]))
        return min(found, default=None)

    def _phase_at(self, row: int) -> Phase:
        return self.phases[bisect_right(self._starts, row) - 1]

    def locate(self, row: int) -> tuple[int, int] | None:
        """The source of a row and the rows of that source before it; None when all sources are used up."""
        found = self.locate_many(row, 1)
        return found[0] if found else None

    def locate_many(self, row: int, count: int) -> list[tuple[int, int]]:
        """`locate` of `count` rows from `row` on; fewer when the sources are used up before."""
        stop = row + count if self.num_rows is None else min(row + count, self.num_rows)
        found = []
        while row < stop:
            phase = self._phase_at(row)
            at = bisect_right(self._starts, row)
            end = min(stop, self._starts[at]) if at < len(self._starts) else stop
            before = phase.counts(row - phase.start)
            if len(phase.active) == 1:
                source, first = phase.active[0], phase.used[phase.active[0]] + before[0]
                found += [(source, first + more) for more in range(end - row)]
                row = end
                continue
            for inner in range(row + 1, end + 1):
                after = phase.counts(inner - phase.start)
                place = next(place for place, many in enumerate(after) if many > before[place])
                source = phase.active[place]
                found.append((source, phase.used[source] + before[place]))
                before = after
            row = end
        return found

    def used(self, rows: int) -> list[int]:
        """How many of the first `rows` rows of the run each source gives."""
        rows = rows if self.num_rows is None else min(rows, self.num_rows)
        if rows <= 0:
            return [0] * len(self.shares)
        phase = self._phase_at(rows - 1)
        counts = list(phase.used)
        for at, more in zip(phase.active, phase.counts(rows - phase.start), strict=True):
            counts[at] += more
        return counts

    def row_of(self, source: int, before: int) -> int | None:
        """The row of the run that is the one of `source` with `before` of its rows before it; None: it never comes."""
        for number, phase in enumerate(self.phases):
            after: list[int] | tuple[int, ...] | None = None
            if number + 1 < len(self.phases):
                after = self.phases[number + 1].used
            elif self.num_rows is not None:
                after = self.used(self.num_rows)
            if source in phase.active and (after is None or before < after[source]):
                place = phase.active.index(source)
                return phase.start + _first_with(phase, place, before - phase.used[source] + 1) - 1
        return None


def _first_with(phase: Phase, place: int, wanted: int) -> int:
    """The smallest number of rows of which the source at `place` gets `wanted`."""
    low, high = 0, 1
    while phase.counts(high)[place] < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if phase.counts(middle)[place] < wanted:
            low = middle
        else:
            high = middle
    return high
