"""A text, Markdown or HTML file to documents: one each, in parts at paragraph ends when it is larger than 32 MiB."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from llmforge.corpus.compressed import Readable, open_bytes, read_whole
from llmforge.corpus.decoding import UNICODE, WIDE, decode, detect_encoding
from llmforge.corpus.document import BadRow
from llmforge.corpus.html_extractors import Extractor, extract

PART_BYTES = 32 << 20
MAX_HTML_BYTES = 64 << 20
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*\n", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CHARSET = re.compile(rb"charset=[\"']?([\w.:-]+)", re.IGNORECASE)
_TITLE = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE)

Row = tuple[int, "dict[str, object] | BadRow"]


def read_text(what: Readable, where: str) -> Iterator[Row]:
    """Rows of `text`, `encoding` and, where bytes were broken, `repaired`; a file that is not text is one BadRow."""
    with open_bytes(what, where) as stream:
        for number, data, known in known_parts(stream):
            yield number, text_row(data, f"{where}:{number}", known)


def read_markdown(what: Readable, where: str) -> Iterator[Row]:
    """As `read_text`, without front matter (its title is kept as a field) and HTML comments."""
    return markdown_rows(read_text(what, where))


def read_html(what: Readable, where: str, extractor: Extractor = "fast") -> Iterator[Row]:
    """One row: the page's main text, its title and encoding."""
    data = read_whole(what, where, MAX_HTML_BYTES)
    if data is None:
        yield 1, BadRow(f"{where}:1", f"the page is larger than {MAX_HTML_BYTES >> 20} MiB", MAX_HTML_BYTES)
        return
    yield 1, html_row(data, f"{where}:1", extractor)


def text_row(data: bytes, where: str, known: str | None = None) -> dict[str, object] | BadRow:
    """The fields of plain text; `known` is the encoding of the file's earlier parts."""
    decoded = decode(data, known)
    if decoded is None:
        return BadRow(where, "it is binary, not text", len(data))
    fields: dict[str, object] = {"text": _plain_newlines(decoded.text), "encoding": decoded.encoding}
    if decoded.repaired:
        fields["repaired"] = decoded.repaired
    return fields


def known_parts(stream: BinaryIO) -> Iterator[tuple[int, bytes, str | None]]:
    """(number from 1, bytes, encoding) of each part of a file, the encoding being the first one before it that is not
    UTF-8: what the part is read by unless it is UTF-8.
    """
    known = None
    for number, data in enumerate(text_parts(stream), 1):
        yield number, data, known
        if known is None and len(data) >= PART_BYTES // 2:  # another part may come
            found = detect_encoding(data)
            known = found if found not in UNICODE and found not in WIDE else None


def markdown_rows(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows of a Markdown file's text."""
    for number, row in rows:
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


def html_row(data: bytes, where: str, extractor: Extractor, charset: str | None = None) -> dict[str, object] | BadRow:
    """The fields of a page; `charset` is what its server said."""
    decoded = decode(data)
    if decoded is None:
        return BadRow(where, "it is binary, not text", len(data))
    html, encoding = decoded.text, decoded.encoding
    if encoding not in UNICODE and not encoding.startswith("utf"):
        html, encoding = _declared(data, charset) or (html, encoding)
    page = extract(html, extractor, where)
    if isinstance(page, str):
        return BadRow(where, page, len(data))
    fields: dict[str, object] = {"text": page.text, "encoding": encoding}
    if page.title:
        fields["title"] = page.title
    return fields


def _declared(data: bytes, charset: str | None) -> tuple[str, str] | None:
    """The page by the character set that its server or the page itself names, when its bytes alone do not decide."""
    found = _CHARSET.search(data[:4096])
    for name in (charset, found.group(1).decode("ascii") if found else None):
        try:
            if name:
                known = "cp1252" if name.lower() in ("iso-8859-1", "latin-1", "latin1", "us-ascii") else name
                text = data.decode(known)
                text.encode()  # some codecs of Python (utf-7, unicode_escape) give half surrogate pairs
                return text, codecs.lookup(known).name
        except (LookupError, ValueError):
            continue
    return None


def _plain_newlines(text: str) -> str:
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def text_parts(stream: BinaryIO) -> Iterator[bytes]:
    """The whole stream as one part, or, beyond PART_BYTES, parts that end where a paragraph or a line does."""
    data = stream.read(PART_BYTES)
    more = stream.read(PART_BYTES)
    encoding = detect_encoding(data[: 1 << 16]) if more else None
    if encoding in WIDE:
        yield from _wide_parts(stream, data, more, encoding)
        return
    while more:
        cut = _cut(data)
        yield data[:cut]
        data = data[cut:] + more
        more = stream.read(PART_BYTES)
    yield data


def _wide_parts(stream: BinaryIO, data: bytes, more: bytes, encoding: str) -> Iterator[bytes]:
    """Parts of a text in UTF-16 or UTF-32, each as UTF-16 with a mark of its own."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    text = decoder.decode(data)
    while more:
        cut = text.rfind("\n\n", len(text) // 2) + 2 if "\n\n" in text[len(text) // 2 :] else text.rfind("\n") + 1
        if cut:
            yield text[:cut].encode("utf-16", "surrogatepass")
            text = text[cut:]
        text += decoder.decode(more)
        more = stream.read(PART_BYTES)
    yield (text + decoder.decode(b"", True)).encode("utf-16", "surrogatepass")


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
