"""The line edits of DCLM-Baseline and RefinedWeb (https://arxiv.org/abs/2406.11794, appendix; baselines configs of
mlfoundations/dclm), and its rule that drops a page of which they took more than 5 % of the words.

The two configs differ in a list of banned sites only, which needs an address, not a text. They judge pages by Gopher's
rules too: put `gopher_quality` and `gopher_repetition` beside this set. A word is what stands between white space; DCLM
counts what begins with a letter or figure. Links are cut out first and do not count among the words removed, as there;
`links.py` among the signals says what a link is. DCLM measures Gopher's rules before the line edits, we after all of
them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.edited import Edited, edit_lines
from llmforge.cleaning.rules.threshold import Judge, Limit
from llmforge.cleaning.signals.characters import uppercase_ratio
from llmforge.cleaning.signals.links import without_links
from llmforge.cleaning.signals.measure import REMOVED_WORDS, REMOVED_WORDS_NO_LINKS

_NEWLINES = re.compile(r"\n{3,}")
_SHORT_LINE_WORDS = 10
_COUNTER = re.compile(
    r"^\W*\d[,.\d]*[kmb]?\s+(?:likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads"
    r"|views|followers)\W*$"
)
_FURNITURE = re.compile(r"\s?items in cart|\s?read more\.\.\.$|^sign-in\s?", re.IGNORECASE)


class Dclm(Judge):
    """Removes lines that are no prose, then drops pages that lost too many words by it."""

    name: Literal["dclm"] = "dclm"
    remove_links: bool = Field(default=True, description="web addresses are cut out of lines")
    max_uppercase_line_ratio: float | None = Field(
        default=0.5, ge=0, le=1, description="lines with more capital letters are removed; null: none"
    )
    min_line_words: int = Field(default=2, ge=0, description="lines of fewer words are removed")
    remove_number_lines: bool = Field(default=True, description="lines of figures alone are removed")
    remove_counters: bool = Field(default=True, description="lines such as 3 likes are removed")
    remove_furniture: bool = Field(default=True, description="items in cart, Read more... and Sign-in are cut out")
    max_removed_word_ratio: float = Field(default=0.05, ge=0, le=1, description="words that edits removed")

    def limits(self) -> Sequence[Limit]:
        """The share of removed words alone; the other numbers are about lines."""
        signal = REMOVED_WORDS_NO_LINKS if self.remove_links else REMOVED_WORDS
        return (Limit("max_removed_word_ratio", signal, "of its words removed by edits"),)

    def edit(self, text: str) -> Edited:
        """The text without links, extra blank lines and lines that are no prose."""
        removed: dict[str, int] = {}
        stays = without_links(text) if self.remove_links else text
        if len(stays) < len(text):
            removed["dclm.links"] = len(text) - len(stays)
        closer = _NEWLINES.sub("\n\n", stays)
        if len(closer) < len(stays):
            removed["dclm.blank_lines"] = len(stays) - len(closer)
        edited = edit_lines(self.name, closer, closer.split("\n"), self._change)
        return Edited(edited.text if not edited.text.isspace() else "", {**removed, **edited.removed})

    def _change(self, line: str) -> tuple[str, str]:
        if not line:
            return line, ""
        most = self.max_uppercase_line_ratio
        if most is not None and uppercase_ratio(line) > most:
            return "", "uppercase"
        if self.remove_number_lines and line.isdigit():
            return "", "numbers"
        if self.remove_counters and _COUNTER.match(line.lower()):
            return "", "counters"
        words = len(line.split(None, _SHORT_LINE_WORDS + 1))
        if words < self.min_line_words:
            return "", "few_words"
        if self.remove_furniture and words <= _SHORT_LINE_WORDS:
            stays = _FURNITURE.sub("", line)
            if stays != line:
                return "" if stays.isspace() else stays, "furniture"
        return line, ""
