"""The members of a zip file whose list is lost, as by a download that was cut: each has a header of its own before it.

The list lies at a zip file's end. Without it nobody knows which members were links; and one whose header leaves its
size open can only be followed by unpacking it, which only deflate allows.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from llmforge.corpus.compressed import INPUT_BYTES

_MEMBER, _DESCRIPTOR = b"PK\x03\x04", b"PK\x07\x08"
_HEADER = struct.Struct("<4s5H3L2H")  # mark, version, flags, method, time, date, CRC, sizes, lengths of name and extras
_SIZES_BEHIND, _UTF8 = 8, 0x800  # flags
_ZIP64, _IN_ZIP64 = 1, 0xFFFFFFFF


class Body:
    """A member's bytes, unpacked as they are read, once and in order; `is_cut` when the file ended within them."""

    def __init__(self, stream: BinaryIO, info: zipfile.ZipInfo, has_size: bool) -> None:
        self._stream, self._info, self._has_size = stream, info, has_size
        self._at = self._begin = stream.tell()
        self._deflate = zlib.decompressobj(-15) if info.compress_type == zipfile.ZIP_DEFLATED else None
        self._crc = 0
        self.is_cut = False

    def opened(self) -> Body:
        """Itself, for who opens members one way or another."""
        return self

    def read1(self, size: int) -> bytes:
        """Some bytes, at most `size`; none at the end.

        Raises:
            EOFError, zipfile.BadZipFile, zlib.error: it is cut or damaged.
        """
        if self._deflate is None and not self._has_size:
            raise zipfile.BadZipFile("its size is not known")
        data = self._fetch(size) if self._deflate is None else self._inflated(self._deflate, size)
        self._crc = zlib.crc32(data, self._crc)
        if not data and self._has_size and self._crc != self._info.CRC:
            raise zipfile.BadZipFile("its check sum is another")
        return data

    def close(self) -> None:
        """Nothing to do: the stream is the archive's."""

    def _fetch(self, size: int) -> bytes:
        """Packed bytes; none only at the end of a member of known size."""
        wanted = min(size, self._info.compress_size - (self._at - self._begin)) if self._has_size else size
        self._stream.seek(self._at)
        data = self._stream.read(wanted)
        self._at += len(data)
        if wanted and not data:
            self.is_cut = True
            raise EOFError("the archive ends within it")
        return data

    def _inflated(self, deflate: zlib._Decompress, size: int) -> bytes:
        data = b""
        while not data and not deflate.eof:
            data = deflate.decompress(deflate.unconsumed_tail, size)
            if not data and not deflate.eof and not deflate.unconsumed_tail:
                packed = self._fetch(INPUT_BYTES)
                if not packed:
                    raise zipfile.BadZipFile("it has no end")
                data = deflate.decompress(packed, size)
        return data

    def end(self, take: Callable[[int], None]) -> int | None:
        """Where the next header is; None when that cannot be known. `take` hears of bytes unpacked to find it."""
        if self._has_size:
            end = self._begin + self._info.compress_size
            self.is_cut = self.is_cut or self._stream.seek(0, 2) < end
            return None if self.is_cut else end
        if self._deflate is None:
            return None
        try:
            while data := self.read1(INPUT_BYTES):
                take(len(data))
        except (EOFError, zlib.error):
            return None
        return _behind_descriptor(self._stream, self._at - len(self._deflate.unused_data))


def begins_with_member(stream: BinaryIO) -> bool:
    """Whether a file that is no whole zip file begins like one."""
    stream.seek(0)
    return stream.read(len(_MEMBER)) == _MEMBER


def members(stream: BinaryIO, take: Callable[[int], None]) -> Iterator[tuple[zipfile.ZipInfo, Body]]:
    """The members that still have their headers, in order; `info.file_size` is -1 where it is not known before.

    `take` hears of the bytes of members that had to be unpacked to find the next one, and may raise.
    """
    place: int | None = 0
    while place is not None:
        stream.seek(place)
        info = _header(stream)
        if info is None:
            return
        has_size = not info.flag_bits & _SIZES_BEHIND
        if not has_size:
            info.file_size = -1
        body = Body(stream, info, has_size)
        yield info, body
        place = body.end(take)


def _header(stream: BinaryIO) -> zipfile.ZipInfo | None:
    data = stream.read(_HEADER.size)
    if len(data) < _HEADER.size or not data.startswith(_MEMBER):
        return None
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _HEADER.unpack(data)
    name, extra = stream.read(name_length), stream.read(extra_length)
    if len(name) < name_length or len(extra) < extra_length:
        return None
    info = zipfile.ZipInfo(name.decode("utf-8" if flags & _UTF8 else "cp437", "replace"))
    info.flag_bits, info.compress_type, info.CRC = flags, method, crc
    info.file_size, info.compress_size = _large(extra, size, packed)
    return info


def _large(extra: bytes, size: int, packed: int) -> tuple[int, int]:
    """The two sizes, which a member beyond 4 GiB has in its extras."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _ZIP64 and length >= 16 and len(extra) >= 20 and _IN_ZIP64 in (size, packed):
            size, packed = struct.unpack_from("<2Q", extra, 4)
            break
        extra = extra[4 + length :]
    return size, packed


def _behind_descriptor(stream: BinaryIO, place: int) -> int:
    """Behind the check sum and the sizes, of 4 bytes or of 8 each, that follow a member; their mark may be left out."""
    stream.seek(place)
    data = stream.read(28)
    start = 4 if data.startswith(_DESCRIPTOR) else 0
    short = data[start + 12 : start + 14]
    return place + start + (12 if short in (b"PK", b"") else 20)
