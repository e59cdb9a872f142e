"""Columns of a Parquet file from plain values and back, by their buffers.

pyarrow's own conversions (`pa.array`, `to_numpy`) load pandas to look whether a value is one of its, which takes longer
than a small run of clean. Layouts: https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any


def strings(values: Sequence[str | None]) -> Any:
    """An Arrow array of text; None becomes null."""
    import numpy as np
    import pyarrow as pa

    encoded = [b"" if value is None else value.encode() for value in values]
    offsets = np.fromiter(accumulate(map(len, encoded), initial=0), dtype=np.int32, count=len(encoded) + 1)
    known = np.fromiter((value is not None for value in values), dtype=bool, count=len(encoded))
    buffers = [_bits(known), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def string_lists(values: Sequence[Sequence[str]]) -> Any:
    """An Arrow array of lists of text."""
    import numpy as np
    import pyarrow as pa

    ends = np.fromiter(accumulate(map(len, values), initial=0), dtype=np.int32, count=len(values) + 1)
    inner = strings([name for names in values for name in names])
    kind = pa.list_(pa.string())
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(ends)], children=[inner])


def numbers(values: Any, known: Any = None) -> Any:
    """An Arrow array of a NumPy array of int64 or float64; null where the mask `known` is False."""
    import numpy as np
    import pyarrow as pa

    kind = pa.int64() if values.dtype == np.int64 else pa.float64()
    buffers = [None if known is None else _bits(known), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _bits(known: Any) -> Any:
    """The mask as Arrow has it; None where nothing is null."""
    import numpy as np
    import pyarrow as pa

    return None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))


def as_numpy(column: Any, dtype: str) -> Any:
    """A chunked column of numbers of this type as one array; of floats null becomes NaN."""
    import numpy as np

    found = [np.empty(0, dtype=dtype)]
    for chunk in column.chunks:
        validity, data = chunk.buffers()
        first, last = chunk.offset, chunk.offset + len(chunk)
        values = np.frombuffer(data, dtype=dtype, count=last)[first:] if len(chunk) else found[0]
        if chunk.null_count:
            known = np.unpackbits(np.frombuffer(validity, dtype=np.uint8), count=last, bitorder="little")[first:]
            values = np.where(known == 1, values, np.nan)
        found.append(values)
    return np.concatenate(found)
