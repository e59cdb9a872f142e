"""A large file to pieces that end where a row (line, record, paragraph) does, and a piece to a unit of work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from llmforge.corpus.csv_rows import Table, open_table, table_blocks
from llmforge.corpus.document import BadRow
from llmforge.corpus.json_rows import json_blocks
from llmforge.corpus.rows import Reading
from llmforge.corpus.text_files import known_parts
from llmforge.corpus.unit_kinds import Block, ReadyDocuments, Unit, key_of_block, key_of_documents
from llmforge.corpus.warc_rows import warc_blocks

BLOCK_FORMATS = frozenset(["jsonl", "csv", "tsv", "warc", "text", "markdown"])

Piece = tuple[int, "bytes | BadRow", "Table | None", "str | None"]  # first row, data, table, known encoding


def pieces_of(stream: BinaryIO, name: str, format: str, reading: Reading, size: int) -> Iterator[Piece]:
    """The pieces of a file of one of BLOCK_FORMATS, of about `size` bytes each; texts have parts of their own size.

    Raises:
        DataError: the file is damaged; what comes before has been given.
    """
    if format == "jsonl":
        yield from ((first, data, None, None) for first, data in json_blocks(stream, name, size))
    elif format in ("csv", "tsv"):
        table, first, lines = open_table(stream, name, reading.delimiter or ("\t" if format == "tsv" else None))
        with lines:
            for number, text in table_blocks(lines, table, first, size):
                if isinstance(text, BadRow):
                    yield number, BadRow(f"{name}:{number}", text.reason, text.size), None, None
                else:
                    yield number, text.encode(), table, None
    elif format == "warc":
        yield from ((first, data, None, None) for first, data in warc_blocks(stream, name, size))
    else:
        yield from ((number, data, None, known) for number, data, known in known_parts(stream))


def unit_of(name: str, format: str, piece: Piece, size: int) -> Unit:
    """A piece as a unit that counts as `size` bytes of the input."""
    first, data, table, known = piece
    if isinstance(data, BadRow):
        return ReadyDocuments(key_of_documents([data]), size, (data,))
    return Block(key_of_block(name, format, first, data, table, known), size, name, format, first, data, table, known)
