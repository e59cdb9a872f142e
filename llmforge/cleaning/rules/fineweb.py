"""FineWeb's own quality rules (https://arxiv.org/abs/2406.17557, section 3.6) with the published thresholds.

A line is not blank. A word is what stands between white space, or with `words: punctuation` marks are words too, as in
datatrove. A line that ends in a closing quotation mark ends as a sentence does: so had it the code that made FineWeb,
while datatrove since takes only the marks that end a sentence. FineWeb keeps English of .65 or more (`language`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.threshold import Judge, Limit
from llmforge.cleaning.signals.lines import SHORT_LINE_RATIO
from llmforge.cleaning.signals.measure import of_kind
from llmforge.cleaning.signals.words import WordKind


class FineWeb(Judge):
    """Drops texts that are lists, menus or the same lines again."""

    name: Literal["fineweb"] = "fineweb"
    words: WordKind = Field(default="whitespace", description="what ends a word: white space, or also punctuation")
    min_punctuated_line_ratio: float = Field(default=0.12, ge=0, le=1, description="lines that end as a sentence does")
    short_line_characters: int = Field(default=30, ge=0, description="a line of at most so many characters is short")
    max_short_line_ratio: float = Field(default=0.67, ge=0, le=1, description="lines that are short")
    max_duplicate_line_character_ratio: float = Field(
        default=0.01, ge=0, le=1, description="characters in repeated lines"
    )
    max_newline_word_ratio: float = Field(default=0.3, ge=0, description="newlines per word")

    def limits(self) -> Sequence[Limit]:
        """In the order of datatrove."""
        short = f"{SHORT_LINE_RATIO}{self.short_line_characters}"
        repeated = "duplicate_line_character_ratio.without_newlines"
        return (
            Limit("min_punctuated_line_ratio", "punctuated_line_ratio", "of its lines ending as a sentence does"),
            Limit("max_short_line_ratio", short, f"of its lines at most {self.short_line_characters} characters long"),
            Limit("max_duplicate_line_character_ratio", repeated, "of it in repeated lines"),
            Limit("max_newline_word_ratio", of_kind("newline_word_ratio", self.words), "newlines per word"),
        )
