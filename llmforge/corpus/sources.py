"""A source of the config to documents: files, folders and archives, Hugging Face datasets, and the built-in corpus, all
alike.

Ids are the row's own (`id_key`) or "<file below the path>#<row>". An id that comes again, of this source or of one read
before it, gets "~2", "~3" ...: no text is lost for it, and the same input gives the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.files import find_files
from llmforge.corpus.row_documents import Arrivals
from llmforge.corpus.rows import is_built_in
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.unit_reading import read_unit
from llmforge.corpus.units import plan_units
from llmforge.errors import DataError

OnBad = Callable[[BadRow], None]
OnNote = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SourceSize:
    """What a source holds before it is read: files and bytes on disk (None where that cannot be known), and the folders
    that the files of a path lie in.
    """

    files: int | None
    bytes: int | None
    folders: frozenset[Path] = frozenset()


def read_source(source: SourceConfig, on_bad: OnBad | None = None, on_note: OnNote | None = None) -> Iterator[Document]:
    """The documents of a source, in stable order: those of its units one after the other.

    A row without usable text goes to `on_bad`; without one it is a DataError that names file and row. A file that is
    cut short or damaged is always a DataError. `on_note` gets, once each, what was skipped, guessed or renamed.
    """
    arrivals = Arrivals(source)
    for unit in plan_units(source, on_note):
        for document in read_unit(unit, source):
            if isinstance(document, Document):
                arrivals.add(document)
                yield document
            else:
                (on_bad or _refuse)(document)
    for note in arrivals.notes():
        if on_note is not None:
            on_note(note)


def check_source(source: SourceConfig) -> SourceSize:
    """Raises DataError when there is nothing to read; reads no file."""
    if source.path is not None and is_built_in(source.path):
        from llmforge.corpus.python_docs.built_in import check

        return SourceSize(None, check(source.path))
    if source.path is not None:
        listing = find_files(source.path, source.format)
        return SourceSize(len(listing.files), listing.size, listing.folders)
    folder = Path(source.place).expanduser()
    if not folder.is_dir():
        if source.place.startswith(("/", ".", "~")) or source.place.count("/") > 1:
            raise DataError("does not exist", source.place, "dataset is a local folder or owner/name on the hub")
        return SourceSize(None, None)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if not sizes:
        raise DataError("holds no file", source.place)
    return SourceSize(len(sizes), sum(sizes))


def source_fingerprint(source: SourceConfig, with_path: bool = True) -> str:
    """SHA-256 of what would be read, without reading it: the settings and each file's name, size and time of change.

    A dataset on the hub counts by its name alone; the built-in corpus by the versions that it is made from. Without the
    path the same files, seen from anywhere, have one fingerprint.
    """
    settings = source.model_dump_json(exclude=None if with_path else {"path"})
    state = hashlib.sha256(settings.encode())
    state.update(source.html.chosen.encode())  # auto may stand for another library tomorrow
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
    raise DataError(row.reason, row.where, "mend or remove the row, or set the source's text_key")
