"""FineWeb's own quality rules (https://arxiv.org/abs/2406.17557, section 3.6) with the published thresholds.

A word is what stands between white space. Blank lines are not counted as lines.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.threshold import outside
from llmforge.cleaning.signals.measure import Signals
from llmforge.cleaning.verdict import Drop
from llmforge.config.schema import Config


class FineWeb(Config):
    """Drops texts that are lists, menus or the same lines again."""

    name: Literal["fineweb"] = "fineweb"
    min_punctuated_line_ratio: float = Field(default=0.12, ge=0, le=1, description="lines that end as a sentence does")
    short_line_characters: int = Field(default=30, ge=0, description="a line of at most so many characters is short")
    max_short_line_ratio: float = Field(default=0.67, ge=0, le=1, description="lines that are short")
    max_duplicate_line_character_ratio: float = Field(
        default=0.01, ge=0, le=1, description="characters in repeated lines"
    )
    max_newline_word_ratio: float = Field(default=0.3, ge=0, description="newlines per word")

    def judge(self, signals: Signals) -> Drop | None:
        """The first threshold that the text does not meet, or None."""
        short = signals.short_line_ratio(self.short_line_characters)
        for key, value, what in (
            ("punctuated_line_ratio", signals.punctuated_line_ratio, "of its lines ending as a sentence does"),
            ("short_line_ratio", short, f"of its lines at most {self.short_line_characters} characters long"),
            ("duplicate_line_character_ratio", signals.duplicate_line_character_ratio, "of it in repeated lines"),
            ("newline_word_ratio", signals.newline_word_ratio, "newlines per word"),
        ):
            if found := outside(self, key, value, what):
                return found
        return None
