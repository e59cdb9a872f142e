"""The documents that passed the rules, on disk until duplicates are known: appended once, read by number.

Their texts stay in the parts; a row here says where. Memory holds `BYTES_A_DOCUMENT` of each document, scores and
anchors' counts where they are looked at.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from llmforge.cleaning.dedup.row_file import RowFile
from llmforge.cleaning.dedup.settings import DedupSettings
from llmforge.cleaning.part_texts import PartTexts
from llmforge.cleaning.parts import Measured, TextPlace
from llmforge.runtime.files import disk_errors

BYTES_A_DOCUMENT = 8 + 16 + 8 + 2 + 1  # end of its row, exact key, size, source, held out or not


@dataclass(frozen=True, slots=True)
class Survivor:
    """A document that passed: UTF-8 bytes of its text as read and as written (`size`), and where that lies."""

    id: str
    source: str
    metadata: dict[str, object]
    bytes_read: int
    size: int
    part: Path
    place: TextPlace


class Survivors:
    """A spill file of documents with what duplicates are found by: exact keys, signatures of `width`, anchors."""

    def __init__(self, folder: Path, width: int, dedup: DedupSettings) -> None:
        self._folder, self._width = folder, width
        names = ("survivors.jsonl", "signatures.bin", "anchors.bin")
        self._path, self._signature_path, self._anchor_path = (folder / name for name in names)
        with disk_errors(folder):
            self._out = self._path.open("wb", buffering=1 << 18)
            self._signatures = self._signature_path.open("wb", buffering=1 << 18)
            self._anchors = self._anchor_path.open("wb", buffering=1 << 18)
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
        for stream in (self._out, self._signatures, self._anchors):
            stream.close()

    def add(self, entry: Measured, part: Path, held_out: bool, score: float = 0.0) -> None:
        """Appends a document, whose text lies in `part`; its number is the count of those before."""
        import orjson

        if not self._parts or self._parts[-1] != part:
            self._parts.append(part)
        document = entry.document
        if document.source not in self._source_names:
            self._source_names.append(document.source)
        where = [len(self._parts) - 1, *entry.place]
        line = orjson.dumps([document.id, document.source, document.metadata, entry.bytes_read, entry.size, *where])
        with disk_errors(self._folder):
            self._out.write(line)
            self._signatures.write(entry.signature)
            self._anchors.write(entry.anchors)
        self._ends.append(self._ends[-1] + len(line))
        self._keys += entry.exact_key
        self._sources.append(self._source_names.index(document.source))
        if self.scores is not None:
            self.scores.append(score)
        if self.num_anchors is not None:
            self.num_anchors.append(entry.num_anchors)
        self.sizes.append(entry.size)
        self.held_out.append(held_out)

    def flush(self) -> None:
        """Makes all that was added readable."""
        with disk_errors(self._folder):
            for stream in (self._out, self._signatures, self._anchors):
                stream.flush()

    def read(self, number: int) -> Survivor:
        """One document; `flush` first."""
        import orjson

        begin, end = self._ends[number], self._ends[number + 1]
        identity, source, metadata, bytes_read, size, part, *place = orjson.loads(
            os.pread(self._handle, end - begin, begin)
        )
        return Survivor(identity, source, metadata, bytes_read, size, self._parts[part], TextPlace(*place))

    def __iter__(self) -> Iterator[Survivor]:
        return (self.read(number) for number in range(len(self)))

    def id(self, number: int) -> str:
        """A document's id."""
        return self.read(number).id

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
