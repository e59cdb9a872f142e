"""WARC archives of the web (ISO 28500) to rows: the pages' main text, with address and date.

Read through FastWARC (the extra `warc`). Text comes from the answers of web servers (`response` with status 200, HTML
or plain text), from `resource` records and from `conversion` records, which are how Common Crawl's WET files hold
text. Requests, redirects, pictures and scripts are no documents and are passed over. A row's number counts the records
of those three kinds, whatever they hold.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from llmforge.corpus.compressed import Readable, open_bytes
from llmforge.corpus.document import BadRow
from llmforge.corpus.extras import load_extra
from llmforge.corpus.html_extractors import Extractor
from llmforge.corpus.text_files import MAX_HTML_BYTES, html_row, text_row
from llmforge.errors import DataError

MAX_HEADER_BYTES = 1 << 20
_HEADER_END = b"\r\n\r\n"
_NEXT_RECORD = re.compile(rb"\r\n\r\nWARC/1\.\d\r\nWARC-", re.IGNORECASE)
HTML_TYPES = frozenset(["text/html", "application/xhtml+xml"])

Row = tuple[int, "dict[str, object] | BadRow"]


def read_warc(what: Readable, where: str, extractor: Extractor, first: int = 1) -> Iterator[Row]:
    """(record number, `text`, `url`, `date`, `mime`, `encoding`, `title`) of each page with text.

    Raises:
        DataError: the archive is cut short or damaged.
        MachineError: fastwarc is not installed.
    """
    with open_bytes(what, where) as stream:
        for number, record in enumerate(records(stream, where), first):
            row = _row(record, f"{where}:{number}", extractor)
            if row is not None:
                yield number, row


def records(stream: BinaryIO, where: str) -> Iterator[Any]:
    """FastWARC's records that may hold text, their HTTP headers not yet read; each is gone when the next is asked for.

    Raises:
        DataError: the archive is cut short or damaged.
        MachineError: fastwarc is not installed.
    """
    warc = load_extra("fastwarc.warc", "warc", where)
    kinds = warc.WarcRecordType
    wanted = kinds.response | kinds.resource | kinds.conversion
    try:
        yield from warc.ArchiveIterator(
            _Forward(stream),
            record_types=wanted,
            parse_http=False,
            stream_detect=False,
            max_header_len=MAX_HEADER_BYTES,
        )
    except (OSError, ValueError) as error:
        raise DataError(f"is a damaged WARC archive ({error})", where, "copy or download it again") from None


def record_spans(stream: BinaryIO, where: str) -> Iterator[tuple[int, int, int]]:
    """(number, first byte, end) of each record that may hold text, of the unpacked archive.

    Raises:
        DataError: the archive is cut short or damaged.
        MachineError: fastwarc is not installed.
    """
    for number, record in enumerate(records(stream, where), 1):
        start = record.stream_pos
        whole = io.BytesIO()
        record.write(whole)
        yield number, start, start + len(whole.getvalue().rstrip(b"\r\n"))


class _Forward:
    """A stream that is only read on: FastWARC asks for its place by a seek, which unpacking streams have not."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._place = 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read1(size)  # type: ignore[attr-defined]  # `read` would lose what comes before a damage
        self._place += len(data)
        return data

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        if (offset, whence) not in ((0, 1), (self._place, 0)):
            raise OSError("the stream can only be read on")
        return self._place


def warc_blocks(stream: BinaryIO, where: str, size: int) -> Iterator[tuple[int, bytes | BadRow]]:
    """(number of the first record, records as bytes) of blocks of about `size` bytes; a record that is too large to
    be a page, or is not whole, is a BadRow of its own.

    Raises:
        DataError: the archive is damaged; what comes before has been given.
    """
    block = io.BytesIO()
    start = 1
    try:
        for number, record in enumerate(records(stream, where), 1):
            data = _whole(record, f"{where}:{number}")
            if isinstance(data, bytes):
                block.write(data)
                if block.tell() < size:
                    continue
            if block.tell():
                yield start, block.getvalue()
            if isinstance(data, BadRow):
                yield number, data
            block, start = io.BytesIO(), number + 1
    except DataError:
        if block.tell():
            yield start, block.getvalue()
        raise
    if block.tell():
        yield start, block.getvalue()


def _whole(record: Any, where: str) -> bytes | BadRow:
    """All bytes of a record, or why it is none to read."""
    if record.content_length > MAX_HTML_BYTES:
        return _too_large(record, where)
    has_length = "Content-Length" in record.headers  # writing gives it one
    out = io.BytesIO()
    record.write(out)
    data = out.getvalue()
    # FastWARC gives what there is of a record at the archive's end, and ends it as if it were whole.
    start = data.find(_HEADER_END) + len(_HEADER_END)
    there = len(data) - start - len(_HEADER_END)
    if not has_length or there < record.content_length:
        return BadRow(where, "the record is cut", len(data))
    if _NEXT_RECORD.search(data, start):
        return BadRow(where, "its Content-Length is too large: the next record lies within it", len(data))
    return data


def _too_large(record: Any, where: str) -> BadRow:
    return BadRow(where, f"the page is larger than {MAX_HTML_BYTES >> 20} MiB", record.content_length)


def _row(record: Any, where: str, extractor: Extractor) -> dict[str, object] | BadRow | None:
    raw = _whole(record, where)
    if isinstance(raw, BadRow):
        return raw
    kind = str(record.headers.get("Content-Type", ""))
    charset = None
    try:
        # A copy is read: a fault in its body (a cut gzip, say) must not reach the records behind it.
        record = type(record).from_bytes(raw)
        if record.is_http:
            record.parse_http(auto_decode="all")
            if record.http_headers is None or record.http_headers.status_code != 200:
                return None
            kind, charset = str(record.http_content_type or ""), record.http_charset
        mime = kind.partition(";")[0].strip().lower()
        if mime not in HTML_TYPES and mime != "text/plain":
            return None
        data: bytes = record.reader.read(MAX_HTML_BYTES + 1)
    except Exception as error:  # FastWARC has no one parent for what a broken answer of a server raises
        return BadRow(where, f"its HTTP answer cannot be read ({error})", record.content_length)
    if len(data) > MAX_HTML_BYTES:
        return _too_large(record, where)
    row = html_row(data, where, extractor, charset) if mime in HTML_TYPES else text_row(data, where)
    if isinstance(row, BadRow):
        return row
    if not str(row["text"]).strip():
        return None
    facts = {"url": record.headers.get("WARC-Target-URI"), "date": record.headers.get("WARC-Date"), "mime": mime}
    return {**row, **{key: value for key, value in facts.items() if value}}
