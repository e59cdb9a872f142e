"""JSON Lines and JSON files to rows, one at a time, with bounded memory for a line of any length.

One raw record: {"id": "a1", "text": "Call me Ishmael.", "license": "public domain"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from llmforge.corpus.compressed import Readable, blocks_of, open_bytes, read_whole
from llmforge.corpus.document import BadRow
from llmforge.errors import DataError

MAX_ROW_BYTES = 64 << 20
MAX_FILE_BYTES = 256 << 20  # of one .json file, which has to be read whole
MAX_DEPTH = 32
BLOCK_BYTES = 1 << 20
_CONTAINERS = frozenset([dict, list])
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_UTF8 = (b"\xff\xfe", b"\xfe\xff")

Row = tuple[int, "dict[str, object] | BadRow"]


def read_json_lines(what: Readable, where: str) -> Iterator[Row]:
    """(line number, object) for each line that is not blank; a line that is no JSON object is a BadRow."""
    with open_bytes(what, where) as stream:
        for first, data in json_blocks(stream, where, BLOCK_BYTES):
            if isinstance(data, BadRow):
                yield first, data
            else:
                yield from parse_lines(data, first, where)


def json_blocks(stream: BinaryIO, where: str, size: int) -> Iterator[tuple[int, bytes | BadRow]]:
    """(number of the first line, lines) of blocks of about `size` bytes that end where a line does; a line over
    MAX_ROW_BYTES is a BadRow, of which only the size is kept.

    Raises:
        DataError: the file is UTF-16.
    """
    number = 1
    held: list[bytes] = []  # the beginning of the next block
    length = 0
    for index, data in enumerate(blocks_of(stream, size)):
        if index == 0:
            data = _without_mark(data, where)
        cut = data.rfind(b"\n") + 1
        if cut:
            block = b"".join([*held, data[:cut]]) if held else data[:cut]
            yield number, block
            number += block.count(b"\n")
            held, length = [], 0
        held.append(data[cut:])
        length += len(data) - cut
        if length > MAX_ROW_BYTES:
            held = []
            while line := stream.readline(size):
                length += len(line)
                if line.endswith(b"\n"):
                    break
            yield number, _too_long(f"{where}:{number}", length)
            number += 1
            length = 0
    if length:
        yield number, b"".join(held)


def parse_lines(data: bytes, first: int, where: str) -> Iterator[Row]:
    """(line number, object) for each line of a block that is not blank."""
    for number, line in enumerate(data.split(b"\n"), first):
        if not line or line.isspace():
            continue
        if len(line) > MAX_ROW_BYTES:
            yield number, _too_long(f"{where}:{number}", len(line))
        else:
            yield number, parse_row(line, where, number)


def _too_long(where: str, size: int) -> BadRow:
    return BadRow(where, f"the line is longer than {MAX_ROW_BYTES >> 20} MiB", size)


def read_json(what: Readable, where: str) -> Iterator[Row]:
    """The rows of a JSON file: a list of objects, an object with one such list, one object, or JSON Lines."""
    import orjson

    data = read_whole(what, where, MAX_FILE_BYTES)
    if data is None:
        hint = "write it as JSON Lines (.jsonl), one object a line"
        raise DataError(f"is larger than {MAX_FILE_BYTES >> 20} MiB and has to be read whole", where, hint)
    data = _without_mark(data, where)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        first = data.lstrip()[:1]
        if first == b"[" or not data.strip() or b"\n" not in data.strip():
            raise DataError(f"is not valid JSON ({error})", f"{where}:1") from None
        yield from read_json_lines(data, where)
        return
    for number, row in enumerate(_rows_in(value), 1):
        yield number, _checked(row, where, number, len(data))


def _rows_in(value: object) -> list[object]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
        if len(lists) == 1 and not any(isinstance(inner, str) and len(inner) > 200 for inner in value.values()):
            return lists[0] if "messages" not in value else [value]
    return [value]


def parse_row(line: bytes, where: str, number: int) -> dict[str, object] | BadRow:
    """One line's object with plain values, or why it is none. Lone surrogates become U+FFFD."""
    import orjson

    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        repaired = _with_surrogates(line)
        if repaired is None:
            return BadRow(f"{where}:{number}", f"it is not valid JSON ({error})", len(line))
        row = repaired
    return _checked(row, where, number, len(line))


def _checked(row: object, where: str, number: int, size: int) -> dict[str, object] | BadRow:
    if not isinstance(row, dict):
        kind = {list: "a list", str: "a string", type(None): "null", bool: "a truth value"}.get(type(row), "a number")
        return BadRow(f"{where}:{number}", f"it is {kind}, not an object with fields", size)
    for value in row.values():
        if type(value) in _CONTAINERS:
            if not _is_shallow(row):
                return BadRow(f"{where}:{number}", f"its fields are nested more than {MAX_DEPTH} deep", size)
            break
    return row


def _is_shallow(row: dict[str, object]) -> bool:
    stack: list[tuple[object, int]] = [(value, 1) for value in row.values() if isinstance(value, dict | list)]
    while stack:
        value, depth = stack.pop()
        if depth > MAX_DEPTH:
            return False
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        stack.extend((item, depth + 1) for item in inner if isinstance(item, dict | list))
    return True


def _with_surrogates(line: bytes) -> object | None:
    """The line by the standard parser, when all that orjson refuses may be half a surrogate pair."""
    if not _SURROGATE_ESCAPE.search(line):
        return None
    try:
        text = line.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant)
        whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return json.loads(whole)  # type: ignore[no-any-return]
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _without_mark(data: bytes, where: str) -> bytes:
    if data.startswith(_NOT_UTF8):
        raise DataError("is UTF-16, and JSON Lines are UTF-8", where, "save it as UTF-8")
    return data.removeprefix(b"\xef\xbb\xbf")
