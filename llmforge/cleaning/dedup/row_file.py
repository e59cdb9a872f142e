"""Rows of numbers in a file, read as they are asked for.

Not mapped: the pages of a mapped file count as the process's own memory, 500 bytes a document for signatures, and stay
until the machine wants them back.
"""

from __future__ import annotations

import os
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

        if isinstance(rows, int):
            values = np.frombuffer(self._row(rows), dtype=np.uint32)
            count = self.width
        else:
            first, last, _ = rows.indices(self.rows)
            count = max(0, last - first) * self.width
            place = self.offset + 4 * first * self.width
            values = np.fromfile(self.path, np.uint32, count, offset=place) if count else np.empty(0, np.uint32)
        if len(values) != count:
            raise DamagedError("is shorter than it was", self.path, "run the command again")
        return values if isinstance(rows, int) else values.reshape(-1, self.width)

    def _row(self, row: int) -> bytes:
        """The bytes of one row, in a fifth of the time that np.fromfile takes for it."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            found = os.pread(handle, 4 * self.width, self.offset + 4 * row * self.width)
        finally:
            os.close(handle)
        return found[: len(found) // 4 * 4]
