"""A Parquet file, plain or packed in gzip or zstd, to rows, a small batch at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from llmforge.corpus.compressed import FREE_BYTES, MAX_RATIO, compression_of, open_bytes
from llmforge.corpus.document import BadRow
from llmforge.errors import DataError

BATCH_ROWS = 256

Row = tuple[int, "dict[str, object] | BadRow"]


def read_parquet(path: Path, where: str) -> Iterator[Row]:
    """(row number from 1, fields). DataError for a file without a good footer, a damaged page or a bomb."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _seekable(path, where) as stream:
        number = 0
        try:
            with pq.ParquetFile(stream) as file:
                _refuse_bomb(file.metadata, path.stat().st_size, where)
                for batch in file.iter_batches(batch_size=BATCH_ROWS):
                    for fields in batch.to_pylist():
                        number += 1
                        yield number, fields
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            hint = "copy or download it again"
            raise DataError(f"is not a whole Parquet file ({reason})", f"{where}:{number + 1}", hint) from None


def _refuse_bomb(metadata: Any, size: int, where: str) -> None:
    declared = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if declared > max(FREE_BYTES * 16, MAX_RATIO * size):
        raise DataError(f"declares {declared} bytes in a file of {size}, as an archive bomb does", where)


def _seekable(path: Path, where: str) -> BinaryIO:
    stream = open_bytes(path, where)
    if compression_of(path) is None:
        return stream
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with stream:
        while chunk := stream.read(1 << 20):
            unpacked.write(chunk)
    unpacked.seek(0)
    return unpacked
