"""Signatures to the buckets that documents share, band by band, by way of a file: memory holds one band of them.

A bucket is what several documents with the same hashes in a band have in common; only those count in which one of the
documents is new.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmforge.cleaning.dedup.row_file import RowFile
from llmforge.runtime.files import disk_errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.uint32]  # (documents, bands * rows)
    Signatures = Rows | RowFile

NO_HASH = 0xFFFFFFFF  # all of the signature of a text without words
_KEY_BYTES = 16 << 20  # of the bands' keys held at once
_BLOCK_ROWS = 1 << 13  # signatures, or documents' buckets, read at once


def _band_keys(parts: Sequence[Signatures], bands: range, rows: int) -> tuple[Any, Any]:
    """For these bands: (bands, documents) 64-bit keys, and the mask of those that have words."""
    import numpy as np

    count = sum(map(len, parts))
    keys = np.zeros((len(bands), count), dtype=np.uint64)
    has_words = np.empty(count, dtype=bool)
    done = 0
    for part in parts:
        for start in range(0, len(part), _BLOCK_ROWS):
            block = part[start : start + _BLOCK_ROWS][:, bands.start * rows : bands.stop * rows]
            columns = block.reshape(len(block), len(bands), rows)
            found = np.zeros((len(bands), len(block)), dtype=np.uint64)
            for column in range(rows):
                found = (found ^ (found >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + columns[:, :, column].T
            keys[:, done : done + len(block)] = found
            has_words[done : done + len(block)] = (block != NO_HASH).any(axis=1)
            done += len(block)
    return keys, has_words


def _shared(keys: Any, numbers: Any, new: int) -> tuple[Any, Any, int]:
    """Of one band's keys of the documents `numbers`: those that share a bucket, its number from 1, and the count."""
    import numpy as np

    order = np.argsort(keys)
    keys, documents = keys[order], numbers[order]
    is_new = np.ones(len(keys), dtype=bool)
    is_new[1:] = keys[1:] != keys[:-1]
    group = np.cumsum(is_new, dtype=np.uint32) - np.uint32(1)
    sizes = np.bincount(group)
    shared = (sizes > 1) & (np.bincount(group[documents < new], minlength=len(sizes)) > 0)
    chosen = shared[group] if len(group) else np.zeros(0, dtype=bool)
    number = np.cumsum(shared, dtype=np.uint32)
    return documents[chosen], number[group[chosen]], int(np.count_nonzero(shared))


class SharedBuckets:
    """The buckets that each document shares, in a file of 4 bytes a document and band; a context manager.

    `count` is how many buckets there are, `members` the mask of the documents that share one.

    Args:
        parts: the signatures, one part behind the other; the new documents' part first.
        staying: (new documents,) False for those that are left out.
        ranks: (documents,) the place of each in the order in which `in_order` goes through them.
        shape: bands, and rows of each.
        folder: where the file lies until then; None: the system's place for such files.
    """

    def __init__(
        self, parts: Sequence[Signatures], staying: Any, ranks: Any, shape: tuple[int, int], folder: Path | None
    ) -> None:
        import numpy as np

        self._bands, rows = shape
        self._ranks = ranks
        total = len(ranks)
        self.count = 0
        self.members = np.zeros(total, dtype=bool)
        self._folder = folder or Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by the context)
        at_once = max(1, _KEY_BYTES // (8 * max(1, total)))
        for first in range(0, self._bands, at_once):
            bands = range(first, min(first + at_once, self._bands))
            all_keys, has_words = _band_keys(parts, bands, rows)
            has_words[: len(staying)] &= staying
            numbers = np.flatnonzero(has_words).astype(np.uint32)
            for keys in all_keys:
                self._add(*_shared(keys[numbers], numbers, len(staying)))

    def _add(self, documents: Any, buckets: Any, count: int) -> None:
        import numpy as np

        column = np.zeros(len(self._ranks), dtype=np.uint32)
        column[self._ranks[documents]] = buckets + np.uint32(self.count)
        self.members[documents] = True
        self.count += count
        with disk_errors(self._folder):
            self._file.write(column.data)

    def in_order(self) -> Iterator[tuple[int, list[int]]]:
        """(document, its buckets from 0) by rank, of those that share any."""
        import numpy as np

        total = len(self._ranks)
        order = np.empty_like(self._ranks)
        order[self._ranks] = np.arange(total, dtype=order.dtype)
        for first in range(0, total, _BLOCK_ROWS):
            size = min(_BLOCK_ROWS, total - first)
            matrix = np.empty((self._bands, size), dtype=np.uint32)
            for band in range(self._bands):
                self._file.seek(4 * (band * total + first))
                self._file.readinto(matrix[band].data)
            for place in np.flatnonzero(matrix.any(axis=0)).tolist():
                own = matrix[:, place]
                yield int(order[first + place]), (own[own > 0] - np.uint32(1)).tolist()

    def __enter__(self) -> SharedBuckets:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
