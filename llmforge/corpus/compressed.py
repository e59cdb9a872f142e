"""A file, plain or compressed by gzip or zstd, to a buffered stream of its bytes with bounded memory.

A bomb is refused by its ratio (real text seldom shrinks more than 30 times), a cut or damaged archive by name; both as
DataError. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from llmforge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
MAX_RATIO = 200  # unpacked bytes per packed byte
FREE_BYTES = 64 << 20  # a small file may unpack to this much whatever its ratio
MAX_WINDOW_BYTES = 128 << 20  # what a zstd frame may ask the decoder to hold
ZSTD_INPUT_BYTES = 2 << 10  # a zstd block of 4 bytes can unpack to 128 KiB, so a step takes few bytes in
BUFFER_BYTES = 1 << 20


def compression_of(path: Path) -> str | None:
    """ "gzip", "zstd" or None, by the last suffix."""
    return COMPRESSIONS.get(path.suffix.lower())


def open_bytes(path: Path, where: str | None = None) -> BinaryIO:
    """The unpacked bytes of `path`; errors name it as `where`. Reading raises DataError on damage and on bombs."""
    name = where or path.name
    if not path.is_file():
        raise DataError("is not a regular file" if path.exists() else "does not exist", name)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", name) from error
    kind = compression_of(path)
    if kind is None:
        return raw
    read = gzip.GzipFile(fileobj=raw).read if kind == "gzip" else _ZstdSource(raw, name).read
    limit = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
    return io.BufferedReader(_BoundedStream(raw, read, limit, name), BUFFER_BYTES)


class _ZstdSource:
    """Reads the frames of a zstd file one after another; a frame without its end is an EOFError."""

    def __init__(self, raw: BinaryIO, name: str) -> None:
        import zstandard

        self._decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._raw = raw
        self._name = name
        self._frame: Any = None
        self._left = b""  # input behind the last frame's end
        self._pending = b""

    def read(self, size: int) -> bytes:
        while not self._pending:
            data = self._left or self._raw.read(ZSTD_INPUT_BYTES)
            self._left = b""
            if not data:
                if self._frame is not None:
                    raise EOFError
                return b""
            if self._frame is None:
                self._frame = self._decoder.decompressobj()
            self._pending = self._frame.decompress(data)
            if self._frame.eof:
                self._left = self._frame.unused_data
                self._frame = None
        out, self._pending = self._pending[:size], self._pending[size:]
        return out


class _BoundedStream(io.RawIOBase):
    """Counts what comes out of `read` and stops at `limit` bytes."""

    def __init__(self, raw: BinaryIO, read: Callable[[int], bytes], limit: int, name: str) -> None:
        self._raw = raw
        self._read = read
        self._limit = limit
        self._name = name
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data = self._next(len(view))
        view[: len(data)] = data
        self._count += len(data)
        if self._count > self._limit:
            reason = f"unpacks to more than {MAX_RATIO} times its size, as an archive bomb does"
            raise DataError(reason, self._name, "unpack it yourself if it is what you want")
        return len(data)

    def _next(self, size: int) -> bytes:
        import zstandard

        try:
            return self._read(size)
        except EOFError:
            raise DataError("is cut short: the archive has no end", self._name, "copy or download it again") from None
        except (zlib.error, gzip.BadGzipFile, zstandard.ZstdError, OSError) as error:
            raise DataError(f"is a damaged archive ({error})", self._name, "copy or download it again") from None

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
