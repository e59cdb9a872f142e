"""What was measured of a piece of the input, in one file: a killed run goes on behind the last one, and a run with
other thresholds measures nothing again.

    {"version": 1, "rows": 2, "signals": ["num_words", ...], "sizes": [rows' bytes, keys', signatures', anchors']}\\n
    [id, text, source, metadata, bytes read, language, signals, removed, replaced, reasons, sealed, facts, hits,
     number and bytes of anchors]\\n  (a row each)
    exact keys: 16 bytes a document; signatures: uint32, row by row; anchors, one document behind the other

A row that is no document is [place, null, source, reason, bytes]. The file is compressed by zstd, which has its own
checksum; it is written under another name first, and one that cannot be read is made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from llmforge.cleaning.pii.match import Sealed
from llmforge.cleaning.verdict import Drop
from llmforge.corpus.document import BadRow, Document
from llmforge.runtime.files import disk_errors

SUFFIX = ".part"
_LEVEL = 1
_VERSION = 1
_BLOBS = ("exact_key", "signature", "anchors")


@dataclass(slots=True)
class Measured:
    """A document with all that the chain found; `document.text` is the text as it would be written."""

    document: Document
    bytes_read: int
    exact_key: bytes = b""
    language: list[Any] | None = None
    signals: dict[str, float] | None = None
    removed: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    reasons: list[Drop] = field(default_factory=list)
    sealed: tuple[Sealed, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)  # for the document's metadata
    hits: list[list[Any]] = field(default_factory=list)  # of evaluation items: [items, begin, end, share, text]
    signature: bytes = b""
    anchors: bytes = b""
    num_anchors: int = 0


Entry = Measured | tuple[BadRow, str]  # a bad row comes with the name of its source


def write_part(path: Path, entries: Sequence[Entry]) -> None:
    """Writes the part at `path`.

    Raises:
        MachineError: the disk is full or cannot be written.
    """
    import orjson
    import zstandard

    measured = [entry for entry in entries if isinstance(entry, Measured)]
    columns = next((list(entry.signals) for entry in measured if entry.signals is not None), [])
    rows = [_row(entry) for entry in entries]
    blobs = [
        b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows),
        *(b"".join(getattr(entry, name) for entry in measured) for name in _BLOBS),
    ]
    head = {"version": _VERSION, "rows": len(rows), "signals": columns, "sizes": [len(blob) for blob in blobs]}
    data = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(
        b"".join([orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE), *blobs])
    )
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(path):
            temporary.write_bytes(data)
            temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _row(entry: Entry) -> list[Any]:
    if isinstance(entry, tuple):
        row, source = entry
        return [row.where, None, source, row.reason, row.size]
    document = entry.document
    reasons = [[drop.rule, drop.threshold, drop.because] for drop in entry.reasons]
    signals = None if entry.signals is None else list(entry.signals.values())
    sealed = [list(original) for original in entry.sealed]
    told = [entry.language, signals, entry.removed, entry.replaced, reasons, sealed, entry.facts, entry.hits]
    sizes = [entry.num_anchors, len(entry.anchors)]
    return [document.id, document.text, document.source, document.metadata, entry.bytes_read, *told, *sizes]


def read_part(path: Path) -> list[Entry] | None:
    """The entries of a part; None when there is none, or none that can be read whole."""
    import orjson
    import zstandard

    try:
        data = path.read_bytes()
    except OSError:
        return None
    try:
        size = zstandard.frame_content_size(data)
        whole = zstandard.ZstdDecompressor().decompress(data, max_output_size=max(size, 1))
        end = whole.index(b"\n") + 1
        head = orjson.loads(whole[:end])
        if head["version"] != _VERSION:
            return None
        ends = list(accumulate(head["sizes"], initial=end))
        blobs = [whole[first:last] for first, last in zip(ends, ends[1:], strict=False)]
        entries = list(_entries(head["signals"], *blobs))
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, IndexError):
        return None
    return entries if len(entries) == head["rows"] else None


def _entries(columns: list[str], lines: bytes, keys: bytes, signatures: bytes, anchors: bytes) -> Iterator[Entry]:
    import orjson

    rows = [orjson.loads(line) for line in lines.split(b"\n")[:-1]]
    documents = sum(row[1] is not None for row in rows)
    width = len(signatures) // max(documents, 1)
    number = place = 0
    for row in rows:
        if row[1] is None:
            yield BadRow(row[0], row[3], row[4]), row[2]
            continue
        language, values, removed, replaced, reasons, sealed, facts, hits, num_anchors, size = row[5:]
        yield Measured(
            Document(*row[:4]),
            row[4],
            exact_key=keys[16 * number : 16 * (number + 1)],
            language=language,
            signals=None if values is None else dict(zip(columns, values, strict=True)),
            removed=removed,
            replaced=replaced,
            reasons=[Drop(*reason) for reason in reasons],
            sealed=tuple(Sealed(*original) for original in sealed),
            facts=facts,
            hits=hits,
            signature=signatures[width * number : width * (number + 1)],
            anchors=anchors[place : place + size],
            num_anchors=num_anchors,
        )
        number += 1
        place += size
