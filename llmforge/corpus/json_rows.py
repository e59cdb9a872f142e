"""JSON Lines and JSON files to rows, one at a time, with bounded memory for a line of any length.

One raw record: {"id": "a1", "text": "Call me Ishmael.", "license": "public domain"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmforge.corpus.compressed import open_bytes
from llmforge.corpus.document import BadRow
from llmforge.errors import DataError

MAX_ROW_BYTES = 64 << 20
MAX_FILE_BYTES = 256 << 20  # of one .json file, which has to be read whole
MAX_DEPTH = 32
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_UTF8 = (b"\xff\xfe", b"\xfe\xff")

Row = tuple[int, "dict[str, object] | BadRow"]


def read_json_lines(path: Path, where: str) -> Iterator[Row]:
    """(line number, object) for each line that is not blank; a line that is no JSON object is a BadRow."""
    with open_bytes(path, where) as stream:
        for number, line, size in _lines(stream):
            if number == 1:
                line = _without_mark(line, where)
            if size > MAX_ROW_BYTES:
                yield number, BadRow(f"{where}:{number}", f"the line is longer than {MAX_ROW_BYTES >> 20} MiB", size)
            elif line.strip():
                yield number, parse_row(line, f"{where}:{number}")


def read_json(path: Path, where: str) -> Iterator[Row]:
    """The rows of a JSON file: a list of objects, an object with one such list, one object, or JSON Lines."""
    import orjson

    with open_bytes(path, where) as stream:
        data = _without_mark(stream.read(MAX_FILE_BYTES + 1), where)
    if len(data) > MAX_FILE_BYTES:
        hint = "write it as JSON Lines (.jsonl), one object a line"
        raise DataError(f"is larger than {MAX_FILE_BYTES >> 20} MiB and has to be read whole", where, hint)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        first = data.lstrip()[:1]
        if first == b"[" or not data.strip() or b"\n" not in data.strip():
            raise DataError(f"is not valid JSON ({error})", f"{where}:1") from None
        yield from read_json_lines(path, where)
        return
    for number, row in enumerate(_rows_in(value), 1):
        yield number, _checked(row, f"{where}:{number}", len(data))


def _rows_in(value: object) -> list[object]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
        if len(lists) == 1 and not any(isinstance(inner, str) and len(inner) > 200 for inner in value.values()):
            return lists[0] if "messages" not in value else [value]
    return [value]


def parse_row(line: bytes, where: str) -> dict[str, object] | BadRow:
    """One line's object with plain values, or why it is none. Lone surrogates become U+FFFD."""
    import orjson

    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        repaired = _with_surrogates(line)
        if repaired is None:
            return BadRow(where, f"it is not valid JSON ({error})", len(line))
        row = repaired
    return _checked(row, where, len(line))


def _checked(row: object, where: str, size: int) -> dict[str, object] | BadRow:
    if not isinstance(row, dict):
        kind = {list: "a list", str: "a string", type(None): "null", bool: "a truth value"}.get(type(row), "a number")
        return BadRow(where, f"it is {kind}, not an object with fields", size)
    if not _is_shallow(row):
        return BadRow(where, f"its fields are nested more than {MAX_DEPTH} deep", size)
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


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """(line number from 1, line, size); of a line over MAX_ROW_BYTES only the size is kept."""
    number = 0
    while line := stream.readline(MAX_ROW_BYTES + 1):
        number += 1
        size = len(line)
        if size <= MAX_ROW_BYTES:
            yield number, line, size
            continue
        while not line.endswith(b"\n"):
            line = stream.readline(1 << 20)
            if not line:
                break
            size += len(line)
        yield number, b"", size
