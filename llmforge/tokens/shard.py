"""One shard: the ids of whole documents in a row, and beside it an index of the documents.

    train-00000.bin   64 bytes of header, then the ids as little-endian uint16 or uint32
    train-00000.idx   64 bytes of header, then for n documents: n+1 starts (uint64, in tokens), n lengths of the text
                      in bytes (uint64), n+1 offsets into the ids (uint64), n numbers of the source (uint32), n
                      numbers of the label (uint32, 0: none; not in version 1), and the documents' ids as UTF-8

Both are memory-mapped. The headers carry magic, format version, width of an id, the shard's number, its counts and the
digest of the vocabulary, so that a cut, foreign or misplaced file is refused by its name.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.errors import DamagedError
from llmforge.runtime.files import disk_errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 2
_WITHOUT_LABELS = 1
_TOKENS_MAGIC, _INDEX_MAGIC = b"LFTOKENS", b"LFTINDEX"
# magic, version, bytes of an id, number of the shard, tokens, documents, first 24 bytes of the vocabulary's digest
_HEADER = struct.Struct("<8sHHIQQ24s8x")
_AGAIN = "run llmforge tokenize again"


def width_of(vocab_size: int) -> int:
    """Bytes of an id on the disk: 2 while they all fit."""
    return 2 if vocab_size <= 1 << 16 else 4


def _digest_bytes(digest: str) -> bytes:
    return bytes.fromhex(digest)[:24]


@dataclass
class ShardContent:
    """Documents on their way to the disk: their ids one behind the other, and a row of facts for each."""

    tokens: NDArray[np.unsignedinteger]
    lengths: Sequence[int]  # tokens of each document
    text_bytes: Sequence[int]
    names: Sequence[str]
    sources: Sequence[int]
    labels: Sequence[int]


def write_shard(stem: Path, number: int, content: ShardContent, digest: str) -> None:
    """Writes `<stem>.bin` and `<stem>.idx`."""
    import numpy as np

    width = content.tokens.dtype.itemsize
    count = len(content.lengths)
    head = (VERSION, width, number, len(content.tokens), count, _digest_bytes(digest))
    starts = np.zeros(count + 1, dtype="<u8")
    np.cumsum(np.asarray(content.lengths, dtype=np.uint64), out=starts[1:])
    blobs = [name.encode("utf-8", "surrogatepass") for name in content.names]
    offsets = np.zeros(count + 1, dtype="<u8")
    np.cumsum(np.asarray([len(blob) for blob in blobs], dtype=np.uint64), out=offsets[1:])
    with disk_errors(stem.parent):
        with stem.with_suffix(".bin").open("wb") as stream:
            stream.write(_HEADER.pack(_TOKENS_MAGIC, *head))
            stream.write(content.tokens.astype(f"<u{width}", copy=False).tobytes())
        with stem.with_suffix(".idx").open("wb") as stream:
            stream.write(_HEADER.pack(_INDEX_MAGIC, *head))
            for column in (starts, np.asarray(content.text_bytes, dtype="<u8"), offsets):
                stream.write(column.tobytes())
            for numbers in (content.sources, content.labels):
                stream.write(np.asarray(numbers, dtype="<u4").tobytes())
            stream.write(b"".join(blobs))


class Shard:
    """An open shard: `tokens` (its ids), `starts` (documents + 1), `text_bytes`, `sources`, `labels`; `name(i)`."""

    def __init__(self, stem: Path, number: int, digest: str) -> None:
        """Opens and checks the two files.

        Raises:
            DamagedError: a file is missing, cut, of another place or made with another vocabulary.
        """
        import numpy as np

        self.path = stem.with_suffix(".bin")
        index = stem.with_suffix(".idx")
        version, width, tokens, documents = _read_header(self.path, _TOKENS_MAGIC, number, digest)
        if (version, width, tokens, documents) != _read_header(index, _INDEX_MAGIC, number, digest):
            raise DamagedError("the index belongs to another shard", index, _AGAIN)
        _check_size(self.path, _HEADER.size + width * tokens)
        self.tokens = _mapped(self.path, f"<u{width}", _HEADER.size, tokens)
        at = _HEADER.size
        self.starts = _mapped(index, "<u8", at, documents + 1)
        self.text_bytes = _mapped(index, "<u8", at := at + 8 * (documents + 1), documents)
        self._offsets = _mapped(index, "<u8", at := at + 8 * documents, documents + 1)
        self.sources = _mapped(index, "<u4", at := at + 8 * (documents + 1), documents)
        at += 4 * documents
        self.labels = np.zeros(documents, dtype="<u4")
        if version != _WITHOUT_LABELS:
            self.labels = _mapped(index, "<u4", at, documents)
            at += 4 * documents
        self._names_at = at
        self._index = index
        _check_size(index, self._names_at + int(self._offsets[-1]))
        if int(self.starts[-1]) != tokens or not bool(np.all(self.starts[:-1] <= self.starts[1:])):
            raise DamagedError("the documents do not add up to the shard's tokens", index, _AGAIN)

    def name(self, document: int) -> str:
        """The id of a document, by its place in the shard."""
        start, stop = int(self._offsets[document]), int(self._offsets[document + 1])
        with self._index.open("rb") as stream:
            stream.seek(self._names_at + start)
            return stream.read(stop - start).decode("utf-8", "surrogatepass")


def _mapped(path: Path, dtype: str, at: int, count: int) -> NDArray[np.unsignedinteger]:
    import numpy as np

    if path.stat().st_size < at + count * np.dtype(dtype).itemsize:
        raise DamagedError("the file is cut off", path, _AGAIN)
    if count == 0:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=at, shape=(count,))


def _check_size(path: Path, expected: int) -> None:
    found = path.stat().st_size
    if found != expected:
        raise DamagedError(f"the file has {found} bytes, its header says {expected}", path, _AGAIN)


def _read_header(path: Path, magic: bytes, number: int, digest: str) -> tuple[int, int, int, int]:
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEADER.size)
    except OSError as error:
        raise DamagedError(f"the shard cannot be read: {error.strerror}", path, _AGAIN) from error
    if len(head) < _HEADER.size or head[:8] != magic:
        raise DamagedError("not a token shard of llmforge", path, _AGAIN)
    _, version, width, found, tokens, documents, vocabulary = _HEADER.unpack(head)
    if version not in (_WITHOUT_LABELS, VERSION) or width not in (2, 4):
        raise DamagedError(f"format version {version}, {VERSION} is known", path, _AGAIN)
    if vocabulary != _digest_bytes(digest):
        raise DamagedError("the shard was made with another tokenizer", path, _AGAIN)
    if found != number:
        raise DamagedError(f"this is shard {found} of its split, in the place of shard {number}", path, _AGAIN)
    return version, width, tokens, documents
