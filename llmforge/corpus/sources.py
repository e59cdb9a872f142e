"""A source of the config to documents: files and folders, Hugging Face datasets, and the built-in corpus, all alike.

Ids are the row's own (`id_key`) or "<file below the path>#<row>". An own id that comes again gets "~2", "~3" ...: no
text is lost for it, and the same input gives the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from llmforge.config.schema import Config
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.files import Listing, find_files
from llmforge.corpus.hf_dataset import DatasetName, is_saved, read_dataset
from llmforge.corpus.plain_values import plain_fields
from llmforge.corpus.rows import is_built_in, read_file
from llmforge.errors import DataError

OnBad = Callable[[BadRow], None]
OnNote = Callable[[str], None]
Format = Literal["auto", "text", "markdown", "html", "jsonl", "json", "parquet"]


class SourceConfig(Config):
    """Where text comes from: exactly one of `path` and `dataset`."""

    name: str = Field("", description="what documents of this source are called; the path's last part when empty")
    path: str | None = Field(None, description="a file, folder or pattern, or python-docs, the built-in corpus")
    dataset: str | None = Field(None, description="a Hugging Face dataset: a local folder or a name on the hub")
    format: Format = Field("auto", description="how files are read; auto goes by each file's suffix")
    text_key: str = Field("text", min_length=1, description="the field of a row that holds the text")
    id_key: str | None = Field(None, description="the field that holds a row's own id; file and row when not given")
    license: str | None = Field(None, description="kept with each document that names none of its own")
    subset: str | None = Field(None, description="of a dataset on the hub")
    split: str = Field("train", min_length=1, description="of a dataset")
    streaming: bool = Field(False, description="read a dataset on the hub row by row, without a download first")

    @model_validator(mode="after")
    def _one_place(self) -> SourceConfig:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("needs exactly one of path and dataset")
        if not (self.path or self.dataset):
            raise ValueError("path or dataset is empty")
        return self

    @property
    def place(self) -> str:
        """The path or the dataset's name."""
        return self.path or self.dataset or ""

    @property
    def label(self) -> str:
        """`name`, or the last part of the place."""
        return self.name or Path(self.place).name or self.place


@dataclass(frozen=True, slots=True)
class SourceSize:
    """What a source holds before it is read: files and bytes on disk; None where that cannot be known."""

    files: int | None
    bytes: int | None


def read_source(source: SourceConfig, on_bad: OnBad | None = None, on_note: OnNote | None = None) -> Iterator[Document]:
    """The documents of a source, in stable order.

    A row without usable text goes to `on_bad`; without one it is a DataError that names file and row. A file that is
    cut short or damaged is always a DataError. `on_note` gets, once each, what was skipped or renamed.
    """
    if source.path is not None and is_built_in(source.path):
        from llmforge.corpus.python_docs.built_in import read_documents

        yield from read_documents(source.path, on_note)
        return
    reading = _Reading(source, on_bad or _refuse, on_note or _ignore)
    yield from reading.dataset() if source.dataset else reading.files()


def check_source(source: SourceConfig) -> SourceSize:
    """Raises DataError when there is nothing to read; reads no file."""
    if source.path is not None and is_built_in(source.path):
        from llmforge.corpus.python_docs.built_in import check

        return SourceSize(None, check(source.path))
    if source.path is not None:
        listing = find_files(source.path, source.format)
        return SourceSize(len(listing.files), listing.size)
    folder = Path(source.place).expanduser()
    if not folder.is_dir():
        if source.place.startswith(("/", ".", "~")) or source.place.count("/") > 1:
            raise DataError("does not exist", source.place, "dataset is a local folder or owner/name on the hub")
        return SourceSize(None, None)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if not sizes:
        raise DataError("holds no file", source.place)
    return SourceSize(len(sizes), sum(sizes))


