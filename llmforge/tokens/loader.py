"""Token splits -> batches: training batches as a pure function of (seed, step), and a pass over a validation split.

Nothing here knows of ranks or micro-batches: `batches(step)` is the whole global batch, and whoever cuts it into parts
gets the same rows. B rows, T positions in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llmforge.errors import DataError
from llmforge.tokens.batch import IGNORED, Batch
from llmforge.tokens.folder import TokenSplit
from llmforge.tokens.run_rows import Mixing, RunRows, RunSource, TracedSpan

_CONCATENATED = Mixing()


class WindowBatches:
    """Shuffled rows, epoch by epoch, from one or several splits; `rows` tells everything about them but the ids."""

    def __init__(
        self,
        sources: Sequence[RunSource],
        seq_len: int,
        batch_rows: int,
        seed: int,
        document_mask: bool = False,
        mixing: Mixing = _CONCATENATED,
    ) -> None:
        """Raises DataError when a split is shorter than one row."""
        self.rows = RunRows(sources, seq_len, batch_rows, seed, mixing)
        self.seq_len, self.batch_rows, self.seed, self.document_mask = seq_len, batch_rows, seed, document_mask

    @property
    def num_windows(self) -> int:
        """Rows of one epoch of all sources together."""
        return self.rows.num_rows

    @property
    def max_steps(self) -> int | None:
        """Steps until max_repetition has used up all sources; None without such a limit."""
        return self.rows.max_steps

    def batches(self, step: int) -> Batch:
        """The global batch of a step (from 0): a pure function of the sources, the seed and the step.

        Raises:
            DataError: max_repetition has used up the sources.
        """
        contents = self.rows.step(step)
        rows = [_Row(self.rows.sources[row.source].split, row.pieces) for row in contents]
        return _batch(rows, self.seq_len, self.document_mask, None)

    def __call__(self, step: int) -> Batch:
        """`batches(step)`."""
        return self.batches(step)

    def documents(self, step: int) -> list[str]:
        """Id and source of each document in a step's batch, each once."""
        return list(dict.fromkeys(f"{span.document.id} ({span.document.source})" for span in self.trace(step)))

    def epoch(self, step: int) -> float:
        """How often the text has been seen before a step, all sources taken together."""
        return step * self.batch_rows / self.num_windows

    def trace(self, step: int) -> list[TracedSpan]:
        """The documents behind the inputs of a step's batch, row by row."""
        return self.rows.trace(step)


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
            rows = [_Row(self.split, [(start, self.seq_len + 1)]) for start in self._starts[at : at + self.rows]]
            yield _batch(rows, self.seq_len, self.document_mask, self.bos_id)

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


class _Row(NamedTuple):
    """Pieces of a split that stand side by side: (start, tokens) each."""

    split: TokenSplit
    pieces: Sequence[tuple[int, int]]


def _batch(contents: Sequence[_Row], seq_len: int, document_mask: bool, bos_id: int | None) -> Batch:
    """Rows of T + 1 tokens at most as inputs and labels, filled up with positions that are not trained on.

    A piece's first token is no label, nor is `bos_id` ever one.
    """
    rows, width = len(contents), seq_len
    inputs = np.zeros((rows, width), dtype=np.int64)  # (B, T)
    labels = np.full((rows, width), IGNORED, dtype=np.int64)  # (B, T)
    begins = np.zeros((rows, width + 1), dtype=bool)  # where a piece begins behind another, and the filling
    for row, (split, pieces) in enumerate(contents):
        column = 0
        for start, count in pieces:
            ids = split.stream(start, count)
            end = column + len(ids)
            inputs[row, column:end] = ids[: width - column]
            labels[row, column : end - 1] = ids[1:]
            begins[row, end:][:1] = True
            column = end
    if bos_id is not None:
        labels[labels == bos_id] = IGNORED
    documents = positions = None
    if document_mask:
        documents, positions = _documents(contents, begins, labels)
    return Batch(
        torch.from_numpy(inputs),
        torch.from_numpy(labels),
        None if documents is None else torch.from_numpy(documents),
        None if positions is None else torch.from_numpy(positions),
    )


def _documents(
    contents: Sequence[_Row], begins: NDArray[np.bool_], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(document_ids, positions), each (B, T); a label that begins the next document cannot be foreseen and is left
    out."""
    rows, width = labels.shape  # begins: (B, T + 1)
    for row, (split, pieces) in enumerate(contents):
        column = 0
        for start, count in pieces:
            low, high = np.searchsorted(split.starts, (start, min(start + count, start + width + 1 - column)))
            begins[row, split.starts[low:high] + (column - start)] = True
            column += count
    labels[begins[:, 1:]] = IGNORED
    # Part after part of all rows in one line: repeating a part's facts is several times as fast as running sums.
    begins[:, 0] = True
    first = np.flatnonzero(begins[:, :-1])  # (parts,)
    lengths = np.diff(first, append=rows * width)
    number = np.arange(len(first), dtype=np.int32)  # counted anew in every row
    number -= np.searchsorted(first, first - first % width).astype(np.int32)
    positions = np.arange(rows * width) - np.repeat(first, lengths)
    return np.repeat(number, lengths).reshape(rows, width), positions.reshape(rows, width)  # (B, T) each
