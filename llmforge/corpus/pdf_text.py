"""A PDF file to one document: the text of its pages, words that a line's end divides joined again.

Reads through PDFium (the extra `pdf`: pypdfium2), which knows fonts, ligatures and reading order. A page without text
(a scan) gives none: nothing is recognised from pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from llmforge.corpus.compressed import Readable, read_whole
from llmforge.corpus.document import BadRow
from llmforge.corpus.extras import load_extra

MAX_FILE_BYTES = 256 << 20
MAX_PAGES = 20_000
MAX_CHARS = 256 << 20
_BREAK_MARK = re.compile(r"[\ufffe\x02](?:\r?\n)?")  # PDFium's sign for a hyphen that only divides
_DIVIDED = re.compile(r"(\w*[^\W\d_])[-\u00ad]\n(?=[^\W\d_])(\w+)")
_PAGE_NUMBER = re.compile(
    r"[ \t]*(?:-[ \t]*)?(?:page[ \t]+)?\d{1,5}(?:[ \t]*-|[ \t]+of[ \t]+\d+)?[ \t]*", re.IGNORECASE
)
_SENTENCE_END = ".!?:;\"'\u201d\u2019)"

Row = tuple[int, "dict[str, object] | BadRow"]


def read_pdf(what: Readable, where: str) -> Iterator[Row]:
    """One row: `text`, `pages`, and `title` and `author` where the file names them; a BadRow for a file that is
    encrypted, damaged, larger than 256 MiB or without text.

    Raises:
        MachineError: pypdfium2 is not installed.
    """
    pdfium = load_extra("pypdfium2", "pdf", where)
    data = read_whole(what, where, MAX_FILE_BYTES)
    if data is None:
        yield 1, BadRow(f"{where}:1", f"it is larger than {MAX_FILE_BYTES >> 20} MiB", MAX_FILE_BYTES)
        return
    try:
        book = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        reason = "it is encrypted" if "password" in str(error).lower() else f"it is no whole PDF ({error})"
        yield 1, BadRow(f"{where}:1", reason, len(data))
        return
    with book:
        if len(book) > MAX_PAGES:
            yield 1, BadRow(f"{where}:1", f"it has more than {MAX_PAGES:,} pages", len(data))
            return
        fields = _fields(book)
    if not fields["text"]:
        yield 1, BadRow(f"{where}:1", "its pages hold no text (a scan?)", len(data))
        return
    yield 1, fields


def _fields(book: Any) -> dict[str, object]:
    pages: list[str] = []
    total = 0
    for number in range(len(book)):
        pages.append(_page_text(book, number))
        total += len(pages[-1])
        if total > MAX_CHARS:
            break
    fields: dict[str, object] = {"text": join_pages(pages), "pages": len(book)}
    for name in ("Title", "Author"):
        try:
            fact = book.get_metadata_value(name)
        except UnicodeDecodeError:  # half a surrogate pair: a fact less, and the text stays
            continue
        if fact.strip():
            fields[name.lower()] = fact
    return fields


def _page_text(book: Any, number: int) -> str:
    import pypdfium2

    try:
        page = book[number]
        text_page = page.get_textpage()
        text: str = text_page.get_text_range()
    except pypdfium2.PdfiumError:
        return ""  # one damaged page of a book that opens
    text_page.close()
    page.close()
    return text


def join_pages(pages: list[str]) -> str:
    """The pages as one text: page numbers left out, divided words joined, and a paragraph that goes over the page's
    end kept together.
    """
    whole = ""
    for page in pages:
        # A divided word's hyphen is only known by the line's end, so the mark becomes a hyphen before it.
        text = _BREAK_MARK.sub("-\n", page).replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
        lines = [line.rstrip() for line in text.split("\n")]
        text = "\n".join(_without_number(lines)).strip("\n")
        if not text.strip():
            continue
        goes_on = whole and whole[-1] not in _SENTENCE_END and text.lstrip()[0].islower()
        whole = f"{whole}\n{text}" if goes_on else f"{whole}\n\n{text}" if whole else text
    return _joined_words(whole)


def _without_number(lines: list[str]) -> list[str]:
    """The page's lines without a first or last one that is only the page's number."""
    filled = [index for index, line in enumerate(lines) if line.strip()]
    ends = {filled[0], filled[-1]} if len(filled) > 2 else set()
    return [line for index, line in enumerate(lines) if not (index in ends and _PAGE_NUMBER.fullmatch(line))]


def _joined_words(text: str) -> str:
    """ "exam-\\nple" to "example", but "well-\\nknown" to "well-known" when the text has that elsewhere."""
    if "-\n" not in text and "\u00ad\n" not in text:
        return text
    compounds = set(re.findall(r"\w+-\w+", text))

    def join(match: re.Match[str]) -> str:
        before, after = match.groups()
        keeps = f"{before}-{after}" in compounds or not after[0].islower()
        return f"{before}-{after}\n" if keeps else f"{before}{after}\n"

    # The line now ends behind the whole word, so that lines stay about as long as they were.
    return re.sub(r"\n[ \t]+", "\n", _DIVIDED.sub(join, text))
