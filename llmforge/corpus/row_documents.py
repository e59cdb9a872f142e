"""Rows of any format to documents, one by one and without memory; and what only the order of all of them decides."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from pathlib import PurePosixPath

from llmforge.corpus.decoding import UNICODE
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.files import format_of
from llmforge.corpus.plain_values import plain_fields
from llmforge.corpus.source_config import SourceConfig

ROW_FORMATS = frozenset(["jsonl", "json", "parquet"])  # where a field `encoding` is the row's own


class RowDocuments:
    """Makes documents of a source's rows: a pure function of the row and its place.

    No reader gives half a surrogate pair (a test holds each to it), so texts are not looked through for them here.
    """

    def __init__(self, source: SourceConfig) -> None:
        self._text_key = source.text_key
        self._id_key = source.id_key
        self._label = source.label
        self._license = source.license

    def document(
        self, row: dict[str, object] | BadRow, file: str, number: int, of_table: bool = True
    ) -> Document | BadRow:
        """One row's document. Its id is the row's own or "<file>#<row>"; the row loses its text. Only a row `of_table`
        has names of its own for its fields; those of a text, a page or a book are the reader's.
        """
        if isinstance(row, BadRow):
            return row
        key = self._text_key if of_table else "text"
        text = row.pop(key, None)
        if type(text) is not str:
            if not isinstance(text, str):
                reason = _why_no_text(key, text, row)
                return BadRow(f"{file}:{number}", reason, len(str(text or "")))
            text = str(text)
        metadata: dict[str, object] = {"file": file, "row": number}
        if row:
            fields = plain_fields(row)
            for key in ("file", "row"):
                if key in fields:
                    fields[f"{key}_"] = fields.pop(key)
            metadata.update(fields)
        if self._license is not None and metadata.get("license") in (None, ""):
            metadata["license"] = self._license
        own = row.get(self._id_key) if self._id_key is not None else None
        if own is None or own == "" or isinstance(own, dict | list):
            return Document(f"{file}#{number}", text, self._label, metadata)
        return Document(str(own), text, self._label, metadata)


class UniqueIds:
    """Ids that come again get "~2", "~3" ... behind them, whichever source they are of; the first one stays as it is.

    Holds the ids seen so far as 64-bit hashes in one table of open addresses: 12 to 24 bytes an id.
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 << 10))  # 0: a free place
        self._count = 0

    def claim(self, wanted: str) -> str:
        """An id that none before has: `wanted`, or that with the first free number."""
        if self._take(wanted):
            return wanted
        # A field that is the same in every row may have been named as the id: the number is found by halving.
        taken, free = 1, 2
        while self._has(f"{wanted}~{free}"):
            taken, free = free, 2 * free
        while free - taken > 1:
            middle = (taken + free) // 2
            if self._has(f"{wanted}~{middle}"):
                taken = middle
            else:
                free = middle
        self._take(f"{wanted}~{free}")
        return f"{wanted}~{free}"

    @property
    def memory_bytes(self) -> int:
        """What the table takes."""
        return len(self._table) * self._table.itemsize

    def _take(self, name: str) -> bool:
        """Marks an id as seen; False when it was."""
        mark = _mark(name)
        place = self._place(mark)
        if self._table[place]:
            return False
        self._table[place] = mark
        self._count += 1
        if 3 * self._count > 2 * len(self._table):
            held = self._table
            self._table = array("Q", bytes(16 * len(held)))
            for old in filter(None, held):
                self._table[self._place(old)] = old
        return True

    def _has(self, name: str) -> bool:
        return bool(self._table[self._place(_mark(name))])

    def _place(self, mark: int) -> int:
        """Where a mark stands in the table, or is to stand."""
        last = len(self._table) - 1
        place = mark & last
        while self._table[place] not in (0, mark):
            place = (place + 1) & last
        return place


def _mark(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


class Arrivals:
    """What the caller of `read_unit` does with a source's documents in order: unique ids, and counts to tell.

    `ids` is shared by sources whose documents come together.
    """

    def __init__(self, source: SourceConfig, ids: UniqueIds | None = None) -> None:
        self._label = source.label
        self._format = source.format
        self._ids = ids if ids is not None else UniqueIds()
        self._renamed = 0
        self._encodings: Counter[str] = Counter()

    def add(self, document: Document) -> None:
        """The next document; its id may change."""
        unique = self._ids.claim(document.id)
        if unique != document.id:
            document.id = unique
            self._renamed += 1
        encoding = document.metadata.get("encoding")
        if encoding is not None and encoding not in UNICODE and self._is_first_of_file(document):
            self._encodings[str(encoding)] += 1

    def notes(self) -> list[str]:
        """What to say when all documents have come."""
        said = []
        if self._encodings:
            counts = ", ".join(f"{count:,} as {name}" for name, count in sorted(self._encodings.items()))
            said.append(f"{self._label}: files read by an encoding other than UTF-8: {counts}")
        if self._renamed:
            said.append(f"{self._label}: {self._renamed} ids came more than once; copies are named id~2 ...")
        return said

    def _is_first_of_file(self, document: Document) -> bool:
        file, row = document.metadata.get("file"), document.metadata.get("row")
        kind = self._format if self._format != "auto" else format_of(PurePosixPath(str(file)))
        return kind not in ROW_FORMATS and row == (2 if kind in ("csv", "tsv") else 1)


def _why_no_text(key: str, value: object, others: dict[str, object]) -> str:
    if value is not None:
        kind = {list: "a list", dict: "an object", bool: "a truth value", bytes: "bytes"}.get(type(value), "a number")
        return f"its field {key!r} is {kind}, not text"
    names = ", ".join(sorted(map(str, others))[:8])
    return f"it has no text in field {key!r} (other fields: {names or 'none'})"
