"""Token splits -> batches: training batches as a pure function of (seed, step), and a pass over a validation split.

Nothing here knows of ranks or micro-batches: `batches(step)` is the whole global batch, and whoever cuts it into parts
gets the same rows. B rows, T positions in a row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from llmforge.errors import DataError
from llmforge.tokens.batch import IGNORED, Batch
from llmforge.tokens.folder import TokenDocument, TokenSplit
from llmforge.tokens.mixture import Mixture, Share

_KEPT_EPOCHS = 4  # shuffles kept in memory, 4 bytes a window each


@dataclass(frozen=True)
class TracedSpan:
    """Part of a batch: tokens `start` to `start + length` of a document (counted from its first) in a row."""

    row: int
    document: TokenDocument
    start: int
    length: int


class WindowBatches:
    """Shuffled windows that do not overlap, epoch by epoch, from one or several splits."""

    def __init__(
        self,
        sources: Sequence[tuple[TokenSplit, float, float | None]],
        seq_len: int,
        batch_rows: int,
        seed: int,
        document_mask: bool = False,
    ) -> None:
        """`sources` are (split, weight, max_repetition); the last is None for no limit.

        Raises:
            DataError: a split is shorter than one window.
        """
        assert sources and seq_len > 0 and batch_rows > 0
        self.seq_len, self.batch_rows, self.seed, self.document_mask = seq_len, batch_rows, seed, document_mask
        self._splits = [split for split, _, _ in sources]
        for split in self._splits:
            if split.num_tokens < seq_len + 1:
                what = f"{split.num_tokens:,} tokens are fewer than one window of seq_len {seq_len} + 1"
                raise DataError(what, split.path, "lower data.seq_len or give more text")
        self._windows = [(split.num_tokens - 1) // seq_len for split in self._splits]
        shares = [Share(n, weight, cap) for n, (_, weight, cap) in zip(self._windows, sources, strict=True)]
        self._mixture = Mixture(shares)
        self._orders: OrderedDict[tuple[int, int], tuple[NDArray[np.int32], int]] = OrderedDict()

    @property
    def num_windows(self) -> int:
        """Windows of all sources together: rows of one epoch."""
        return sum(self._windows)

    @property
    def max_steps(self) -> int | None:
        """Steps until max_repetition has used up all sources; None without such a limit."""
        return None if self._mixture.num_rows is None else self._mixture.num_rows // self.batch_rows

    def batches(self, step: int) -> Batch:
        """The global batch of a step (from 0): a pure function of the sources, the seed and the step.

        Raises:
            DataError: max_repetition has used up the sources.
        """
        rows = [self._window(step, row) for row in range(self.batch_rows)]
        return _batch([self._splits[source] for source, _ in rows], [at for _, at in rows], self)

    def __call__(self, step: int) -> Batch:
        """`batches(step)`."""
        return self.batches(step)

    def epoch(self, step: int) -> float:
        """How often the text has been seen before a step, all sources taken together."""
        return step * self.batch_rows / self.num_windows

    def trace(self, step: int) -> list[TracedSpan]:
        """The documents behind the inputs of a step's batch, row by row."""
        spans = []
        for row in range(self.batch_rows):
            source, at = self._window(step, row)
            spans += [TracedSpan(row, *span) for span in _spans(self._splits[source], at, self.seq_len)]
        return spans

    def _window(self, step: int, row: int) -> tuple[int, int]:
        """(source, first position) of a row of a step."""
        found = self._mixture.locate(step * self.batch_rows + row)
        if found is None:
            what = f"step {step} is beyond the data: max_repetition ends it after {self.max_steps} steps"
            raise DataError(what, hint="raise max_repetition, lower the steps or add sources")
        source, before = found
        epoch, place = divmod(before, self._windows[source])
        order, shift = self._order(source, epoch)
        return source, int(order[place]) * self.seq_len + shift

    def _order(self, source: int, epoch: int) -> tuple[NDArray[np.int32], int]:
        """The shuffle of a source's windows in an epoch, and where its first window begins."""
        key = (source, epoch)
        if key not in self._orders:
            count = self._windows[source]
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, source, epoch])))
            spare = self._splits[source].num_tokens - 1 - count * self.seq_len
            shift = int(rng.integers(0, spare + 1))
            self._orders[key] = (rng.permutation(count).astype(np.int32), shift)
            while len(self._orders) > max(_KEPT_EPOCHS, 2 * len(self._splits)):
                self._orders.popitem(last=False)
        return self._orders[key]


