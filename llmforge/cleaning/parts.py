"""What was measured of a piece of the input, in one file: a killed run goes on behind the last one, and a run with
other thresholds measures nothing again.

    XXH3 of all that follows, as 32 hexadecimal digits\\n
    {"version": 4, "rows": 2, "signals": ["num_words", ...], "sizes": [bytes of rows, keys, signatures, anchors],
     "frames": [bytes of each frame of texts]}\\n
    rows, one JSON list, packed: [[id, source, metadata, bytes read, bytes, is blank, frame, begin and end in it,
     language, signals, removed, replaced, reasons, sealed, labels, telling, hits, number and bytes of anchors], ...]
    exact keys: 16 bytes a document; signatures: uint32, row by row; anchors, one document behind the other
    texts, in frames of about 32 KB: each a JSON string, one behind the other

What comes behind the signals is left out where it is all empty. A row that is no document is [null, source, place,
reason, bytes]. Texts lie apart, as JSON: the process that judges reads the rows alone, and what stays is copied to the
corpus without being parsed again. Rows are packed by zstd, and so are frames in parts that are to be kept; a frame that
begins with a quote is not. The file is written under another name first, and one that cannot be read, or was changed,
is made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from llmforge.cleaning.pii.match import Sealed
from llmforge.cleaning.verdict import Drop
from llmforge.corpus.document import BadRow, Document
from llmforge.runtime.files import disk_errors

SUFFIX = ".part"
FRAME_BYTES = 32 << 10  # larger ones are 4 % smaller packed, and cost four times as much where one text is wanted
_LEVEL = 1
_VERSION = 4
_DIGEST = 33  # characters of the first line
_PLAIN = 11  # values of a row of which nothing more is told
_BLOBS = ("exact_key", "signature", "anchors")


class TextPlace(NamedTuple):
    """Where a text lies in its part: `begin` and `size` of the frame, `first` and `last` of its JSON string in that
    when it is unpacked.
    """

    begin: int
    size: int
    first: int
    last: int


@dataclass(slots=True)
class Measured:
    """A document with all that the chain found; `document.text` is the text as it would be written.

    As it is read from a part the document has no text: that lies at `place`.
    """

    document: Document
    bytes_read: int
    size: int = 0  # UTF-8 bytes of the text as it would be written
    is_blank: bool = False
    exact_key: bytes = b""
    language: list[Any] | None = None
    signals: dict[str, float] | None = None
    removed: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    reasons: list[Drop] = field(default_factory=list)
    sealed: tuple[Sealed, ...] = ()
    labels: dict[str, float] = field(default_factory=dict)  # by the classifier: how probable each is
    telling: dict[str, list[str]] = field(default_factory=dict)  # of labels: the runs of words that spoke for it
    hits: list[list[Any]] = field(default_factory=list)  # of evaluation items: [items, begin, end, share, text]
    signature: bytes = b""
    anchors: bytes = b""
    num_anchors: int = 0
    place: TextPlace = TextPlace(0, 0, 0, 0)
    json: bytes = b""  # the text as a JSON string, where it was made already


Entry = Measured | tuple[BadRow, str]  # a bad row comes with the name of its source


def write_part(path: Path, entries: Sequence[Entry], pack: bool) -> list[TextPlace]:
    """Writes the part at `path`, its texts packed or not; returns where the text of each document lies.

    Raises:
        MachineError: the disk is full or cannot be written.
    """
    import orjson
    import xxhash
    import zstandard

    measured = [entry for entry in entries if isinstance(entry, Measured)]
    columns = next((list(entry.signals) for entry in measured if entry.signals is not None), [])
    packer = zstandard.ZstdCompressor(level=_LEVEL)
    frames, places = _frames(measured, packer.compress if pack else bytes)
    rest = iter(places)
    rows = [_bad_row(*entry) if isinstance(entry, tuple) else _row(entry, next(rest)) for entry in entries]
    blobs = [packer.compress(orjson.dumps(rows))]
    blobs += [b"".join([getattr(entry, name) for entry in measured]) for name in _BLOBS]
    head = {"version": _VERSION, "rows": len(rows), "signals": columns, "sizes": [len(blob) for blob in blobs]}
    head["frames"] = [len(frame) for frame in frames]
    first = orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE)
    data = b"".join([first, *blobs, *frames])
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(path):
            with temporary.open("wb", buffering=0) as out:
                out.write(xxhash.xxh3_128_hexdigest(data).encode() + b"\n")
                out.write(data)
            temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    begin = _DIGEST + len(first) + sum(map(len, blobs))
    lying = list(zip(accumulate(map(len, frames), initial=begin), map(len, frames), strict=False))
    return [TextPlace(*lying[frame], start, end) for frame, start, end in places]


def _frames(
    measured: Sequence[Measured], packed: Callable[[bytes], bytes]
) -> tuple[list[bytes], list[tuple[int, int, int]]]:
    """The frames, and for each text the number of its frame, begin and end in it."""
    import orjson

    frames: list[bytes] = []
    places: list[tuple[int, int, int]] = []
    held: list[bytes] = []
    size = 0
    for entry in measured:
        text = entry.json or orjson.dumps(entry.document.text)
        end = size + len(text)
        if held and end > FRAME_BYTES:
            frames.append(packed(b"".join(held)))
            held, size, end = [], 0, len(text)
        places.append((len(frames), size, end))
        held.append(text)
        size = end
    if held:
        frames.append(packed(b"".join(held)))
    return frames, places


def _bad_row(row: BadRow, source: str) -> list[Any]:
    return [None, source, row.where, row.reason, row.size]


def _row(entry: Measured, place: tuple[int, int, int]) -> list[Any]:
    document = entry.document
    signals = None if entry.signals is None else list(entry.signals.values())
    own = [document.id, document.source, document.metadata, entry.bytes_read, entry.size, entry.is_blank, *place]
    own += (entry.language, signals)
    told = (entry.removed, entry.replaced, entry.reasons, entry.sealed, entry.labels, entry.telling, entry.hits)
    if entry.num_anchors or any(told):
        reasons = [[drop.rule, drop.threshold, drop.because] for drop in entry.reasons]
        sealed = [list(original) for original in entry.sealed]
        own += (entry.removed, entry.replaced, reasons, sealed, entry.labels, entry.telling, entry.hits)
        own += (entry.num_anchors, len(entry.anchors))
    return own


def read_part(path: Path) -> list[Entry] | None:
    """The entries of a part, their texts left where they are; None when there is none, or it is not as written."""
    import orjson
    import xxhash
    import zstandard

    try:
        whole = path.read_bytes()
    except OSError:
        return None
    data = memoryview(whole)
    if xxhash.xxh3_128_hexdigest(data[_DIGEST:]).encode() + b"\n" != data[:_DIGEST]:
        return None
    end = whole.index(b"\n", _DIGEST) + 1
    head = orjson.loads(data[_DIGEST:end])
    if head["version"] != _VERSION:
        return None
    ends = list(accumulate(head["sizes"], initial=end))
    packed, *blobs = (data[first:last] for first, last in zip(ends, ends[1:], strict=False))
    size = zstandard.frame_content_size(packed)
    rows = orjson.loads(zstandard.ZstdDecompressor().decompress(packed, max_output_size=max(size, 1)))
    frames = list(zip(accumulate(head["frames"], initial=ends[-1]), head["frames"], strict=False))
    return list(_entries(head["signals"], rows, frames, *map(bytes, blobs)))


def _entries(
    columns: list[str],
    rows: list[list[Any]],
    frames: list[tuple[int, int]],
    keys: bytes,
    signatures: bytes,
    anchors: bytes,
) -> Iterator[Entry]:
    documents = sum(row[0] is not None for row in rows)
    width = len(signatures) // max(documents, 1)
    number = reached = 0
    for row in rows:
        if row[0] is None:
            yield BadRow(row[2], row[3], row[4]), row[1]
            continue
        identity, source, metadata, bytes_read, size, is_blank, frame, first, last, language, values = row[:_PLAIN]
        entry = Measured(Document(identity, "", source, metadata), bytes_read, size, is_blank)
        entry.exact_key = keys[16 * number : 16 * (number + 1)]
        entry.language = language
        if values is not None:
            entry.signals = dict(zip(columns, values, strict=True))
        entry.signature = signatures[width * number : width * (number + 1)]
        begin, packed = frames[frame]
        entry.place = TextPlace(begin, packed, first, last)
        if len(row) > _PLAIN:
            entry.removed, entry.replaced, reasons, sealed, *told, entry.num_anchors, anchor_bytes = row[_PLAIN:]
            entry.labels, entry.telling, entry.hits = told
            entry.reasons = [Drop(*reason) for reason in reasons]
            entry.sealed = tuple([Sealed(*original) for original in sealed])
            entry.anchors = anchors[reached : reached + anchor_bytes]
            reached += anchor_bytes
        yield entry
        number += 1
