"""A Parquet file, plain or packed, to rows, a small batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llmforge.corpus.compressed import FREE_BYTES, MAX_RATIO, Readable, open_seekable
from llmforge.corpus.document import BadRow
from llmforge.errors import DataError

BATCH_ROWS = 256

Row = tuple[int, "dict[str, object] | BadRow"]


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group: how many rows it has, its bytes unpacked and its bytes in the file."""

    rows: int
    bytes: int
    packed: int


def read_parquet(what: Readable, where: str, groups: tuple[int, ...] | None = None, first: int = 1) -> Iterator[Row]:
    """(row number, fields) of all row groups, or of `groups`, whose first row has the number `first`.

    Raises:
        DataError: the file has no good footer, a damaged page, or is a bomb.
    """
    number = first - 1
    with _opened(what, where) as file:
        batches = file.iter_batches(batch_size=BATCH_ROWS, row_groups=None if groups is None else list(groups))
        while True:
            with _faults(f"{where}:{number + 1}"):
                batch = next(batches, None)
                rows = batch.to_pylist() if batch is not None else None
            if rows is None:
                return
            for fields in rows:
                number += 1
                yield number, fields


def row_groups(what: Readable, where: str) -> list[RowGroup]:
    """The file's row groups in order, from its footer alone.

    Raises:
        DataError: the file has no good footer or is a bomb.
    """
    with _opened(what, where) as file:
        metadata = file.metadata
        found = []
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            packed = sum(group.column(place).total_compressed_size for place in range(group.num_columns))
            found.append(RowGroup(group.num_rows, group.total_byte_size, packed))
        return found


@contextmanager
def _opened(what: Readable, where: str) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with open_seekable(what, where) as stream:
        with _faults(f"{where}:1"):
            file = pq.ParquetFile(stream)
        with file:
            _refuse_bomb(file.metadata, len(what) if isinstance(what, bytes) else what.stat().st_size, where)
            yield file


@contextmanager
def _faults(where: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"is not a whole Parquet file ({reason})", where, "copy or download it again") from None


def _refuse_bomb(metadata: Any, size: int, where: str) -> None:
    declared = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if declared > max(FREE_BYTES * 16, MAX_RATIO * size):
        raise DataError(f"declares {declared} bytes in a file of {size}, as an archive bomb does", where)
