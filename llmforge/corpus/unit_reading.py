"""A unit of work to documents, in whatever process; `units.py` plans them."""

from __future__ import annotations

from collections.abc import Iterator

from llmforge.corpus.csv_rows import parse_table
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.extras import version_of
from llmforge.corpus.json_rows import parse_lines
from llmforge.corpus.parquet_rows import read_parquet
from llmforge.corpus.row_documents import RowDocuments
from llmforge.corpus.rows import Reading, Row, read_as
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.text_files import markdown_rows, text_row
from llmforge.corpus.unit_kinds import Block, FileGroup, ReadyDocuments, RowGroups, Unit, printable
from llmforge.corpus.warc_rows import read_warc
from llmforge.errors import DataError


def read_unit(unit: Unit, source: SourceConfig, forgiving: bool = False) -> list[Document | BadRow]:
    """The documents of a unit in order, own ids as they are (`Arrivals` makes them unique), bad rows among them.

    `forgiving` makes of a damaged file a bad row in its place.

    Raises:
        DataError: a file is cut short or damaged.
        MachineError: a library that it needs is not installed.
    """
    if isinstance(unit, ReadyDocuments):
        return list(unit.documents)
    maker = RowDocuments(source)
    reading = reading_of(source)
    if isinstance(unit, Block):
        return maker.make(_block_rows(unit, reading), unit.name)
    if isinstance(unit, RowGroups):
        name = printable(unit.file.name)
        return maker.make(read_parquet(unit.file.path, name, unit.groups, unit.first), name)
    found: list[Document | BadRow] = []
    if isinstance(unit, FileGroup):
        for file in unit.files:
            name = printable(file.name)
            try:
                found.extend(maker.make(read_as(file.format, file.path, name, reading), name))
            except DataError as error:
                if not forgiving:
                    raise
                found.append(damaged(error, name, file.size))
        return found
    for item in unit.items:
        if isinstance(item, BadRow):
            found.append(item)
        else:
            found.extend(maker.make(read_as(item.format, item.data, item.name, reading), item.name))
    return found


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
