"""The documents of a split that carry one of some labels, as a split of their own: one stream, in the split's order.

A document keeps its id, so a step of training still leads to it; its place is counted in the selection's stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmforge.errors import DataError
from llmforge.tokens.folder import TokenDocument, TokenSplit

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SelectedDocuments(TokenSplit):
    """A split seen through its documents' labels; nothing is copied or read into memory."""

    def __init__(self, split: TokenSplit, chosen: NDArray[np.int64]) -> None:
        """`chosen` are numbers of documents of the split, rising."""
        self.name, self.vocab_size, self.path = split.name, split.vocab_size, split.path
        self.source_names, self.label_names = split.source_names, split.label_names
        self._split, self._chosen = split, chosen
        lengths = np.diff(split.starts)[chosen]
        self.starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        self.document_sources = split.document_sources[chosen]
        self.document_labels = split.document_labels[chosen]
        self.text_bytes = split.text_bytes[chosen]
        self.num_documents, self.num_tokens = len(chosen), int(self.starts[-1])
        # runs of documents that follow each other in the split, too: where each begins here and there
        first = np.flatnonzero(np.diff(chosen, prepend=-2) != 1)
        self._runs_here, self._runs_there = self.starts[first], split.starts[chosen[first]]

    @property
    def token_bytes_total(self) -> int:
        """Bytes of the documents' texts."""
        return int(self.text_bytes.sum())

    def stream(self, start: int, count: int) -> NDArray[np.int64]:
        """`count` ids from position `start` on (fewer at the end).

        Raises:
            DamagedError: an id lies beyond the vocabulary.
        """
        stop = min(start + count, self.num_tokens)
        parts = [np.zeros(0, dtype=np.int64)]
        while start < stop:
            run = int(np.searchsorted(self._runs_here, start, side="right")) - 1
            end = int(self._runs_here[run + 1]) if run + 1 < len(self._runs_here) else self.num_tokens
            place = int(self._runs_there[run]) + start - int(self._runs_here[run])
            parts.append(self._split.stream(place, min(stop, end) - start))
            start = min(stop, end)
        return np.concatenate(parts)

    def document(self, number: int) -> TokenDocument:
        """A document by its number in the selection."""
        assert 0 <= number < self.num_documents, "a document outside the selection"
        found = self._split.document(int(self._chosen[number]))
        start = int(self.starts[number])
        return TokenDocument(found.id, found.source, start, found.length, found.text_bytes, found.label)


def select(split: TokenSplit, labels: Sequence[str]) -> TokenSplit:
    """The split's documents with one of these labels ("" stands for documents without one).

    Raises:
        DataError: there is none; the line names the labels that there are.
    """
    numbers = [at for at, name in enumerate(split.label_names) if name in labels]
    chosen = np.flatnonzero(np.isin(split.document_labels, numbers))
    if not len(chosen):
        there = sorted({split.label_names[at] for at in np.unique(split.document_labels)} - {""})
        have = f"its labels are {', '.join(there[:12])}" if there else "none has a label"
        what = f"no document of the split `{split.name}` is labelled {' or '.join(labels)}: {have}"
        raise DataError(what, split.path, "give clean a classifier (classify), or change data.sources.label")
    return SelectedDocuments(split, chosen)
