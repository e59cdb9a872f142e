"""Project Gutenberg's licence, head and foot cut off its books, and its transcribers' marks out of them.

By the marks that its files have had since 1991 (https://www.gutenberg.org/policy/license.html): `*** START OF THE
PROJECT GUTENBERG EBOOK`, before 2000 the end of `THE SMALL PRINT!`, and at the end `*** END OF` or `End of the Project
Gutenberg`. A text without such a mark is left as it is. It judges nothing, so it counts no words.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.edited import Edited
from llmforge.config.schema import Config

_HEAD_CHARACTERS = 60_000  # the longest head with its small print has under 25,000
_SHORT_HEAD = 4_000
_HEAD_END = re.compile(
    r"^[ \t]*(?:\*{2,3}[ \t]*START OF (?:THIS|THE) PROJECT GUTENBERG E(?:BOOK|TEXT)"
    r"(?:[^\n]*(?:\n[^\n]+){0,2}?\*{3}|[^\n]*)|\*END[ *]{0,2}THE SMALL PRINT![^\n]*)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_FOOT = re.compile(
    r"^[ \t]*(?:\*{2,3}[ \t]*END OF (?:THIS|THE) PROJECT GUTENBERG"
    r"|\*{0,3}[ \t]*(?:The )?End of (?:the |this )?Project Gutenberg"
    r"|\*{3}[ \t]*START: FULL LICENSE|<<THIS ELECTRONIC VERSION OF)",
    re.IGNORECASE | re.MULTILINE,
)
_CREDITS = re.compile(
    r"\*{0,9}The Project Gutenberg E(?:text|book) of\b"
    r"|(?:produced|prepared|transcribed|proofed|scanned|e-?text prepared"
    r"|this e-?(?:text|book) was (?:produced|prepared|created))\b[^\n]{0,80}\b(?:by|from)\b",
    re.IGNORECASE,
)
_CREDIT_PARAGRAPHS = 3  # of those behind the head
_CREDIT_CHARACTERS = 1500  # a longer paragraph is no credit: a page of HTML may have no blank line at all
_PARAGRAPH = re.compile(r"\s*((?:[^\n]+\n?)+)")
_PAGE = re.compile(r"[ \t]*(?:\[(?:Pg|Page)\.? ?[\divxlc]{1,6}\]|\{(?:Pg|Page)?\.? ?\d{1,4}\})", re.IGNORECASE)
_ILLUSTRATION = re.compile(r"\[Illustration(?::[^\[\]]{0,500})?\]")


class Gutenberg(Config):
    """Cuts what is no book out of a file of Project Gutenberg."""

    name: Literal["gutenberg"] = "gutenberg"
    remove_credits: bool = Field(default=True, description="who transcribed the book, and its title there")
    remove_page_marks: bool = Field(default=True, description="[Pg 12] and {12}")
    remove_illustrations: bool = Field(default=True, description="[Illustration: ...]")

    def edit(self, text: str) -> Edited:
        """The book alone; the same text where there is no mark of Project Gutenberg."""
        removed: dict[str, int] = {}
        start, end = self._bounds(text)
        if start or end < len(text):
            removed = {"gutenberg.head": start, "gutenberg.foot": len(text) - end}
        book = text[start:end]
        if not removed and "project gutenberg" not in text[:_SHORT_HEAD].lower():
            return Edited(text)
        if self.remove_credits and start:
            credits_end = _after_credits(book)
            removed["gutenberg.credits"] = credits_end
            book = book[credits_end:]
        for reason, pattern, wanted in (
            ("page_marks", _PAGE, self.remove_page_marks),
            ("illustrations", _ILLUSTRATION, self.remove_illustrations),
        ):
            if wanted:
                without = pattern.sub("", book)
                removed[f"gutenberg.{reason}"] = len(book) - len(without)
                book = without
        removed = {reason: count for reason, count in removed.items() if count}
        return Edited(book.strip(), removed) if removed else Edited(text)

    def _bounds(self, text: str) -> tuple[int, int]:
        start = 0
        for mark in _HEAD_END.finditer(text, 0, _HEAD_CHARACTERS):
            start = mark.end()
        foot = _FOOT.search(text, start)
        return start, foot.start() if foot else len(text)


def _after_credits(book: str) -> int:
    """Where the book begins behind paragraphs that name its transcribers; 0 when none of the first three does."""
    place = end = 0
    for _ in range(_CREDIT_PARAGRAPHS):
        paragraph = _PARAGRAPH.match(book, place)
        if paragraph is None:
            break
        place = paragraph.end()
        if _CREDITS.match(paragraph[1].lstrip()):
            if len(paragraph[1]) > _CREDIT_CHARACTERS:
                line = book.find("\n", paragraph.start(1)) + 1
                return line if 0 < line <= paragraph.start(1) + _CREDIT_CHARACTERS else end
            end = place
    return end
