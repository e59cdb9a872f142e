"""Where each tensor lies in a safetensors file, by its header alone: names for bytes, bytes for names.

The format (https://huggingface.co/docs/safetensors): 8 bytes with the header's length as little-endian uint64, the
header as JSON ({name: {dtype, shape, data_offsets}}), then the tensors' bytes one behind the other. Loads no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from llmforge.errors import DamagedError

_LENGTH = 8
_HEADER_MAX = 100 << 20  # as the reference implementation has it
ITEM_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
ITEM_BYTES |= {"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}


@dataclass(frozen=True)
class TensorSpan:
    """A tensor's name, dtype and shape, and its bytes `start` to `stop` (exclusive) of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def element_at(self, byte: int) -> int:
        """The number of the element, in row-major order, that holds a byte of the file."""
        return (byte - self.start) // ITEM_BYTES.get(self.dtype, 1)


def read_spans(path: Path) -> list[TensorSpan]:
    """All tensors of a file in the order of their bytes.

    Raises:
        DamagedError: the header is no safetensors header, or names bytes that the file has not; the line says which.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH), "little")
        if size < _LENGTH or length > min(_HEADER_MAX, size - _LENGTH):
            what = f"bytes 0-7 give a header of {length:,} bytes, in a file of {size:,}"
            raise DamagedError(what, path, "get or make the file anew")
        raw = stream.read(length)
    first = _LENGTH + length
    try:
        body = json.loads(raw)
        body.pop("__metadata__", None)
        spans = [
            TensorSpan(name, str(entry["dtype"]), tuple(map(int, entry["shape"])), *_offsets(entry, first))
            for name, entry in body.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"the header in bytes {_LENGTH}-{first - 1} is not that of safetensors"
        raise DamagedError(what, path, "get or make the file anew") from error
    for span in spans:
        if not first <= span.start <= span.stop <= size:
            what = f"{span.name} would lie in bytes {span.start}-{span.stop - 1}, the file has {size:,}"
            raise DamagedError(what, path, "get or make the file anew")
    return sorted(spans, key=lambda span: span.start)


def _offsets(entry: dict[str, list[int]], first: int) -> tuple[int, int]:
    start, stop = entry["data_offsets"]
    return first + int(start), first + int(stop)
