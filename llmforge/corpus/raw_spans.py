"""Where in the raw files a document's row stands: from file and row number to bytes.

A text file is one row; a row of JSON Lines is a line. Rows of other formats have no bytes of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llmforge.corpus.compressed import compression_of, open_bytes
from llmforge.corpus.files import FoundFile, find_files
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.text_files import PART_BYTES

_WHOLE = ("text", "markdown", "html")


@dataclass(frozen=True)
class RawSpan:
    """A row's place: the file as it lies on disk and bytes start to stop - 1 of it (unpacked, when it is packed)."""

    path: Path
    start: int | None = None
    stop: int | None = None
    packed: bool = False

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        span = None if self.start is None else [self.start, self.stop]
        return {"path": str(self.path), "bytes": span, **({"packed": True} if self.packed else {})}


def raw_spans(source: SourceConfig, rows: Iterable[tuple[str, int]]) -> dict[tuple[str, int], RawSpan]:
    """(file, row number) of a document's metadata -> its place, for those whose file is found.

    Reads a file of lines once, up to the last row that is asked for.

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
        name = listed.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        for row, span in _in_file(listed, wanted.get(name, set())).items():
            found[name, row] = span
    return found


def _in_file(file: FoundFile, rows: set[int]) -> dict[int, RawSpan]:
    packed = compression_of(file.path) is not None
    if not rows:
        return {}
    if file.format == "jsonl":
        return _lines(file, rows, packed)
    if file.format in _WHOLE and rows == {1} and not packed and file.size <= PART_BYTES:
        return {1: RawSpan(file.path, 0, file.size)}
    return {row: RawSpan(file.path, packed=packed) for row in rows}


def _lines(file: FoundFile, rows: set[int], packed: bool) -> dict[int, RawSpan]:
    found: dict[int, RawSpan] = {}
    offset, last = 0, max(rows)
    with open_bytes(file.path, file.name) as stream:
        for number, line in enumerate(stream, 1):
            if number in rows:
                found[number] = RawSpan(file.path, offset, offset + len(line.rstrip(b"\r\n")), packed)
            offset += len(line)
            if number == last:
                break
    return found
