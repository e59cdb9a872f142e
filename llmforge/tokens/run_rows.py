"""All rows of a run, of all its sources, as a function of seed and row number: what each holds, what was served after
so many steps, the documents behind a step, and the steps that saw a document.

Row g of the run is row g modulo `batch_rows` of step g // `batch_rows` (from 0), whatever the batch. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmforge.errors import DataError
from llmforge.tokens.folder import TokenDocument, TokenSplit
from llmforge.tokens.layout import Packing, make_layout
from llmforge.tokens.mixture import Mixture, Share, Stage


@dataclass(frozen=True)
class RunSource:
    """A source of the mixture; a `max_repetition` of None is no limit."""

    split: TokenSplit
    weight: float = 1.0
    max_repetition: float | None = None
    name: str = "text"


@dataclass(frozen=True)
class StagedWeights:
    """The weights of all sources, in their order, from a step of the run (from 0) on."""

    start_step: int
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Mixing:
    """How the sources become rows."""

    packing: Packing = "concatenate"
    stages: tuple[StagedWeights, ...] = ()


@dataclass(frozen=True)
class RowContent:
    """A row: the number of its source, and (start, tokens) of its pieces, T + 1 tokens with the last label."""

    source: int
    pieces: list[tuple[int, int]]


@dataclass(frozen=True)
class TracedSpan:
    """Part of a step's inputs: tokens `start` to `start + length` of a document (counted from its first) in a row.

    `row` counts the rows of the batch, `column` is where the part begins in it, `source` is the mixture's name.
    """

    row: int
    document: TokenDocument
    start: int
    length: int
    column: int = 0
    source: str = ""


@dataclass(frozen=True)
class Served:
    """What a run has served of a source: rows, input tokens in them, how often all its rows came, and the share of the
    positions of its rows that hold no token."""

    source: str
    rows: int
    tokens: int
    epochs: float
    wasted: float

    def as_json(self) -> dict[str, object]:
        """Without the name."""
        epochs, wasted = round(self.epochs, 4), round(self.wasted, 5)
        return {"rows": self.rows, "tokens": self.tokens, "epochs": epochs, "wasted": wasted}


class RunRows:
    """The plan of a run; `row(g)`, `trace(step)`, `served(steps)`, `document_counts(...)`, `steps_of(...)`."""

    def __init__(self, sources: Sequence[RunSource], seq_len: int, batch_rows: int, seed: int, mixing: Mixing) -> None:
        """Raises DataError when a source has not one row, or max_repetition leaves it none."""
        assert sources and seq_len > 0 and batch_rows > 0
        self.sources, self.seq_len, self.batch_rows = list(sources), seq_len, batch_rows
        self.packing = mixing.packing
        self.layouts = [
            make_layout(mixing.packing, source.split, seq_len, seed, number) for number, source in enumerate(sources)
        ]
        pairs = zip(self.layouts, sources, strict=True)
        shares = [Share(layout.num_rows, source.weight, source.max_repetition) for layout, source in pairs]
        for source, share in zip(sources, shares, strict=True):
            if share.cap == 0:
                what = f"max_repetition {source.max_repetition:g} of {share.windows} rows is not one row"
                hint = f"raise data.sources.N.max_repetition of {source.name}, or give more text"
                raise DataError(what, source.split.path, hint)
        stages = [Stage(stage.start_step * batch_rows, stage.weights) for stage in mixing.stages]
        self.mixture = Mixture(shares, stages)

    @property
    def num_rows(self) -> int:
        """Rows of one epoch of all sources together."""
        return sum(layout.num_rows for layout in self.layouts)

    @property
    def max_steps(self) -> int | None:
        """Steps until max_repetition has used up all sources; None without such a limit."""
        rows = self.mixture.num_rows
        return None if rows is None else rows // self.batch_rows

    def step(self, step: int) -> list[RowContent]:
        """The rows of a step (from 0).

        Raises:
            DataError: max_repetition has used up the sources.
        """
        found = self.mixture.locate_many(step * self.batch_rows, self.batch_rows)
        if len(found) < self.batch_rows:
            what = f"step {step} is beyond the data: max_repetition ends it after {self.max_steps} steps"
            raise DataError(what, hint="raise data.sources.N.max_repetition (N from 0), lower the steps or add sources")
        rows = []
        for source, before in found:
            layout = self.layouts[source]
            rows.append(RowContent(source, layout.row(*divmod(before, layout.num_rows))))
        return rows

    def trace(self, step: int) -> list[TracedSpan]:
        """The documents behind the inputs of a step's batch, row by row."""
        spans = []
        for number, row in enumerate(self.step(step)):
            source, column = self.sources[row.source], 0
            for start, count in row.pieces:
                inputs = min(count, self.seq_len - column)
                for document, first, length in _spans(source.split, start, inputs):
                    spans.append(TracedSpan(number, document, first, length, column, source.name))
                    column += length
        return spans

    def served(self, steps: int, left_out: Sequence[int] = ()) -> list[Served]:
        """Exact counts after the first `steps` steps, without those (from 0) that were left out, a source each."""
        found = []
        used = self.mixture.used(steps * self.batch_rows)
        gone = [row for step in left_out for row in self.step(step)]
        for number, (source, layout, rows) in enumerate(zip(self.sources, self.layouts, used, strict=True)):
            epochs, rest = divmod(rows, layout.num_rows)
            tokens = epochs * int(layout.inputs(0, layout.num_rows)[1].sum()) if epochs else 0
            tokens += int(layout.inputs(epochs, rest)[1].sum()) if rest else 0
            unseen = [row for row in gone if row.source == number]
            rows -= len(unseen)
            tokens -= sum(min(sum(count for _, count in row.pieces), self.seq_len) for row in unseen)
            found.append(Served(source.name, rows, tokens, rows / layout.num_rows, layout.wasted))
        return found

    def document_counts(self, source: int, steps: int) -> NDArray[np.int64]:
        """In how many rows of the first `steps` steps each document of a source stands (documents,).

        Time and memory grow with the rows of an epoch and the number of epochs.
        """
        layout, split = self.layouts[source], self.sources[source].split
        rows = self.mixture.used(steps * self.batch_rows)[source]
        change = np.zeros(split.num_documents + 1, dtype=np.int64)
        for epoch in range(-(-rows // layout.num_rows)):
            starts, lengths = layout.inputs(epoch, min(layout.num_rows, rows - epoch * layout.num_rows))
            np.add.at(change, np.searchsorted(split.starts, starts, side="right") - 1, 1)
            np.add.at(change, np.searchsorted(split.starts, starts + lengths - 1, side="right"), -1)
        return np.cumsum(change[:-1])

    def steps_of(self, source: int, document: int, steps: int) -> list[int]:
        """The steps (from 0) of the first `steps` that had a document as input, rising; one more for each row more."""
        layout, split = self.layouts[source], self.sources[source].split
        rows = self.mixture.used(steps * self.batch_rows)[source]
        start, stop = int(split.starts[document]), int(split.starts[document + 1])
        found = []
        for epoch in range(-(-rows // layout.num_rows)):
            for place in layout.places(epoch, start, stop).tolist():
                before = epoch * layout.num_rows + place
                row = self.mixture.row_of(source, before) if before < rows else None
                if row is not None:
                    found.append(row // self.batch_rows)
        return sorted(found)


def _spans(split: TokenSplit, start: int, count: int) -> Iterator[tuple[TokenDocument, int, int]]:
    """(document, first token inside it, tokens) of positions start to start + count - 1."""
    stop = min(start + count, split.num_tokens)
    while start < stop:
        document = split.document(split.document_at(start))
        end = min(stop, document.start + document.length)
        yield document, start - document.start, end - start
        start = end
