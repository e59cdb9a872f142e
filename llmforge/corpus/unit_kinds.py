"""What a worker is given to read: small frozen values that know which bytes they stand for.

`key` is a digest of what a unit reads (names, sizes, times of change, ranges, or the bytes themselves by XXH3), so
that a finished unit is recognised when the same command goes on; `bytes` is its share of the input on disk, for
progress (of the text where the input has no place on disk).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmforge.corpus.csv_rows import Table
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.files import FoundFile

Bytes = bytes  # the name is a field's too


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Whole files, which the worker opens itself."""

    key: str
    bytes: int
    files: tuple[FoundFile, ...]


@dataclass(frozen=True, slots=True)
class Blob:
    """All bytes of a file that lies in an archive, unpacked."""

    name: str
    format: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Blobs:
    """Small files of an archive, and those that could not be read, in their order."""

    key: str
    bytes: int
    items: tuple[Blob | BadRow, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a large file that ends where a row (line, record, paragraph) does.

    `first` is the number of its first row; `table` is there for CSV and TSV, whose `data` is UTF-8 whatever the file
    is; `known` is the encoding of earlier parts of a text.
    """

    key: str
    bytes: int
    name: str
    format: str
    first: int
    data: Bytes
    table: Table | None = None
    known: str | None = None


@dataclass(frozen=True, slots=True)
class RowGroups:
    """Row groups of a Parquet file; the first row of the first has the number `first`."""

    key: str
    bytes: int
    file: FoundFile
    groups: tuple[int, ...]
    first: int


@dataclass(frozen=True, slots=True)
class ReadyDocuments:
    """Documents that only one process can read: of a Hugging Face dataset, the built-in corpus, a packed Parquet."""

    key: str
    bytes: int
    documents: tuple[Document | BadRow, ...]


Unit = FileGroup | Blobs | Block | RowGroups | ReadyDocuments


def printable(name: str) -> str:
    """A file's name as text, whatever bytes it has."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def key_of_files(files: Iterable[FoundFile], *more: object) -> str:
    """The digest of which files, how large and how old, and of what else selects from them."""
    facts = [f"{file.name}\0{file.format}\0{file.size}\0{file.changed_ns}" for file in files]
    return _digest("\1".join([*facts, *map(str, more)]).encode("utf-8", "surrogateescape"))


def key_of_block(name: str, format: str, first: int, data: bytes, *more: object) -> str:
    """The digest of a piece of a file: where it stands and its bytes."""
    place = "\1".join(map(str, (name, format, first, *more)))
    return _digest(place.encode("utf-8", "surrogateescape"), data)


def key_of_documents(documents: Iterable[Document | BadRow]) -> str:
    """The digest of all that they hold."""
    parts: list[bytes] = []
    for document in documents:
        if isinstance(document, Document):
            words = (document.id, document.text, document.source, repr(document.metadata))
        else:
            words = ("", document.where, document.reason, str(document.size))
        parts.extend(word.encode("utf-8", "surrogatepass") for word in words)
    return _digest(*parts)


def _digest(*parts: bytes) -> str:
    import xxhash

    state = xxhash.xxh3_128()
    for part in parts:
        state.update(f"{len(part)}\0".encode())
        state.update(part)
    return state.hexdigest()
