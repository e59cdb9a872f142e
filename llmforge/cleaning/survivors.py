"""The documents that passed the rules, on disk until duplicates are known: appended once, read by number.

Their texts stay in the parts; a row here says where. Memory holds `BYTES_A_DOCUMENT` of each document, scores and
anchors' counts where they are looked at.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from llmforge.cleaning.dedup.row_file import RowFile
from llmforge.cleaning.dedup.settings import DedupSettings
from llmforge.cleaning.part_texts import PartTexts
from llmforge.cleaning.parts import Measured, TextPlace
from llmforge.corpus.folder import StoredLine, around_text
from llmforge.runtime.files import disk_errors

BYTES_A_DOCUMENT = 8 + 16 + 8 + 2 + 1  # end of its row, exact key, size, source, held out or not
_BLOCK_BYTES = 1 << 16  # that are written or read at once
_ROW = struct.Struct("<8Q")  # bytes read, bytes, part, four of the text's place, length of what stands before the text


@dataclass(frozen=True, slots=True)
class Survivor:
    """A document that passed: UTF-8 bytes of its text as read and as written (`size`), and where that lies.

    `start` and `rest` are what stands before and behind the text in its line of the corpus.
    """

    source: str
    bytes_read: int
    size: int
    part: Path
    place: TextPlace
    start: bytes
    rest: bytes

    def stored(self, text: bytes) -> StoredLine:
        """The document with its text, a JSON string."""
        return StoredLine(self.start, text, self.rest, self.size)

    @property
    def id(self) -> str:
        """Of the document."""
        import orjson

        found: str = orjson.loads(self.start + b"0}")["id"]
        return found

    @property
    def metadata(self) -> dict[str, object]:
        """Of the document."""
        return self.stored(b'""').document().metadata


class Survivors:
    """A spill file of documents with what duplicates are found by: exact keys, signatures of `width`, anchors."""

    def __init__(self, folder: Path, width: int, dedup: DedupSettings) -> None:
        self._folder, self._width = folder, width
        names = ("survivors.bin", "signatures.bin", "anchors.bin")
        self._path, self._signature_path, self._anchor_path = (folder / name for name in names)
        with disk_errors(folder):
            paths = (self._path, self._signature_path, self._anchor_path)
            self._streams = [path.open("wb") for path in paths]
        self._rows: list[bytes] = []  # these three are not written yet
        self._signatures: list[bytes] = []
        self._anchors: list[bytes] = []
        self._held = 0  # bytes of them
        self._handle = os.open(self._path, os.O_RDONLY)
        self.texts = PartTexts()
        self._parts: list[Path] = []
        self._source_names: list[str] = []
        self._ends = array("Q", [0])
        self._keys = bytearray()
        self._sources = array("H")
        self.scores = array("d") if dedup.keep == "score" else None  # by which the better of two copies is told
        self.num_anchors = array("q") if dedup.substring is not None else None
        self.sizes = array("Q")  # UTF-8 bytes of each document's text as it goes out
        self.held_out = bytearray()  # 1 for what its id puts into the validation split

    def __len__(self) -> int:
        return len(self.sizes)

    def __enter__(self) -> Survivors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)
        for stream in self._streams:
            stream.close()

    def add(self, entry: Measured, part: Path, held_out: bool, score: float = 0.0) -> None:
        """Appends a document, whose text lies in `part`; its number is the count of those before."""
        if not self._parts or self._parts[-1] != part:
            self._parts.append(part)
        document = entry.document
        if document.source not in self._source_names:
            self._source_names.append(document.source)
        start, rest = around_text(document.id, document.source, document.metadata)
        row = _ROW.pack(entry.bytes_read, entry.size, len(self._parts) - 1, *entry.place, len(start))
        self._rows += (row, start, rest)
        self._signatures.append(entry.signature)
        self._anchors.append(entry.anchors)
        size = len(row) + len(start) + len(rest)
        self._ends.append(self._ends[-1] + size)
        self._keys += entry.exact_key
        self._sources.append(self._source_names.index(document.source))
        if self.scores is not None:
            self.scores.append(score)
        if self.num_anchors is not None:
            self.num_anchors.append(entry.num_anchors)
        self.sizes.append(entry.size)
        self.held_out.append(held_out)
        self._held += size + len(entry.signature) + len(entry.anchors)
        if self._held >= _BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Makes all that was added readable."""
        held = (self._rows, self._signatures, self._anchors)
        with disk_errors(self._folder):
            for stream, pieces in zip(self._streams, held, strict=True):
                stream.write(b"".join(pieces))
                stream.flush()
                pieces.clear()
        self._held = 0

    def read(self, number: int) -> Survivor:
        """One document; `flush` first."""
        begin, end = self._ends[number], self._ends[number + 1]
        return self._survivor(number, os.pread(self._handle, end - begin, begin))

    def _survivor(self, number: int, row: bytes) -> Survivor:
        bytes_read, size, part, frame, packed, first, last, length = _ROW.unpack_from(row)
        place, text = TextPlace(frame, packed, first, last), _ROW.size + length
        parts = self._parts[part], place, row[_ROW.size : text], row[text:]
        return Survivor(self.source(number), bytes_read, size, *parts)

    def __iter__(self) -> Iterator[Survivor]:
        """All documents in order, some hundreds read at a time."""
        ends, first = self._ends, 0
        while first < len(self):
            begin = ends[first]
            last = max(first + 1, bisect_right(ends, begin + _BLOCK_BYTES) - 1)
            block = os.pread(self._handle, ends[last] - begin, begin)
            for number in range(first, last):
                yield self._survivor(number, block[ends[number] - begin : ends[number + 1] - begin])
            first = last

    def id(self, number: int) -> str:
        """A document's id."""
        return self.read(number).id

    def place(self, number: int) -> tuple[Path, TextPlace]:
        """The part that a document's text lies in, and where."""
        survivor = self.read(number)
        return survivor.part, survivor.place

    def source(self, number: int) -> str:
        """A document's source."""
        return self._source_names[self._sources[number]]

    def packed_text(self, survivor: Survivor) -> bytes:
        """A document's text as a JSON string."""
        return self.texts.packed(survivor.part, survivor.place)

    def text(self, number: int) -> str:
        """A document's text."""
        survivor = self.read(number)
        return self.texts.text(survivor.part, survivor.place)

    def exact_keys(self) -> Any:
        """(documents, 16) uint8, not copied: nothing can be added while it is used."""
        import numpy as np

        from llmforge.cleaning.dedup.exact import KEY_BYTES

        return np.frombuffer(self._keys, dtype=np.uint8).reshape(len(self), KEY_BYTES)

    def anchors(self) -> Any:
        """The anchors of all documents, one behind the other, mapped from the file."""
        import numpy as np

        from llmforge.cleaning.dedup.anchors import ANCHOR

        count = sum(self.num_anchors or ())
        return np.memmap(self._anchor_path, dtype=ANCHOR, mode="r", shape=(count,)) if count else np.empty(0, ANCHOR)

    def signatures(self) -> RowFile:
        """All signatures, (documents, width) uint32, read from the file as they are asked for."""
        return RowFile(self._signature_path, len(self) if self._width else 0, self._width)
