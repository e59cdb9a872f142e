"""Rows of any data file, or of the built-in corpus by name, with the place of each: what fine-tuning and evaluation
read.

Knows nothing of what the fields mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmforge.corpus.archives import MAX_MEMBER_BYTES, Archive
from llmforge.corpus.compressed import Readable
from llmforge.corpus.csv_rows import read_csv, read_tsv
from llmforge.corpus.document import BadRow
from llmforge.corpus.docx_text import read_docx
from llmforge.corpus.epub_text import read_epub
from llmforge.corpus.files import ARCHIVES, FoundFile, Listing, find_files
from llmforge.corpus.html_extractors import Extractor
from llmforge.corpus.json_rows import read_json, read_json_lines
from llmforge.corpus.parquet_rows import read_parquet
from llmforge.corpus.pdf_text import read_pdf
from llmforge.corpus.text_files import read_html, read_markdown, read_text
from llmforge.corpus.warc_rows import read_warc
from llmforge.errors import DataError

Row = tuple[int, "dict[str, object] | BadRow"]
READERS: dict[str, Callable[[Readable, str], Iterator[Row]]] = {
    "text": read_text,
    "markdown": read_markdown,
    "jsonl": read_json_lines,
    "json": read_json,
    "parquet": read_parquet,
    "pdf": read_pdf,
    "epub": read_epub,
    "docx": read_docx,
}
PAGE_READERS: dict[str, Callable[[Readable, str, Extractor], Iterator[Row]]] = {"html": read_html, "warc": read_warc}
TABLE_READERS: dict[str, Callable[[Readable, str, str | None], Iterator[Row]]] = {"csv": read_csv, "tsv": read_tsv}
TABLES = ("jsonl", "json", "csv", "tsv", "parquet")
BUILT_IN = "python-docs"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the readers of some formats have to be told."""

    extractor: Extractor = "fast"
    delimiter: str | None = None


def is_built_in(path: str) -> bool:
    """True for the built-in corpus's name, with or without a part (a folder of that name is ./python-docs)."""
    return path.partition(":")[0] == BUILT_IN


def read_as(format: str, what: Readable, where: str, reading: Reading) -> Iterator[Row]:
    """(row number from 1, fields or BadRow) of one file or of its bytes."""
    if format in PAGE_READERS:
        return PAGE_READERS[format](what, where, reading.extractor)
    if format in TABLE_READERS:
        return TABLE_READERS[format](what, where, reading.delimiter)
    return READERS[format](what, where)


def read_file(file: FoundFile) -> Iterator[Row]:
    """(row number from 1, fields or BadRow) of one file, by its format."""
    return read_as(file.format, file.path, file.name, Reading())


def read_rows(path: str) -> Iterator[tuple[dict[str, object], str]]:
    """(row, "file:row") of the JSONL, JSON, CSV, TSV or Parquet files at `path` (a file, folder or pattern, also
    compressed); where it has none, of those in its zip and tar files.

    `path` may also be `python-docs` (its documents) or one of its parts: `python-docs:conversations`,
    `:conversations-heldout`, `:choices`, `:questions`. Raises DataError at the first bad row, by file and row.
    """
    if is_built_in(path):
        from llmforge.corpus.python_docs.built_in import read_part

        yield from read_part(path)
        return
    listing = find_files(path)
    tables = [file for file in listing.files if file.format in TABLES]
    files = [(file.name, read_file(file)) for file in tables]
    for name, rows in files or _packed_tables(listing, path):
        for number, row in rows:
            if isinstance(row, BadRow):
                raise DataError(row.reason, row.where)
            yield row, f"{name}:{number}"


def _packed_tables(listing: Listing, path: str) -> Iterator[tuple[str, Iterator[Row]]]:
    """(name, rows) of each file of rows in the archives, hidden members and those of other kinds left out."""
    none = True
    for file in listing.files:
        for member in Archive(file, file.name, "auto", Counter()).members() if file.format in ARCHIVES else ():
            if isinstance(member, BadRow):
                raise DataError(member.reason, member.where)
            if member.format not in TABLES:
                continue
            none = False
            data = member.stream.read(MAX_MEMBER_BYTES + 1)
            if len(data) > MAX_MEMBER_BYTES:
                raise DataError(f"is larger than {MAX_MEMBER_BYTES >> 20} MiB", member.name, "unpack the archive first")
            yield member.name, read_as(member.format, data, member.name, Reading())
    if none:
        hint = "rows are read from .jsonl, .json, .csv, .tsv and .parquet files, and from zip and tar files of them"
        raise DataError("holds no rows", path, hint)
