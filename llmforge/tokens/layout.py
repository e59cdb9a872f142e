"""A split as rows of training: what stands in the k-th row of an epoch, and which rows show a part of the stream.

Two layouts. `Windows` cuts the stream of all documents every `seq_len` tokens: nothing is wasted, documents are cut
where a window ends. `PackedRows` keeps documents whole as far as they fit: those longer than a row are cut, and the
pieces are put into rows by best fit; what stays empty is wasted. A row has T = seq_len inputs and, with the label of
the last one, T + 1 tokens. Everything is a function of (seed, source, epoch).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from llmforge.errors import DataError
from llmforge.tokens.best_fit import best_fit
from llmforge.tokens.folder import TokenSplit

Packing = Literal["concatenate", "best_fit"]
Numbers = NDArray[np.int64]
_KEPT_EPOCHS = 2  # shuffles kept in memory for each source, 4 bytes a row each


class Layout(Protocol):
    """Rows of a split; `place` counts the rows of an epoch in that epoch's order."""

    num_rows: int
    # share of the positions of all rows that hold no token
    wasted: float

    @property
    def cut_documents(self) -> float:
        """Share of the documents that no row holds as a whole."""

    def row(self, epoch: int, place: int) -> list[tuple[int, int]]:
        """(start, tokens) of each piece of the stream in a row, T + 1 tokens at most in all."""

    def inputs(self, epoch: int, rows: int) -> tuple[Numbers, Numbers]:
        """(starts, lengths) of all parts of the stream that are inputs of the first `rows` rows of an epoch."""

    def places(self, epoch: int, start: int, stop: int) -> Numbers:
        """The rows that have one of the tokens start to stop - 1 as inputs, rising."""


class _Shuffles:
    """The order of a source's rows in each epoch, as 4-byte numbers."""

    def __init__(self, seed: int, source: int, num_rows: int, spare: int) -> None:
        self._key, self._num_rows, self._spare = (seed, source), num_rows, spare
        self._kept: OrderedDict[int, tuple[NDArray[np.int32], int]] = OrderedDict()

    def __call__(self, epoch: int) -> tuple[NDArray[np.int32], int]:
        """The rows in their order, and a shift between 0 and the spare tokens."""
        if epoch not in self._kept:
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([*self._key, epoch])))
            shift = int(rng.integers(0, self._spare + 1))
            self._kept[epoch] = (rng.permutation(self._num_rows).astype(np.int32), shift)
            while len(self._kept) > _KEPT_EPOCHS:
                self._kept.popitem(last=False)
        return self._kept[epoch]


