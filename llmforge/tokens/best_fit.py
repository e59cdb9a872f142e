"""Pieces of different lengths -> rows of one capacity, by best fit with the longest first, millions in a second.

Each piece goes into the fullest row that still has room (https://en.wikipedia.org/wiki/Best-fit_bin_packing;
https://arxiv.org/abs/2404.10830 uses it for pre-training). Pieces of one length and rows with one room are
interchangeable, so they are placed in groups; the rows are as many as piece by piece. Knows no tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class _OpenRows:
    """Rows that have room left, by their room."""

    def __init__(self, capacity: int) -> None:
        self._rows: list[list[NDArray[np.int64]]] = [[] for _ in range(capacity + 1)]
        self._rooms = 0  # bit r is set while a row with room r is open

    def smallest(self, least: int) -> int | None:
        """The smallest room of at least `least`."""
        fitting = self._rooms >> least
        return (fitting & -fitting).bit_length() - 1 + least if fitting else None

    def take(self, room: int, most: int) -> NDArray[np.int64]:
        """At most `most` of the rows with this room, which are no longer open."""
        rows = np.concatenate(self._rows[room])
        taken, kept = rows[:most], rows[most:]
        self._rows[room] = [kept] if len(kept) else []
        if not len(kept):
            self._rooms &= ~(1 << room)
        return taken

    def put(self, rows: NDArray[np.int64], room: int) -> None:
        """Opens rows with a room; those without any stay closed."""
        if room and len(rows):
            self._rows[room].append(rows)
            self._rooms |= 1 << room


def best_fit(lengths: NDArray[np.int64], capacity: int, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each piece, rows counted from 0.

    `lengths` (pieces,) lie in 1 to `capacity`; `order` (a permutation) says which of those of one length comes first:
    another order gives other rows, but as many and as full ones.
    """
    assert len(lengths) == 0 or (int(lengths.min()) > 0 and int(lengths.max()) <= capacity)
    row_of = np.zeros(len(lengths), dtype=np.int64)
    listed = order[np.argsort(-lengths[order], kind="stable")]
    sizes, counts = np.unique(lengths, return_counts=True)
    opened, used, begin = _OpenRows(capacity), 0, 0
    for length, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        end = begin + count
        while begin < end:
            room = opened.smallest(length)
            # Whoever fits twice fits the same row twice: after the first it is the fullest with room.
            many = (capacity if room is None else room) // length
            wanted = -(-(end - begin) // many)
            if room is None:
                room, rows = capacity, np.arange(used, used + wanted)
                used += wanted
            else:
                rows = opened.take(room, wanted)
            placed = min(end - begin, len(rows) * many)
            row_of[listed[begin : begin + placed]] = np.repeat(rows, many)[:placed]
            whole, rest = divmod(placed, many)
            opened.put(rows[:whole], room - many * length)
            opened.put(rows[whole:], room - rest * length)
            begin += placed
    return row_of
