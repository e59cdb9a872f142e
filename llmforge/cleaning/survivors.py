"""The documents that passed the rules, on disk until duplicates are known: appended once, read by number.

Memory holds some tens of bytes a document, not its text.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from llmforge.cleaning.parts import Measured
from llmforge.cleaning.pipeline import num_bytes
from llmforge.corpus.document import Document
from llmforge.runtime.files import disk_errors


class Survivors:
    """A spill file of documents with what duplicates are found by: exact keys, signatures of `width`, anchors."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder, self._width = folder, width
        names = ("survivors.jsonl", "signatures.bin", "anchors.bin")
        self._path, self._signature_path, self._anchor_path = (folder / name for name in names)
        with disk_errors(folder):
            self._out = self._path.open("wb", buffering=1 << 18)
            self._signatures = self._signature_path.open("wb", buffering=1 << 18)
            self._anchors = self._anchor_path.open("wb", buffering=1 << 18)
        self._handle = os.open(self._path, os.O_RDONLY)
        self._ends = array("Q", [0])
        self._keys = bytearray()
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.scores = array("d")  # by which the better of two copies is told
        self.num_anchors = array("q")
        self.bytes_read = array("Q")  # UTF-8 bytes of each document's text as it came in
        self.sizes = array("Q")  # and as it goes out

    def __len__(self) -> int:
        return len(self.ids)

    def __enter__(self) -> Survivors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)
        for stream in (self._out, self._signatures, self._anchors):
            stream.close()

    def add(self, entry: Measured, score: float) -> None:
        """Appends a document; its number is the count of those before."""
        import orjson

        document = entry.document
        line = orjson.dumps([document.id, document.text, document.source, document.metadata])
        with disk_errors(self._folder):
            self._out.write(line)
            self._signatures.write(entry.signature)
            self._anchors.write(entry.anchors)
        self._ends.append(self._ends[-1] + len(line))
        self._keys += entry.exact_key
        self.ids.append(document.id)
        self.sources.append(sys.intern(document.source))
        self.scores.append(score)
        self.num_anchors.append(entry.num_anchors)
        self.bytes_read.append(entry.bytes_read)
        self.sizes.append(num_bytes(document.text))

    def flush(self) -> None:
        """Makes all that was added readable."""
        with disk_errors(self._folder):
            for stream in (self._out, self._signatures, self._anchors):
                stream.flush()

    def read(self, number: int) -> Document:
        """One document; `flush` first."""
        import orjson

        begin, end = self._ends[number], self._ends[number + 1]
        return Document(*orjson.loads(os.pread(self._handle, end - begin, begin)))

    def __iter__(self) -> Iterator[Document]:
        return (self.read(number) for number in range(len(self)))

    def exact_keys(self) -> Any:
        """(documents, 16) uint8."""
        import numpy as np

        from llmforge.cleaning.dedup.exact import KEY_BYTES

        return np.frombuffer(bytes(self._keys), dtype=np.uint8).reshape(len(self), KEY_BYTES)

    def anchors(self) -> Any:
        """The anchors of all documents, one behind the other, mapped from the file."""
        import numpy as np

        from llmforge.cleaning.dedup.anchors import ANCHOR

        count = sum(self.num_anchors)
        return np.memmap(self._anchor_path, dtype=ANCHOR, mode="r", shape=(count,)) if count else np.empty(0, ANCHOR)

    def signatures(self) -> Any:
        """All signatures, (documents, width), mapped from the file."""
        import numpy as np

        if not len(self) or not self._width:
            return np.empty((0, self._width), dtype=np.uint32)
        return np.memmap(self._signature_path, dtype=np.uint32, mode="r", shape=(len(self), self._width))
