"""CSV and TSV files to rows: the first row names the columns, the delimiter is found by looking at the beginning.

    id,text
    a1,"Call me Ishmael. Some years ago,
    never mind how long"

A row is known by the line it begins on (the header is line 1). A quoted field may hold line ends; a row with more or
fewer fields than the header is a BadRow. The grammar is that of Python's csv module.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from llmforge.corpus.compressed import Readable, open_bytes
from llmforge.corpus.decoding import UNICODE, WIDE, detect_encoding
from llmforge.corpus.document import BadRow
from llmforge.errors import DataError

MAX_ROW_CHARS = 64 << 20
DELIMITERS = ",;\t|"
_PROBE_BYTES = 1 << 16
_TOO_LONG = f"it is longer than {MAX_ROW_CHARS >> 20} MiB"
_WESTERN = "llmforge.western"

Row = tuple[int, "dict[str, object] | BadRow"]


@dataclass(frozen=True, slots=True)
class Table:
    """What every block of a table is read by: the names of its columns, its delimiter and its encoding."""

    columns: tuple[str, ...]
    delimiter: str
    encoding: str


def read_csv(what: Readable, where: str, delimiter: str | None = None) -> Iterator[Row]:
    """(line, fields) of each row that is not blank. DataError when the file is not text or has no header."""
    with open_bytes(what, where) as stream:
        table, first, lines = open_table(stream, where, delimiter)
        with lines:
            yield from _rows(lines, table, first, where)


def read_tsv(what: Readable, where: str, delimiter: str | None = None) -> Iterator[Row]:
    """As `read_csv`, with a tab between the fields whatever the first lines look like."""
    return read_csv(what, where, delimiter or "\t")


def open_table(stream: BinaryIO, where: str, delimiter: str | None) -> tuple[Table, int, io.TextIOWrapper]:
    """The table, the line its first row begins on and the lines from there on.

    Raises:
        DataError: the file is binary, empty, or names a column twice.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(_Raw(stream), _PROBE_BYTES)
    probe = buffered.peek(_PROBE_BYTES)[:_PROBE_BYTES]
    encoding = detect_encoding(probe)
    if encoding is None:
        raise DataError("is binary, not a table", where)
    # A Western file may be ASCII for longer than the probe: its later accents are read as what they are.
    codecs.register_error(_WESTERN, _as_western)
    lines = io.TextIOWrapper(buffered, encoding, errors=_WESTERN if encoding == "utf-8" else "replace", newline=None)
    chosen = delimiter or _delimiter(probe.decode(encoding, "replace"))
    try:
        columns, first = _header(lines, chosen, where)
    except DataError:
        lines.close()
        raise
    return Table(columns, chosen, encoding), first, lines


def _header(lines: io.TextIOWrapper, delimiter: str, where: str) -> tuple[tuple[str, ...], int]:
    """The names of the columns and the line behind them."""
    limited = _Limited(lines)
    csv.field_size_limit(MAX_ROW_CHARS)
    try:
        header = next((row for row in csv.reader(limited, delimiter=delimiter) if row), None)
    except csv.Error as error:
        raise DataError(f"has no header that can be read ({error})", f"{where}:1") from None
    if header is None:
        raise DataError("is empty: a table begins with the names of its columns", where)
    columns = tuple(name.strip() for name in header)
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(f"names the column {twice[0]!r} twice", f"{where}:1", "rename one")
    return columns, limited.count + 1


def table_blocks(lines: io.TextIOWrapper, table: Table, first: int, size: int) -> Iterator[tuple[int, str | BadRow]]:
    """(line of the first row, text) of blocks of about `size` characters that end where a row does; a row beyond the
    limit is a BadRow without its place.

    Raises:
        DataError: the file is damaged; what comes before has been given.
    """
    block: list[str] = []
    length = whole = kept = 0  # characters; and lines and characters up to the end of the last row
    start = number = first
    quoted = False  # inside a quoted field: only then is the end of a line not the end of a row
    limited = _Limited(lines)
    while True:
        try:
            line = next(limited, "")
        except csv.Error:
            line = None
        except DataError:  # the file is damaged from here on
            if whole:
                yield start, "".join(block[:whole])
            raise
        if line:
            block.append(line)
            length += len(line)
            number += 1
            if quoted or '"' in line:
                quoted = _ends_quoted(line, quoted, table.delimiter)
            if not quoted:
                whole, kept = len(block), length
        too_long = line is None or length - kept > MAX_ROW_CHARS
        if line == "" or too_long or (length >= size and not quoted):
            end = whole if too_long else len(block)
            if end:
                yield start, "".join(block[:end])
            if too_long:
                number += line is None
                yield start + end, BadRow("", _TOO_LONG, length - kept)
            block, length, whole, kept, start, quoted = [], 0, 0, 0, number, False
        if line == "":
            return


