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
_NO_VALUE = (ValueError, OverflowError, LookupError)  # broken UTF-8, a year beyond 9999, an unknown time zone

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
        DataError: the file has no good footer or is a bomb; or, behind the rows of all other row groups, one has a
            damaged page.
    """
    fault: DataError | None = None
    with _opened(what, where) as file:
        for group in range(file.num_row_groups) if groups is None else groups:
            try:
                yield from _group_rows(file, group, where, first)
            except DataError as error:
                fault = fault or error
            first += file.metadata.row_group(group).num_rows
    if fault is not None:
        raise fault


def _group_rows(file: Any, group: int, where: str, first: int) -> Iterator[Row]:
    number = first - 1
    batches = file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group])
    while True:
        with _faults(f"{where}:{number + 1}"):
            batch = next(batches, None)
        if batch is None:
            return
        for number, fields in enumerate(_fields(batch), number + 1):  # noqa: B020 - it goes on counting
            yield number, fields if isinstance(fields, dict) else BadRow(f"{where}:{number}", fields, 0)


def _fields(batch: Any) -> list[dict[str, object] | str]:
    """The rows of a batch with values of Python; of a row that Python has no values for, why."""
    import pyarrow as pa

    plain = pa.schema([field.with_type(_without_nanoseconds(field.type)) for field in batch.schema])
    try:
        if plain != batch.schema:
            batch = pa.Table.from_batches([batch]).cast(plain, safe=False)
        return batch.to_pylist()  # type: ignore[no-any-return]
    except _NO_VALUE:
        return [_one_row(batch.slice(place, 1)) for place in range(batch.num_rows)]


def _one_row(batch: Any) -> dict[str, object] | str:
    try:
        return batch.to_pylist()[0]  # type: ignore[no-any-return]
    except _NO_VALUE as error:
        return f"it has a value that cannot be read ({error})"


def _without_nanoseconds(kind: Any) -> Any:
    """The type with times in microseconds: those of Python are no finer, and pyarrow asks for pandas to make others."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_nanoseconds(field.type)) for field in kind.fields])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_nanoseconds(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_nanoseconds(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, kind.item_field.with_type(_without_nanoseconds(kind.item_type)))
    return kind


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