def source_fingerprint(source: SourceConfig) -> str:
    """SHA-256 of what would be read, without reading it: the settings and each file's name, size and time of change.

    A dataset on the hub counts by its name alone; the built-in corpus by the versions that it is made from.
    """
    state = hashlib.sha256(source.model_dump_json().encode())
    if source.path is not None and is_built_in(source.path):
        from llmforge.corpus.python_docs.built_in import fingerprint

        state.update(fingerprint().encode())
    elif source.path is not None:
        for file in find_files(source.path, source.format).files:
            state.update(f"{file.name}\0{file.size}\0{file.changed_ns}\0".encode("utf-8", "surrogateescape"))
    else:
        folder = Path(source.place).expanduser()
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            facts = path.stat()
            state.update(f"{path.relative_to(folder)}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return state.hexdigest()


def _refuse(row: BadRow) -> None:
    raise DataError(row.reason, row.where, "mend or remove the row, or set text_key")


def _ignore(note: str) -> None:
    return


class _Reading:
    """One pass over a source; holds the own ids seen so far as 64-bit hashes."""

    def __init__(self, source: SourceConfig, on_bad: OnBad, on_note: OnNote) -> None:
        self._source = source
        self._on_bad = on_bad
        self._on_note = on_note
        self._seen: set[bytes] = set()
        self._renamed = 0

    def files(self) -> Iterator[Document]:
        listing = find_files(self._source.place, self._source.format)
        self._say_skipped(listing)
        for file in listing.files:
            name = file.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            for number, row in read_file(file):
                document = self._document(row, name, number)
                if document is not None:
                    yield document
        self._say_renamed()

    def dataset(self) -> Iterator[Document]:
        source = self._source
        name = Path(source.place).name if is_saved(Path(source.place)) else source.place
        for number, row in read_dataset(DatasetName(source.place, source.subset, source.split, source.streaming)):
            document = self._document(row, f"{name}/{source.split}", number)
            if document is not None:
                yield document
        self._say_renamed()

    def _document(self, row: dict[str, object] | BadRow, file: str, number: int) -> Document | None:
        where = f"{file}:{number}"
        if isinstance(row, BadRow):
            self._on_bad(row)
            return None
        source = self._source
        text = row.pop(source.text_key, None)
        if not isinstance(text, str):
            self._on_bad(BadRow(where, _why_no_text(source.text_key, text, row), len(str(text or ""))))
            return None
        if not _encodes(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        metadata = _metadata(row, file, number)
        if source.license is not None:
            metadata.setdefault("license", source.license)
        return Document(self._id(row, file, number), text, source.label, metadata)

    def _id(self, row: dict[str, object], file: str, number: int) -> str:
        key = self._source.id_key
        own = row.get(key) if key is not None else None
        if own is None or own == "" or isinstance(own, dict | list):
            return f"{file}#{number}"
        wanted = str(own)
        unique, copies = wanted, 1
        while (mark := hashlib.blake2b(unique.encode("utf-8", "replace"), digest_size=8).digest()) in self._seen:
            copies += 1
            unique = f"{wanted}~{copies}"
        self._seen.add(mark)
        self._renamed += copies > 1
        return unique

    def _say_skipped(self, listing: Listing) -> None:
        if listing.skipped:
            counts = ", ".join(f"{count} {suffix}" for suffix, count in listing.skipped.items())
            self._on_note(f"{self._source.label}: files of unknown kind are skipped: {counts}")

    def _say_renamed(self) -> None:
        if self._renamed:
            self._on_note(f"{self._source.label}: {self._renamed} ids came more than once; copies are named id~2 ...")


def _metadata(row: dict[str, object], file: str, number: int) -> dict[str, object]:
    """The row's other fields with its place; an own field called file or row is kept as file_ or row_."""
    fields = plain_fields(row)
    for key in ("file", "row"):
        if key in fields:
            fields[f"{key}_"] = fields.pop(key)
    return {"file": file, "row": number, **fields}


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _why_no_text(key: str, value: object, others: dict[str, object]) -> str:
    if value is not None:
        kind = {list: "a list", dict: "an object", bool: "a truth value", bytes: "bytes"}.get(type(value), "a number")
        return f"its field {key!r} is {kind}, not text"
    names = ", ".join(sorted(map(str, others))[:8])
    return f"it has no text in field {key!r} (other fields: {names or 'none'})"
