"""A zip or tar file to its members as streams, one after another; nothing is ever written to disk.

A member is refused when its name leaves the archive, when it is encrypted, sparse or packed in a way that cannot be
bounded, or when it is an archive itself; links and devices are passed over. The whole archive is refused as a bomb when
its members unpack to far more than its size, or when there are too many of them.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from llmforge.corpus.compressed import (
    FREE_BYTES,
    INPUT_BYTES,
    MAX_RATIO,
    bytes_taken,
    compression_of,
    open_bytes,
    open_seekable,
    unpacked,
)
from llmforge.corpus.document import BadRow
from llmforge.corpus.files import ARCHIVES, FoundFile, format_of
from llmforge.corpus.tar_headers import CarefulHeader
from llmforge.corpus.zip_salvage import begins_with_member, members
from llmforge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

MAX_MEMBERS = 1_000_000
MAX_MEMBER_BYTES = 256 << 20  # of a member that has to be read whole
MAX_DIRECTORY_BYTES = 256 << 20  # of a zip file, which is read whole
_END_RECORD = b"PK\x05\x06"

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    struct.error,
    NotImplementedError,
    ValueError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: `name` is "archive.zip/inner/name.txt", `size` the bytes it says it has unpacked. The
    stream is good until the next member is asked for.
    """

    name: str
    format: str
    size: int
    packed: int
    stream: BinaryIO


@dataclass(slots=True)
class Archive:
    """A zip or tar file to read once; `skipped` counts what was passed over by kind, complete after the last member."""

    file: FoundFile
    name: str
    format: str  # of every member, or auto
    skipped: Counter[str]
    _taken: int = 0
    _stream: BinaryIO | None = None

    @property
    def taken(self) -> int:
        """Bytes of the archive on disk that have been read so far."""
        return max(self._taken, bytes_taken(self._stream)) if self._stream is not None else self._taken

    def members(self) -> Iterator[Member | BadRow]:
        """The members in the archive's order, those that are refused as BadRow. Where reading one raises a DataError
        that names the member and not the archive, the others can be read.

        Raises:
            DataError: the archive is damaged or a bomb.
        """
        budget = _Budget(max(FREE_BYTES, MAX_RATIO * self.file.size), self.name)
        try:
            with _damage_named(self.name):
                yield from self._zip(budget) if self.file.format == "zip" else self._tar(budget)
        finally:
            self._stream = None

    def _zip(self, budget: _Budget) -> Iterator[Member | BadRow]:
        with open_seekable(self.file.path, self.name) as stream:
            _check_directory(stream, self.name)
            try:
                archive = zipfile.ZipFile(stream)
            except zipfile.BadZipFile:
                if not begins_with_member(stream):
                    raise
                yield from self._salvaged(stream, budget)
                return
            with archive:
                for info in archive.infolist():
                    budget.count_member()
                    self._taken += info.compress_size
                    if info.is_dir():
                        continue
                    if (info.external_attr >> 16) & 0o170000 == 0o120000:
                        self.skipped["links"] += 1
                        continue
                    reason = _why_no_member(info)
                    found = self._look(info.filename, info.file_size, reason)
                    if isinstance(found, str):
                        inner = f"{self.name}/{_printable(info.filename)}"
                        with closing(_ZipMember(partial(archive.open, info), inner)) as member:
                            yield self._member(member, info.filename, found, info.file_size, info.compress_size, budget)
                    elif found is not None:
                        yield found

    def _salvaged(self, stream: BinaryIO, budget: _Budget) -> Iterator[Member | BadRow]:
        """The members of a zip file without its list, up to where it was cut: the one there is a bad row."""
        for info, body in members(stream, budget.take):
            budget.count_member()
            self._taken = max(self._taken, stream.tell())
            if info.filename.endswith("/"):
                continue
            found = self._look(info.filename, max(0, info.file_size), _why_no_member(info))
            if isinstance(found, str):
                member = _ZipMember(body.opened, f"{self.name}/{_printable(info.filename)}")
                yield self._member(member, info.filename, found, info.file_size, info.compress_size, budget)
                if body.is_cut and member.failed:
                    return
            elif found is not None:
                yield found
        reason = "has lost its list of members, as a file that was cut has; what still has a header was read"
        raise DataError(reason, self.name, "copy or download it again")

    def _tar(self, budget: _Budget) -> Iterator[Member | BadRow]:
        with (
            open_bytes(self.file.path, self.name) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=CarefulHeader) as archive,
        ):
            self._stream = stream
            while (info := archive.next()) is not None:
                self._taken = bytes_taken(stream)
                archive.members = []  # type: ignore[attr-defined]  # it would keep a record of each
                budget.count_member()
                if info.isdir():
                    continue
                if not info.isfile():
                    self.skipped["links" if info.issym() or info.islnk() else "devices"] += 1
                    continue
                reason = "it is sparse, as an archive bomb may be" if info.issparse() else None
                found = self._look(info.name, info.size, reason)
                if isinstance(found, str):
                    member = archive.extractfile(info)
                    assert member is not None, "a regular file"
                    yield self._member(member, info.name, found, info.size, info.size, budget)
                elif found is not None:
                    yield found

    def _look(self, inner: str, size: int, reason: str | None) -> str | BadRow | None:
        """The member's format; why it is refused; or None when it is hidden or of no known kind."""
        path = PurePosixPath(inner.replace("\\", "/"))
        where = f"{self.name}/{_printable(inner)}"
        if path.is_absolute() or ".." in path.parts or inner[1:2] == ":" or "\0" in inner:
            return BadRow(where, "its name leads out of the archive", size)
        if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
            return None
        kind = format_of(path)
        if kind in ARCHIVES:
            return BadRow(where, "it is an archive within an archive: unpack it first", size)
        kind = kind if self.format == "auto" else self.format
        if kind is None:
            self.skipped[path.suffix or "without a suffix"] += 1
            return None
        return BadRow(where, reason, size) if reason is not None else kind

    def _member(self, stream: object, inner: str, kind: str, size: int, packed: int, budget: _Budget) -> Member:
        name = f"{self.name}/{_printable(inner)}"
        counted: BinaryIO = io.BufferedReader(_Counted(stream, budget), 1 << 16)
        compression = compression_of(PurePosixPath(inner))
        if compression is not None:
            # What it unpacks to counts too, by the archive's own limit and by the member's.
            inside = unpacked(counted, compression, size, name)
            counted, size = io.BufferedReader(_Counted(inside, budget), 1 << 16), -1
        return Member(name, kind, size, packed, counted)


