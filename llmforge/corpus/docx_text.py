"""A DOCX file to its text: paragraphs, lists and tables in reading order, with title and author.

Read from the file's own XML (ECMA-376, WordprocessingML) and not through python-docx, whose `paragraphs` leave out
tables, text boxes and inserted text, and which builds the whole tree in memory. Deleted text, field codes and the
second form of alternative content are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmforge.corpus.compressed import Readable
from llmforge.corpus.document import BadRow
from llmforge.corpus.xml_events import Parts, UnreadableError, parse_xml

Row = tuple[int, "dict[str, object] | BadRow"]
_SKIPPED = frozenset(["Fallback", "del", "moveFrom", "tabs", "instrText", "delText", "pPrChange", "rPrChange"])
_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def read_docx(what: Readable, where: str) -> Iterator[Row]:
    """One row: `text`, and `title` and `author` where the file names them; a BadRow for one that cannot be read."""
    size = 0
    try:
        parts = Parts(what, where)
        size = parts.size
        body = _Body()
        parse_xml(parts.read("word/document.xml"), body.start, body.end, body.text)
        fields: dict[str, object] = {"text": body.whole()}
        if "docProps/core.xml" in parts:
            facts = read_facts(parts.read("docProps/core.xml"))
            fields.update((key, facts[key]) for key in ("title", "author") if facts.get(key))
    except UnreadableError as error:
        yield 1, BadRow(f"{where}:1", str(error), size)
        return
    yield 1, fields


def read_facts(data: bytes) -> dict[str, str]:
    """The Dublin Core fields of an XML part: title, author (creator) and language, each where it comes first.

    Raises:
        UnreadableError: the XML is damaged.
    """
    names = {"title": "title", "creator": "author", "language": "language"}
    found: dict[str, list[str]] = {}
    open_field: list[list[str]] = []

    def start(name: str, _: dict[str, str]) -> None:
        if name in names and names[name] not in found:
            open_field.append(found.setdefault(names[name], []))

    def end(name: str) -> None:
        if name in names:
            open_field.clear()

    def text(data: str) -> None:
        if open_field:
            open_field[-1].append(data)

    parse_xml(data, start, end, text)
    return {key: " ".join("".join(pieces).split()) for key, pieces in found.items()}


class _Body:
    """Collects paragraphs; those in one table row are joined by " | ", list items begin with "- "."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._pieces: list[str] = []
        self._outer: list[list[str]] = []  # paragraphs around a text box
        self._rows: list[list[str]] = []  # cells of the table rows that are open
        self._cells: list[list[str]] = []
        self._skipped = 0
        self._in_text = False
        self._is_item = False
        self._last_kind = ""

    def start(self, name: str, _: dict[str, str]) -> None:
        if self._skipped or name in _SKIPPED:
            self._skipped += 1
        elif name == "p":
            self._outer.append(self._pieces)
            self._pieces = []
            self._is_item = False
        elif name == "t":
            self._in_text = True
        elif name == "numPr":
            self._is_item = True
        elif name == "tr":
            self._rows.append([])
        elif name == "tc":
            self._cells.append([])
        elif name in _MARKS and self._outer:
            self._pieces.append(_MARKS[name])

    def end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif name == "t":
            self._in_text = False
        elif name == "p" and self._outer:
            self._close_paragraph()
        elif name == "tc" and self._cells:
            cell = " ".join(self._cells.pop())
            if self._rows:
                self._rows[-1].append(cell)
        elif name == "tr" and self._rows:
            self._put(" | ".join(self._rows.pop()), kind="row")

    def text(self, data: str) -> None:
        if self._in_text and not self._skipped:
            self._pieces.append(data)

    def whole(self) -> str:
        return "".join(self._blocks)

    def _close_paragraph(self) -> None:
        text = "".join(self._pieces).strip()
        self._pieces = self._outer.pop()
        if self._cells:
            if text:
                self._cells[-1].append(" ".join(text.split()))
        elif text:
            self._put(f"- {text}" if self._is_item else text, kind="item" if self._is_item else "")

    def _put(self, text: str, kind: str) -> None:
        if self._cells:  # a table within a cell
            self._cells[-1].append(text)
            return
        if self._blocks:
            self._blocks.append("\n" if kind and kind == self._last_kind else "\n\n")
        self._blocks.append(text)
        self._last_kind = kind