class Windows:
    """The stream cut every `seq_len` tokens; where the first window begins changes with the epoch."""

    def __init__(self, split: TokenSplit, seq_len: int, seed: int, source: int) -> None:
        """`source` is the number of the split in the mixture.

        Raises:
            DataError: the split is shorter than one window.
        """
        if split.num_tokens < seq_len + 1:
            what = f"{split.num_tokens:,} tokens are fewer than one window of seq_len {seq_len} + 1"
            raise DataError(what, split.path, "lower data.seq_len or give more text")
        self._split, self._seq_len = split, seq_len
        self.num_rows = (split.num_tokens - 1) // seq_len
        self.wasted = 0.0
        self._shuffles = _Shuffles(seed, source, self.num_rows, split.num_tokens - 1 - self.num_rows * seq_len)

    @property
    def cut_documents(self) -> float:
        """Share of the documents that no window holds as a whole, in an epoch whose shift is 0."""
        starts = self._split.starts
        first, last = starts[:-1] // self._seq_len, (starts[1:] - 1) // self._seq_len
        return float((first != last).mean())

    def row(self, epoch: int, place: int) -> list[tuple[int, int]]:
        """One window."""
        order, shift = self._shuffles(epoch)
        return [(int(order[place]) * self._seq_len + shift, self._seq_len + 1)]

    def inputs(self, epoch: int, rows: int) -> tuple[Numbers, Numbers]:
        """A window each."""
        order, shift = self._shuffles(epoch)
        return order[:rows].astype(np.int64) * self._seq_len + shift, np.full(rows, self._seq_len, dtype=np.int64)

    def places(self, epoch: int, start: int, stop: int) -> Numbers:
        """Windows that overlap; none shows the few spare tokens before the first and behind the last."""
        order, shift = self._shuffles(epoch)
        low = max(0, (start - shift) // self._seq_len)
        high = min(self.num_rows - 1, (stop - 1 - shift) // self._seq_len)
        return np.flatnonzero((order >= low) & (order <= high))


class PackedRows:
    """Documents, or pieces of those that are longer than a row, side by side in rows by best fit.

    Which pieces share a row depends on the seed and stays; the order of the rows changes with the epoch. Pieces of a
    long document overlap by one token, so that every token but the first is predicted exactly once an epoch.
    """

    def __init__(self, split: TokenSplit, seq_len: int, seed: int, source: int) -> None:
        """Raises DataError when no document has two tokens."""
        self._seq_len = seq_len
        lengths = np.diff(split.starts)
        pieces = np.maximum(0, -(-(lengths - 1) // seq_len))
        within = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        starts = np.repeat(split.starts[:-1], pieces) + within * seq_len
        sizes = np.minimum(seq_len + 1, np.repeat(split.starts[1:], pieces) - starts)
        if not len(starts):
            raise DataError("no document has two tokens", split.path, "give more text")
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, source, 0, 1])))
        rows = best_fit(sizes, seq_len + 1, rng.permutation(len(sizes)))
        by_row = np.argsort(rows, kind="stable")
        self._starts, self._sizes = starts[by_row], sizes[by_row]
        self.num_rows = int(rows.max()) + 1
        self._ends = np.zeros(self.num_rows + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=self.num_rows), out=self._ends[1:])
        self._by_start, self._row_of = starts, rows
        self.wasted = 1.0 - float(sizes.sum()) / (self.num_rows * (seq_len + 1))
        self._cut = float((pieces > 1).mean())
        self._shuffles = _Shuffles(seed, source, self.num_rows, 0)

    @property
    def cut_documents(self) -> float:
        """Share of the documents that are longer than a row."""
        return self._cut

    def row(self, epoch: int, place: int) -> list[tuple[int, int]]:
        """The pieces side by side."""
        number = int(self._shuffles(epoch)[0][place])
        chosen = slice(int(self._ends[number]), int(self._ends[number + 1]))
        return list(zip(self._starts[chosen].tolist(), self._sizes[chosen].tolist(), strict=True))

    def inputs(self, epoch: int, rows: int) -> tuple[Numbers, Numbers]:
        """All pieces, without the last token of a full row, which is a label only."""
        numbers = self._shuffles(epoch)[0][:rows]
        sizes = self._sizes.copy()
        full = np.add.reduceat(self._sizes, self._ends[:-1]) > self._seq_len
        sizes[self._ends[1:][full] - 1] -= 1
        counts = self._ends[numbers + 1] - self._ends[numbers]
        first = np.repeat(self._ends[numbers] - (np.cumsum(counts) - counts), counts)
        chosen = first + np.arange(int(counts.sum()))
        return self._starts[chosen], sizes[chosen]

    def places(self, epoch: int, start: int, stop: int) -> Numbers:
        """The rows of the pieces that begin there; start and stop are the ends of a document."""
        low, high = np.searchsorted(self._by_start, [start, stop])
        wanted = np.unique(self._row_of[low:high])
        return np.flatnonzero(np.isin(self._shuffles(epoch)[0], wanted))


def make_layout(packing: Packing, split: TokenSplit, seq_len: int, seed: int, source: int) -> Layout:
    """The layout of that name."""
    cls = PackedRows if packing == "best_fit" else Windows
    return cls(split, seq_len, seed, source)
