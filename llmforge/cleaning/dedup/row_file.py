"""Rows of numbers in a file, read as they are asked for.

Not mapped: the pages of a mapped file count as the process's own memory, 500 bytes a document for signatures, and stay
until the machine wants them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmforge.errors import DamagedError


@dataclass(frozen=True, slots=True)
class RowFile:
    """(`rows`, `width`) uint32 in a file, behind `offset` bytes; a row or a slice of rows is read by one call."""

    path: Path
    rows: int
    width: int
    offset: int = 0

    def __len__(self) -> int:
        return self.rows

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, width)."""
        return self.rows, self.width

    def __getitem__(self, rows: int | slice) -> Any:
        """(width,) of one row, or (rows, width) of a slice without a step.

        Raises:
            DamagedError: the file has become shorter.
        """
        import numpy as np

        first, last, _ = (rows, rows + 1, 1) if isinstance(rows, int) else rows.indices(self.rows)
        count = max(0, last - first) * self.width
        place = self.offset + 4 * first * self.width
        values = np.fromfile(self.path, dtype=np.uint32, count=count, offset=place) if count else np.empty(0, np.uint32)
        if len(values) != count:
            raise DamagedError("is shorter than it was", self.path, "run the command again")
        return values if isinstance(rows, int) else values.reshape(-1, self.width)