def parse_table(text: str, table: Table, first: int, where: str) -> Iterator[Row]:
    """(line, fields) of a block from `table_blocks`."""
    return _rows(io.StringIO(text, newline=""), table, first, where)


def _rows(lines: io.TextIOBase, table: Table, first: int, where: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW_CHARS)
    limited = _Limited(lines)
    reader = csv.reader(limited, delimiter=table.delimiter)
    columns = table.columns
    guessed = {} if table.encoding in UNICODE or "encoding" in columns else {"encoding": table.encoding}
    while True:
        number = first + limited.count
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield number, BadRow(f"{where}:{number}", f"it is not a row of a table ({error})", 0)
            continue
        if row is None:
            return
        if len(row) == len(columns):
            yield number, {**dict(zip(columns, row, strict=True)), **guessed}
        elif row:
            reason = f"it has {len(row)} fields and the header names {len(columns)}"
            yield number, BadRow(f"{where}:{number}", reason, sum(map(len, row)))


def row_spans(stream: BinaryIO, delimiter: str | None) -> Iterator[tuple[int, int, int]]:
    """(line, first byte, end) of each row of a table, the header too; nothing for an encoding of wide characters."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(_Raw(stream), _PROBE_BYTES)
    probe = buffered.peek(_PROBE_BYTES)[:_PROBE_BYTES]
    encoding = detect_encoding(probe)
    if encoding is None or encoding in WIDE:
        return
    chosen = delimiter or _delimiter(probe.decode(encoding, "replace"))
    # In latin-1 a character is a byte, and quotes, delimiters and line ends are what they are in all that is left.
    lines = io.TextIOWrapper(buffered, "latin-1", newline="")
    start = stop = 0
    first, quoted = 1, False
    try:
        for number, line in enumerate(lines, 1):
            stop += len(line)
            if quoted or '"' in line:
                quoted = _ends_quoted(line, quoted, chosen)
            if not quoted:
                yield first, start, stop - (len(line) - len(line.rstrip("\r\n")))
                first, start = number + 1, stop
    finally:
        lines.detach()


class _Limited:
    """Lines of a text stream, counted; one beyond the limit is a csv.Error, and the next call goes on behind it."""

    def __init__(self, lines: io.TextIOBase) -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._lines.readline(MAX_ROW_CHARS)
        if not line:
            raise StopIteration
        self.count += 1
        if len(line) == MAX_ROW_CHARS and not line.endswith("\n"):
            while (rest := self._lines.readline(MAX_ROW_CHARS)) and not rest.endswith("\n"):
                pass
            raise csv.Error(_TOO_LONG)
        return line


def _ends_quoted(line: str, quoted: bool, delimiter: str) -> bool:
    """Whether the line's end lies inside a quoted field, by the rules of the csv module: a quote opens a field only
    at its beginning, two quotes inside are one, and what follows a closing quote belongs to the field unquoted.
    """
    place = 0
    while True:
        if quoted:
            place = line.find('"', place)
            if place < 0:
                return True
            if line.startswith('""', place):
                place += 2
                continue
            quoted = False
            place += 1
        elif line.startswith('"', place) and (place == 0 or line[place - 1] == delimiter):
            quoted = True
            place += 1
        else:
            after = line.find(f'{delimiter}"', place)
            if after < 0:
                return False
            place = after + 1


def _delimiter(text: str) -> str:
    """Of the usual ones, that which the first lines hold most evenly; a comma when none is there."""
    lines = text.splitlines()[:20]
    head = lines[0] if lines else ""
    found = [mark for mark in DELIMITERS if mark in head]
    if len(found) < 2:
        return found[0] if found else ","
    scores = {}
    for mark in found:
        try:
            widths = [len(row) for row in csv.reader(lines[:-1] or lines, delimiter=mark) if row]
        except csv.Error:
            continue
        scores[mark] = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
    return max(scores, key=lambda mark: scores[mark]) if scores else ","


def _as_western(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError), "registered for decoding"
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


class _Raw(io.RawIOBase):
    """A stream without a buffer of its own, so that a buffered reader can be put over it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
