"""The documents that passed the rules, on disk until duplicates are known: appended once, read by number.

Memory holds some tens of bytes a document, not its text.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from llmforge.cleaning.pipeline import num_bytes
from llmforge.corpus.document import Document
from llmforge.runtime.files import disk_errors


class Survivors:
    """A spill file of documents with their ids, sizes as read, exact keys and (uint32) signatures of `width` each."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder, self._width = folder, width
        self._path = folder / "survivors.jsonl"
        self._signature_path = folder / "signatures.bin"
        with disk_errors(folder):
            self._out = self._path.open("wb", buffering=1 << 18)
            self._signatures = self._signature_path.open("wb", buffering=1 << 18)
        self._handle = os.open(self._path, os.O_RDONLY)
        self._ends = array("Q", [0])
        self.ids: list[str] = []
        self.keys: list[str] = []  # of exact duplicates; "" where they are not looked for
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
        self._out.close()
        self._signatures.close()

    def add(self, document: Document, bytes_read: int, key: str, signature: bytes) -> None:
        """Appends a document; its number is the count of those before."""
        import orjson

        line = orjson.dumps([document.id, document.text, document.source, document.metadata])
        with disk_errors(self._folder):
            self._out.write(line)
            self._signatures.write(signature)
        self._ends.append(self._ends[-1] + len(line))
        self.ids.append(document.id)
        self.keys.append(key)
        self.bytes_read.append(bytes_read)
        self.sizes.append(num_bytes(document.text))

    def flush(self) -> None:
        """Makes all that was added readable."""
        with disk_errors(self._folder):
            self._out.flush()
            self._signatures.flush()

    def read(self, number: int) -> Document:
        """One document; `flush` first."""
        import orjson

        begin, end = self._ends[number], self._ends[number + 1]
        return Document(*orjson.loads(os.pread(self._handle, end - begin, begin)))

    def __iter__(self) -> Iterator[Document]:
        return (self.read(number) for number in range(len(self)))

    def signatures(self) -> Any:
        """All signatures, (documents, width), mapped from the file."""
        import numpy as np

        if not len(self) or not self._width:
            return np.empty((0, self._width), dtype=np.uint32)
        return np.memmap(self._signature_path, dtype=np.uint32, mode="r", shape=(len(self), self._width))
