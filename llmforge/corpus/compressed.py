"""A file, plain or compressed (gzip, zstd, xz, bzip2), to a buffered stream of its bytes with bounded memory.

A bomb is refused by its ratio (real text seldom shrinks more than 30 times), a cut or damaged archive by name; both as
DataError. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import gzip
import io
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

from llmforge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

COMPRESSIONS = {
    ".gz": "gzip",
    ".tgz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".tzst": "zstd",
    ".xz": "xz",
    ".txz": "xz",
    ".bz2": "bzip2",
    ".tbz2": "bzip2",
}
MAX_RATIO = 200  # unpacked bytes per packed byte
FREE_BYTES = 64 << 20  # a small file may unpack to this much whatever its ratio
MAX_WINDOW_BYTES = 128 << 20  # what a zstd frame or an xz stream may ask the decoder to hold
ZSTD_INPUT_BYTES = 2 << 10  # a zstd block of 4 bytes can unpack to 128 KiB, so a step takes few bytes in
INPUT_BYTES = 64 << 10
BUFFER_BYTES = 1 << 20

Readable = Path | bytes  # a file, or the unpacked bytes of one that lies in an archive


def compression_of(path: PurePath) -> str | None:
    """ "gzip", "zstd", "xz", "bzip2" or None, by the last suffix."""
    return COMPRESSIONS.get(path.suffix.lower())


def open_bytes(what: Readable, where: str | None = None) -> BinaryIO:
    """The unpacked bytes of `what`; errors name it as `where`. Reading raises DataError on damage and on bombs."""
    if isinstance(what, bytes):
        return io.BytesIO(what)
    name = where or what.name
    if not what.is_file():
        raise DataError("is not a regular file" if what.exists() else "does not exist", name)
    try:
        raw = what.open("rb")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", name) from error
    kind = compression_of(what)
    return raw if kind is None else unpacked(raw, kind, what.stat().st_size, name)


def unpacked(raw: BinaryIO, kind: str, size: int, name: str) -> BinaryIO:
    """The bytes that `raw`, a stream of `size` bytes packed as `kind`, unpacks to; `raw` is closed with it."""
    limit = max(FREE_BYTES, MAX_RATIO * size)
    return io.BufferedReader(_BoundedStream(raw, _reader(raw, kind), limit, name), BUFFER_BYTES)


def bytes_taken(stream: BinaryIO) -> int:
    """How many bytes on disk have been read of a stream from `open_bytes`."""
    inner = getattr(stream, "raw", None)
    return inner.taken() if isinstance(inner, _BoundedStream) else stream.tell()


def open_seekable(what: Readable, where: str) -> BinaryIO:
    """As `open_bytes`, and can be read from any place: what is compressed goes through a file that has no name."""
    stream = open_bytes(what, where)
    if isinstance(what, bytes) or compression_of(what) is None:
        return stream
    spooled = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with stream:
        while chunk := stream.read(BUFFER_BYTES):
            spooled.write(chunk)
    spooled.seek(0)
    return spooled


def blocks_of(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The rest of a buffered stream in blocks of `size` bytes; what comes before a damage is given before that is told.

    Raises:
        DataError: the stream is damaged.
    """
    held: list[bytes] = []
    length = 0
    while True:
        try:
            # `read` would lose what it has when the next step fails.
            data = stream.read1(size - length)  # type: ignore[attr-defined]
        except DataError:
            if held:
                yield b"".join(held)
            raise
        held.append(data)
        length += len(data)
        if length == size or not data:
            if length:
                yield b"".join(held) if len(held) > 1 else data
            if not data:
                return
            held, length = [], 0


def read_whole(what: Readable, where: str, limit: int) -> bytes | None:
    """All bytes, or None when there are more than `limit`."""
    with open_bytes(what, where) as stream:
        data = stream.read(limit + 1)
    return data if len(data) <= limit else None


def _reader(raw: BinaryIO, kind: str) -> Callable[[int], bytes]:
    if kind == "gzip":
        inner = gzip.GzipFile(fileobj=raw)
        return lambda size: inner.read1(min(size, INPUT_BYTES))  # `read` would lose what comes before a damage
    if kind == "zstd":
        return _ZstdSource(raw).read
    if kind == "xz":
        # The limit counts what the decoder needs beside the window too.
        return _StreamSource(raw, lambda: lzma.LZMADecompressor(memlimit=MAX_WINDOW_BYTES + (16 << 20))).read
    import bz2

    return _StreamSource(raw, bz2.BZ2Decompressor).read


class _ZstdSource:
    """Reads the frames of a zstd file one after another; a frame without its end is an EOFError."""

    def __init__(self, raw: BinaryIO) -> None:
        import zstandard

        self._decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._raw = raw
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


class _StreamSource:
    """Reads the streams of an xz or bzip2 file one after another; one without its end is an EOFError."""

    def __init__(self, raw: BinaryIO, new_decoder: Callable[[], Any]) -> None:
        self._raw = raw
        self._new_decoder = new_decoder
        self._decoder: Any = None
        self._left = b""

    def read(self, size: int) -> bytes:
        while True:
            data = self._left
            if not data and (self._decoder is None or self._decoder.needs_input):
                data = self._raw.read(INPUT_BYTES)
                if not data:
                    if self._decoder is not None:
                        raise EOFError
                    return b""
            self._left = b""
            if self._decoder is None:
                data = data.lstrip(b"\0")  # streams may be padded with zeros
                if not data:
                    continue
                self._decoder = self._new_decoder()
            out: bytes = self._decoder.decompress(data, size)
            if self._decoder.eof:
                self._left = self._decoder.unused_data
                self._decoder = None
            if out:
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

    def taken(self) -> int:
        return self._raw.tell()

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
        except (zlib.error, gzip.BadGzipFile, zstandard.ZstdError, lzma.LZMAError, OSError, ValueError) as error:
            raise DataError(f"is a damaged archive ({error})", self._name, "copy or download it again") from None

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
