"""A text, Markdown or HTML file to documents: one each, in parts at paragraph ends when it is larger than 32 MiB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmforge.corpus.compressed import open_bytes
from llmforge.corpus.decoding import decode, detect_encoding
from llmforge.corpus.document import BadRow

PART_BYTES = 32 << 20
MAX_HTML_BYTES = 64 << 20
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*\n", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TITLE = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE)

Row = tuple[int, "dict[str, object] | BadRow"]


def read_text(path: Path, where: str) -> Iterator[Row]:
    """Rows of `text`, `encoding` and, where bytes were broken, `repaired`; a file that is not text is one BadRow."""
    with open_bytes(path, where) as stream:
        for number, data in enumerate(_parts(stream), 1):
            decoded = decode(data)
            if decoded is None:
                yield number, BadRow(f"{where}:{number}", "it is binary, not text", len(data))
                continue
            fields: dict[str, object] = {"text": _plain_newlines(decoded.text), "encoding": decoded.encoding}
            if decoded.repaired:
                fields["repaired"] = decoded.repaired
            yield number, fields


def read_markdown(path: Path, where: str) -> Iterator[Row]:
    """As `read_text`, without front matter (its title is kept as a field) and HTML comments."""
    for number, row in read_text(path, where):
        if isinstance(row, dict):
            text = str(row["text"])
            front = _FRONT_MATTER.match(text) if number == 1 else None
            if front:
                text = text[front.end() :]
                title = _TITLE.search(front.group(1))
                if title:
                    row["title"] = title.group(1).strip().strip("'\"")
            row["text"] = _COMMENT.sub("", text) if "<!--" in text else text
        yield number, row


def read_html(path: Path, where: str) -> Iterator[Row]:
    """One row: the page's main text, its title and encoding."""
    from llmforge.corpus.html_text import main_text

    with open_bytes(path, where) as stream:
        data = stream.read(MAX_HTML_BYTES + 1)
    if len(data) > MAX_HTML_BYTES:
        yield 1, BadRow(f"{where}:1", f"the page is larger than {MAX_HTML_BYTES >> 20} MiB", len(data))
        return
    decoded = decode(data)
    if decoded is None:
        yield 1, BadRow(f"{where}:1", "it is binary, not text", len(data))
        return
    page = main_text(_declared(data, decoded.text, decoded.encoding))
    fields: dict[str, object] = {"text": page.text, "encoding": decoded.encoding}
    if page.title:
        fields["title"] = page.title
    yield 1, fields


def _declared(data: bytes, text: str, encoding: str) -> str:
    """The page by the character set it declares, when its bytes alone do not decide."""
    if encoding not in ("cp1252", "latin-1"):
        return text
    found = re.search(rb"charset=[\"']?([\w.:-]+)", data[:4096], re.IGNORECASE)
    try:
        return data.decode(found.group(1).decode("ascii")) if found else text
    except (LookupError, UnicodeDecodeError, ValueError):
        return text


def _plain_newlines(text: str) -> str:
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _parts(stream: BinaryIO) -> Iterator[bytes]:
    """The whole stream as one part, or, beyond PART_BYTES, parts that end where a paragraph or a line does."""
    data = stream.read(PART_BYTES)
    wide = detect_encoding(data[: 1 << 16]) in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")
    while True:
        more = stream.read(PART_BYTES)
        if not more:
            yield data
            return
        if wide:
            # Cutting would need the mark again; a text of this size in UTF-16 is held whole instead.
            data += more
            continue
        cut = _cut(data)
        yield data[:cut]
        data = data[cut:] + more


def _cut(data: bytes) -> int:
    """Behind the last blank line of the second half, else behind the last line, else before the last character."""
    paragraph = data.rfind(b"\n\n", len(data) // 2)
    if paragraph >= 0:
        return paragraph + 2
    line = data.rfind(b"\n") + 1
    if line:
        return line
    cut = len(data)
    while cut > len(data) - 4 and data[cut - 1] & 0xC0 == 0x80:
        cut -= 1
    return cut - 1
