"""Rows of text as a table of aligned columns for the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

GAP = "  "


def width(text: str) -> int:
    """The columns that a text takes in a terminal: wide characters take two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(unicodedata.combining(sign) > 0 for sign in text)


def _padded(text: str, columns: int, right: bool) -> str:
    space = " " * (columns - width(text))
    return space + text if right else text + space


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: Sequence[int] = ()) -> list[str]:
    """Lines of a table; the columns numbered in `right` (from 0) are aligned to the right, as numbers are."""
    everything = [*([header] if header else []), *rows]
    if not everything:
        return []
    count = max(len(row) for row in everything)
    cells = [[*row, *[""] * (count - len(row))] for row in everything]
    widths = [max(width(row[column]) for row in cells) for column in range(count)]
    lines = [
        GAP.join(_padded(cell, widths[column], column in right) for column, cell in enumerate(row)).rstrip()
        for row in cells
    ]
    if header:
        lines.insert(1, GAP.join("─" * columns for columns in widths))
    return lines
