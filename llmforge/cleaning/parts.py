"""What was measured of a piece of the input, in one file: a killed run goes on behind the last one, and a run with
other thresholds measures nothing again.

    {"rows": 2, "signals": ["num_words", ...], "width": 125, "rows_bytes": 4711, "digest": "..."}\\n
    [id, text, source, metadata, bytes read, exact key, language, signals, removed, replaced, reasons,
     sealed]\\n  (a row each)
    signatures: uint32, `width` of them for each document, row by row

A row that is no document is [place, null, source, reason, bytes]. The file is compressed by zstd, which has its own
checksum; it is written under another name first, and one that cannot be read is made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmforge.cleaning.pii.match import Sealed
from llmforge.cleaning.verdict import Drop
from llmforge.corpus.document import BadRow, Document
from llmforge.runtime.files import disk_errors

SUFFIX = ".part"
_LEVEL = 1
_VERSION = 1


@dataclass(slots=True)
class Measured:
    """A document with all that the chain found; `document.text` is the text as it would be written."""

    document: Document
    bytes_read: int
    exact_key: str = ""
    language: list[Any] | None = None
    signals: dict[str, float] | None = None
    removed: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    reasons: list[Drop] = field(default_factory=list)
    sealed: tuple[Sealed, ...] = ()
    signature: bytes = b""


Entry = Measured | tuple[BadRow, str]  # a bad row comes with the name of its source


def write_part(path: Path, entries: Sequence[Entry], width: int) -> None:
    """Writes the part at `path`; `width` numbers of each document's signature.

    Raises:
        MachineError: the disk is full or cannot be written.
    """
    import orjson
    import zstandard

    columns: list[str] = []
    rows, signatures = [], []
    for entry in entries:
        if isinstance(entry, tuple):
            row, source = entry
            rows.append([row.where, None, source, row.reason, row.size])
            continue
        if entry.signals is not None and not columns:
            columns = list(entry.signals)
        rows.append(_row(entry))
        signatures.append(entry.signature)
    lines = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    head = {"version": _VERSION, "rows": len(rows), "signals": columns, "width": width, "rows_bytes": len(lines)}
    data = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(
        b"".join([orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE), lines, *signatures])
    )
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(path):
            temporary.write_bytes(data)
            temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _row(entry: Measured) -> list[Any]:
    document = entry.document
    reasons = [[drop.rule, drop.threshold, drop.because] for drop in entry.reasons]
    signals = None if entry.signals is None else list(entry.signals.values())
    sealed = [list(original) for original in entry.sealed]
    told = [entry.language, signals, entry.removed, entry.replaced, reasons, sealed]
    return [document.id, document.text, document.source, document.metadata, entry.bytes_read, entry.exact_key, *told]


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
        lines = memoryview(whole)[end : end + head["rows_bytes"]]
        entries = list(_entries(bytes(lines), head, whole[end + head["rows_bytes"] :]))
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, IndexError):
        return None
    return entries if len(entries) == head["rows"] else None


def _entries(lines: bytes, head: dict[str, Any], signatures: bytes) -> Iterator[Entry]:
    import orjson

    width = 4 * head["width"]
    columns = head["signals"]
    place = 0
    for line in lines.split(b"\n")[:-1]:
        row = orjson.loads(line)
        if row[1] is None:
            yield BadRow(row[0], row[3], row[4]), row[2]
            continue
        identity, text, source, metadata, size, key, language, values, *told = row
        removed, replaced, reasons, sealed = told
        signals = None if values is None else dict(zip(columns, values, strict=True))
        found = [Drop(*reason) for reason in reasons]
        originals = tuple(Sealed(*entry) for entry in sealed)
        document = Document(identity, text, source, metadata)
        signature = signatures[place : place + width]
        place += width
        yield Measured(document, size, key, language, signals, removed, replaced, found, originals, signature)