class ValidWindows:
    """A validation split as batches in which every token is predicted exactly once, in order.

    What is not predicted is a document's first token when that is the bos symbol, which every document begins with,
    and the very first token of the stream, which has nothing before it. `max_tokens` takes evenly spread windows.
    """

    def __init__(
        self,
        split: TokenSplit,
        seq_len: int,
        rows: int,
        max_tokens: int | None = None,
        *,
        document_mask: bool = False,
        bos_id: int | None = None,
        token_bytes: Sequence[bytes] = (),
    ) -> None:
        """`token_bytes` is the tokenizer's table; without it `num_bytes` is 0."""
        assert seq_len > 0 and rows > 0
        if split.num_tokens < 2:
            raise DataError(f"{split.num_tokens} tokens are too few to predict any", split.path)
        self.split, self.seq_len, self.rows = split, seq_len, rows
        self.document_mask, self.bos_id = document_mask, bos_id
        self.source_names = split.source_names
        count = -(-(split.num_tokens - 1) // seq_len)
        if max_tokens is not None and max_tokens < split.num_tokens:
            taken = max(1, max_tokens // seq_len)
            self._starts = [at * count // taken * seq_len for at in range(min(taken, count))]
        else:
            self._starts = [at * seq_len for at in range(count)]
        self._sizes = np.asarray([len(piece) for piece in token_bytes] or [0], dtype=np.int64)
        self._bytes_by_source: dict[str, int] | None = None

    def __len__(self) -> int:
        """Batches in a pass."""
        return -(-len(self._starts) // self.rows)

    def __iter__(self) -> Iterator[Batch]:
        for at in range(0, len(self._starts), self.rows):
            starts = self._starts[at : at + self.rows]
            yield _batch([self.split] * len(starts), starts, self)

    def with_sources(self) -> Iterator[tuple[Batch, NDArray[np.int32]]]:
        """Each batch with the number of every label's source in `source_names`, (B, T)."""
        for at, batch in zip(range(0, len(self._starts), self.rows), self, strict=True):
            starts = np.asarray(self._starts[at : at + self.rows])
            places = np.minimum(starts[:, None] + np.arange(1, self.seq_len + 1), self.split.num_tokens - 1)
            documents = np.searchsorted(self.split.starts, places, side="right") - 1
            yield batch, self.split.document_sources[documents]

    @property
    def num_bytes(self) -> int:
        """Bytes of text that a pass predicts."""
        return sum(self.bytes_by_source.values())

    @property
    def bytes_by_source(self) -> dict[str, int]:
        """Bytes of text that a pass predicts, by source."""
        if self._bytes_by_source is None:
            totals = np.zeros(len(self.source_names), dtype=np.int64)
            for batch, sources in self.with_sources():
                labels = batch.labels.numpy()
                sizes = np.where(labels == IGNORED, 0, self._sizes[np.clip(labels, 0, len(self._sizes) - 1)])
                totals += np.bincount(sources.ravel(), sizes.ravel(), len(totals)).astype(np.int64)
            named = zip(self.source_names, totals.tolist(), strict=True)
            self._bytes_by_source = {name: count for name, count in named if count}
        return self._bytes_by_source


def _batch(splits: Sequence[TokenSplit], starts: Sequence[int], plan: WindowBatches | ValidWindows) -> Batch:
    """Windows that begin at `starts`, filled up at a stream's end with positions that are not trained on."""
    rows, width = len(starts), plan.seq_len
    window = np.zeros((rows, width + 1), dtype=np.int64)  # (B, T + 1)
    filled = np.full(rows, width + 1)
    for row, (split, start) in enumerate(zip(splits, starts, strict=True)):
        ids = split.stream(start, width + 1)
        window[row, : len(ids)], filled[row] = ids, len(ids)
    inputs, labels = window[:, :-1], window[:, 1:].copy()  # (B, T)
    labels[np.arange(1, width + 1) >= filled[:, None]] = IGNORED
    if isinstance(plan, ValidWindows) and plan.bos_id is not None:
        labels[labels == plan.bos_id] = IGNORED
    documents = positions = None
    if plan.document_mask:
        documents, positions = _documents(splits, starts, labels)
    return Batch(
        torch.from_numpy(inputs.copy()),
        torch.from_numpy(labels),
        None if documents is None else torch.from_numpy(documents),
        None if positions is None else torch.from_numpy(positions),
    )


def _documents(
    splits: Sequence[TokenSplit], starts: Sequence[int], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(document_ids, positions), each (B, T); a label that begins the next document cannot be foreseen and is left
    out."""
    rows, width = labels.shape
    begins = np.zeros((rows, width + 1), dtype=bool)  # (B, T + 1)
    for row, (split, start) in enumerate(zip(splits, starts, strict=True)):
        low, high = np.searchsorted(split.starts, [start, start + width + 1])
        begins[row, split.starts[low:high] - start] = True
    labels[begins[:, 1:]] = IGNORED
    documents = np.cumsum(begins[:, :-1], axis=1, dtype=np.int32)  # (B, T)
    steps = np.broadcast_to(np.arange(width), (rows, width))
    first = np.maximum.accumulate(np.where(begins[:, :-1], steps, 0), axis=1)
    return documents - documents[:, :1], steps - first


def _spans(split: TokenSplit, start: int, count: int) -> Iterator[tuple[TokenDocument, int, int]]:
    """(document, first token inside it, tokens) of positions start to start + count - 1."""
    stop = min(start + count, split.num_tokens)
    while start < stop:
        document = split.document(split.document_at(start))
        end = min(stop, document.start + document.length)
        yield document, start - document.start, end - start
        start = end
