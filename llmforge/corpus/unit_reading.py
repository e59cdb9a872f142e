"""A unit of work to documents, in whatever process; `units.py` plans them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmforge.corpus.csv_rows import parse_table
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.extras import version_of
from llmforge.corpus.json_rows import parse_lines
from llmforge.corpus.parquet_rows import read_parquet
from llmforge.corpus.row_documents import RowDocuments
from llmforge.corpus.rows import TABLES, Reading, Row, read_as
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.text_files import markdown_rows, text_row
from llmforge.corpus.unit_kinds import Blobs, Block, FileGroup, ReadyDocuments, RowGroups, Unit, printable
from llmforge.corpus.warc_rows import read_warc
from llmforge.errors import DataError


def read_unit(unit: Unit, source: SourceConfig, forgiving: bool = False) -> list[Document | BadRow]:
    """The documents of a unit in order, own ids as they are (`Arrivals` makes them unique), bad rows among them.

    `forgiving` makes of a damaged file a bad row in its place, behind what could be read of it.

    Raises:
        DataError: a file is cut short or damaged.
        MachineError: a library that it needs is not installed.
    """
    if isinstance(unit, ReadyDocuments):
        return list(unit.documents)
    maker = RowDocuments(source)
    found: list[Document | BadRow] = []
    for file in _files(unit, reading_of(source)):
        if isinstance(file, BadRow):
            found.append(file)
            continue
        try:
            # One by one: what stands before a damage is kept.
            for number, row in file.rows:
                found.append(maker.document(row, file.name, number, file.format in TABLES))
        except DataError as error:
            if not forgiving:
                raise
            found.append(damaged(error, file.name, file.size))
    return found


@dataclass(frozen=True, slots=True)
class _File:
    """A file or a part of one to read; nothing of it is read before its rows are gone through."""

    name: str
    format: str
    size: int
    rows: Iterator[Row]


def _files(unit: FileGroup | Blobs | Block | RowGroups, reading: Reading) -> Iterator[_File | BadRow]:
    if isinstance(unit, Block):
        yield _File(unit.name, unit.format, len(unit.data), _block_rows(unit, reading))
    elif isinstance(unit, RowGroups):
        name = printable(unit.file.name)
        yield _File(name, "parquet", unit.bytes, read_parquet(unit.file.path, name, unit.groups, unit.first))
    elif isinstance(unit, FileGroup):
        for file in unit.files:
            name = printable(file.name)
            yield _File(name, file.format, file.size, read_as(file.format, file.path, name, reading))
    else:
        for item in unit.items:
            if isinstance(item, BadRow):
                yield item
            else:
                rows = read_as(item.format, item.data, item.name, reading)
                yield _File(item.name, item.format, len(item.data), rows)


def reading_of(source: SourceConfig) -> Reading:
    """How files of a source are read."""
    return Reading(source.html.chosen, source.delimiter)


def read_by(source: SourceConfig) -> str:
    """Which libraries of this machine find the text in a source's files: others may find another text."""
    extractor = source.html.chosen
    libraries = ["chardet", "pypdfium2", "selectolax", *([extractor] if extractor != "fast" else [])]
    return " ".join([extractor, *map(version_of, libraries)])


def _block_rows(block: Block, reading: Reading) -> Iterator[Row]:
    if block.format == "jsonl":
        return parse_lines(block.data, block.first, block.name)
    if block.table is not None:
        return parse_table(block.data.decode(), block.table, block.first, block.name)
    if block.format == "warc":
        return read_warc(block.data, block.name, reading.extractor, block.first)
    rows: Iterator[Row] = iter([(block.first, text_row(block.data, f"{block.name}:{block.first}", block.known))])
    return markdown_rows(rows) if block.format == "markdown" else rows


def damaged(error: DataError, name: str, size: int) -> BadRow:
    """A damaged file as a row that is no document."""
    return BadRow(str(error.where or name), f"the file {error.what}", size)
