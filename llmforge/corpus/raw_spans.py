"""Where in the raw files a document's row stands: from file and row number to bytes.

A text file is one row, a long one a row for each part; a row of JSON Lines is a line, of a table one or more lines, of
a WARC archive a record. Rows of other formats (Parquet, JSON, PDF, EPUB, DOCX) have no bytes of their own.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from llmforge.corpus.archives import Archive, Member
from llmforge.corpus.compressed import compression_of, open_bytes
from llmforge.corpus.csv_rows import row_spans
from llmforge.corpus.files import ARCHIVES, FoundFile, find_files
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.text_files import text_parts
from llmforge.corpus.unit_kinds import printable
from llmforge.corpus.warc_rows import record_spans

_CHUNK = 1 << 20
Spans = Iterator[tuple[int, int, int]]  # row, first byte, end


@dataclass(frozen=True)
class RawSpan:
    """A row's place: the file as it lies on disk and bytes start to stop - 1 of it.

    Of a packed file the bytes are those of what it unpacks to; of an archive, those of its `member`, unpacked.
    """

    path: Path
    start: int | None = None
    stop: int | None = None
    packed: bool = False
    member: str | None = None

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        span = None if self.start is None else [self.start, self.stop]
        inner = {} if self.member is None else {"member": self.member}
        return {"path": str(self.path), "bytes": span, **inner, **({"packed": True} if self.packed else {})}


def raw_spans(source: SourceConfig, rows: Iterable[tuple[str, int]]) -> dict[tuple[str, int], RawSpan]:
    """(file, row number) of a document's metadata -> its place, for those whose file is found.

    Reads a file once, up to the last row that is asked for; of an archive all that comes before the last member.

    Raises:
        DataError: the source's path is not there, or a file is damaged.
    """
    if source.path is None:
        return {}
    wanted: dict[str, set[int]] = {}
    for file, row in rows:
        wanted.setdefault(file, set()).add(row)
    found: dict[tuple[str, int], RawSpan] = {}
    for listed in find_files(source.path, source.format).files:
        name = printable(listed.name)
        if listed.format in ARCHIVES:
            found |= _in_archive(listed, name, source, wanted)
        elif name in wanted:
            with open_bytes(listed.path, name) as stream:
                places = _places(stream, name, listed.format, source.delimiter, wanted[name])
            packed = compression_of(listed.path) is not None
            for row in wanted[name]:
                start, stop = places.get(row, (None, None))
                found[name, row] = RawSpan(listed.path, start, stop, packed)
    return found


def _in_archive(
    file: FoundFile, name: str, source: SourceConfig, wanted: Mapping[str, set[int]]
) -> dict[tuple[str, int], RawSpan]:
    found: dict[tuple[str, int], RawSpan] = {}
    left = {member for member in wanted if member.startswith(f"{name}/")}
    members = Archive(file, name, source.format, Counter()).members() if left else iter(())
    for member in members:
        if not isinstance(member, Member) or member.name not in left:
            continue
        inner = member.name.removeprefix(f"{name}/")
        places = _places(member.stream, member.name, member.format, source.delimiter, wanted[member.name])
        for row in wanted[member.name]:
            start, stop = places.get(row, (None, None))
            found[member.name, row] = RawSpan(file.path, start, stop, True, inner)
        left.discard(member.name)
        if not left:
            break
    return found


def _places(
    stream: BinaryIO, name: str, format: str, delimiter: str | None, rows: set[int]
) -> dict[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    last = max(rows)
    for row, start, stop in _spans(stream, name, format, delimiter):
        if row in rows:
            found[row] = start, stop
        if row >= last:
            break
    return found


def _spans(stream: BinaryIO, name: str, format: str, delimiter: str | None) -> Spans:
    if format == "jsonl":
        yield from _lines(stream)
    elif format in ("csv", "tsv"):
        yield from row_spans(stream, delimiter or ("\t" if format == "tsv" else None))
    elif format == "warc":
        yield from record_spans(stream, name)
    elif format in ("text", "markdown"):
        yield from _parts(stream)
    elif format == "html":
        size = 0
        while part := stream.read(_CHUNK):
            size += len(part)
        yield 1, 0, size


def _parts(stream: BinaryIO) -> Spans:
    parts = text_parts(stream)
    before = list(islice(parts, 2))
    if len(before) == 2 and before[1][:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return  # parts of a text of wide characters are written anew: they are no bytes of the file
    start = 0
    for number, part in enumerate(chain(before, parts), 1):
        yield number, start, start + len(part)
        start += len(part)


def _lines(stream: BinaryIO) -> Spans:
    offset = 0
    for number, line in enumerate(stream, 1):
        yield number, offset, offset + len(line.rstrip(b"\r\n"))
        offset += len(line)
