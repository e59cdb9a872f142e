"""Rows of any data file, or of the built-in corpus by name, with the place of each: what fine-tuning and evaluation
read.

Knows nothing of what the fields mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from llmforge.corpus.document import BadRow
from llmforge.corpus.files import FoundFile, find_files
from llmforge.corpus.json_rows import read_json, read_json_lines
from llmforge.corpus.parquet_rows import read_parquet
from llmforge.corpus.text_files import read_html, read_markdown, read_text
from llmforge.errors import DataError

Row = tuple[int, "dict[str, object] | BadRow"]
READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    "text": read_text,
    "markdown": read_markdown,
    "html": read_html,
    "jsonl": read_json_lines,
    "json": read_json,
    "parquet": read_parquet,
}
TABLES = ("jsonl", "json", "parquet")
BUILT_IN = "python-docs"


def is_built_in(path: str) -> bool:
    """True for the built-in corpus's name, with or without a part (a folder of that name is ./python-docs)."""
    return path.partition(":")[0] == BUILT_IN


def read_file(file: FoundFile) -> Iterator[Row]:
    """(row number from 1, fields or BadRow) of one file, by its format."""
    return READERS[file.format](file.path, file.name)


def read_rows(path: str) -> Iterator[tuple[dict[str, object], str]]:
    """(row, "file:row") of the JSONL, JSON or Parquet files at `path` (a file, folder or pattern, also compressed).

    `path` may also be `python-docs` (its documents) or one of its parts: `python-docs:conversations`,
    `:conversations-heldout`, `:choices`, `:questions`. Raises DataError at the first bad row, by file and row.
    """
    if is_built_in(path):
        from llmforge.corpus.python_docs.built_in import read_part

        yield from read_part(path)
        return
    listing = find_files(path)
    files = [file for file in listing.files if file.format in TABLES]
    if not files:
        raise DataError("holds no rows", path, "rows are read from .jsonl, .json and .parquet files")
    for file in files:
        for number, row in read_file(file):
            if isinstance(row, BadRow):
                raise DataError(row.reason, row.where)
            yield row, f"{file.name}:{number}"
