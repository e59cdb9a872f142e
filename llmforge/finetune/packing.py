"""Conversations of different lengths -> rows of one length, with as little padding as can be had quickly.

Best fit, longest first: each conversation goes into the fullest row that still has room
(https://en.wikipedia.org/wiki/Best-fit_bin_packing). How many rows come out depends on the lengths alone, not on the
order, so every epoch has as many rows as the first. Knows no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int, order: Sequence[int] | None = None) -> list[list[int]]:
    """Indexes of `lengths` in rows whose sums are at most `capacity`; each index stands in exactly one row.

    `order` (a permutation) says who of those of one length comes first; the same order gives the same rows.
    """
    assert all(0 < length <= capacity for length in lengths), "what does not fit is cut or left out before"
    listed = range(len(lengths)) if order is None else order
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]  # by room left: row numbers
    rooms = 0  # bit r is set while a row with room r is open
    for index in sorted(listed, key=lambda index: -lengths[index]):
        need = lengths[index]
        fitting = rooms >> need
        if fitting:
            room = (fitting & -fitting).bit_length() - 1 + need
            row = open_rows[room].pop()
            rooms &= ~(1 << room) if not open_rows[room] else -1
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        left = room - need
        if left:
            open_rows[left].append(row)
            rooms |= 1 << left
    return rows