class _Budget:
    """What an archive may still unpack to, and how many members it may still have."""

    def __init__(self, left: int, name: str) -> None:
        self._left = left
        self._members = 0
        self.name = name

    def take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            reason = f"unpacks to more than {MAX_RATIO} times its size, as an archive bomb does"
            raise DataError(reason, self.name, "unpack it yourself if it is what you want")

    def count_member(self) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise DataError(f"has more than {MAX_MEMBERS:,} members", self.name, "unpack it yourself")


class _Counted(io.RawIOBase):
    """A member's stream; what is read of it is taken from the budget."""

    def __init__(self, stream: object, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        with _damage_named(self._budget.name):
            # One step: `read` would lose what comes before a damage.
            data: bytes = self._stream.read1(min(len(view), INPUT_BYTES))  # type: ignore[attr-defined]
        self._budget.take(len(data))
        view[: len(data)] = data
        return len(data)


class _ZipMember:
    """A member of a zip file, opened when it is read: one that is damaged says nothing of the others."""

    def __init__(self, opened: Callable[[], Any], name: str) -> None:
        self._open, self._name = opened, name
        self._file: Any = None
        self.failed = False

    def read1(self, size: int) -> bytes:
        try:
            if self._file is None:
                self._file = self._open()
            return self._file.read1(size)  # type: ignore[no-any-return]
        except _DAMAGE as error:
            self.failed = True
            reason = str(error) or type(error).__name__
            raise DataError(f"is damaged in the archive ({reason})", self._name, "copy or download it again") from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"is a damaged archive ({reason})", name, "copy or download it again") from None


def _check_directory(stream: BinaryIO, name: str) -> None:
    """zipfile reads the whole list of members into memory: its declared size is looked at first."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - (1 << 16) - 22))
    tail = stream.read()
    place = tail.rfind(_END_RECORD)
    if place >= 0 and len(tail) >= place + 22:
        declared = struct.unpack_from("<L", tail, place + 12)[0]
        if declared == 0xFFFFFFFF and place >= 76:  # zip64: the size is in the record before, 56 bytes and a locator
            declared = struct.unpack_from("<Q", tail, place - 20 - 56 + 40)[0]
        if declared > MAX_DIRECTORY_BYTES:
            raise DataError(f"has a list of members of {declared} bytes", name, "unpack it yourself")
    stream.seek(0)


def _why_no_member(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 1:
        return "it is encrypted"
    # The standard library unpacks bzip2 and LZMA members without a bound on what one read gives.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"it is packed by method {info.compress_type}, and only deflate is read"
    return None


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\ufffd")
