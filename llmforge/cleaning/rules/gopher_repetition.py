"""The repetition rules of Gopher (https://arxiv.org/abs/2112.11446, table A1) with the published thresholds.

A word is what stands between white space; a paragraph ends at an empty line. `repetition.py` among the signals says how
each share is counted.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.threshold import outside
from llmforge.cleaning.signals.measure import Signals
from llmforge.cleaning.verdict import Drop
from llmforge.config.schema import Config


def _share(value: float, what: str) -> float:
    share: float = Field(default=value, ge=0, le=1, description=what)
    return share


class GopherRepetition(Config):
    """Drops texts that say the same again and again."""

    name: Literal["gopher_repetition"] = "gopher_repetition"
    max_duplicate_line_ratio: float = _share(0.30, "lines that came before")
    max_duplicate_paragraph_ratio: float = _share(0.30, "paragraphs that came before")
    max_duplicate_line_character_ratio: float = _share(0.20, "characters in lines that came before")
    max_duplicate_paragraph_character_ratio: float = _share(0.20, "characters in paragraphs that came before")
    max_top_2_gram_character_ratio: float = _share(0.20, "characters in the most frequent run of 2 words")
    max_top_3_gram_character_ratio: float = _share(0.18, "characters in the most frequent run of 3 words")
    max_top_4_gram_character_ratio: float = _share(0.16, "characters in the most frequent run of 4 words")
    max_duplicate_5_gram_character_ratio: float = _share(0.15, "characters in runs of 5 words that came before")
    max_duplicate_6_gram_character_ratio: float = _share(0.14, "characters in runs of 6 words that came before")
    max_duplicate_7_gram_character_ratio: float = _share(0.13, "characters in runs of 7 words that came before")
    max_duplicate_8_gram_character_ratio: float = _share(0.12, "characters in runs of 8 words that came before")
    max_duplicate_9_gram_character_ratio: float = _share(0.11, "characters in runs of 9 words that came before")
    max_duplicate_10_gram_character_ratio: float = _share(0.10, "characters in runs of 10 words that came before")

    def judge(self, signals: Signals) -> Drop | None:
        """The first threshold that the text does not meet, or None; needs the signals' repetition."""
        seen = signals.repetition
        assert seen is not None, "measure(text, repetition=True)"
        for key, value, what in (
            ("duplicate_line_ratio", seen.duplicate_line_ratio, "of its lines repeated"),
            ("duplicate_paragraph_ratio", seen.duplicate_paragraph_ratio, "of its paragraphs repeated"),
            ("duplicate_line_character_ratio", seen.duplicate_line_character_ratio, "of it in repeated lines"),
            (
                "duplicate_paragraph_character_ratio",
                seen.duplicate_paragraph_character_ratio,
                "of it in repeated paragraphs",
            ),
        ):
            if found := outside(self, key, value, what):
                return found
        for size, value in seen.top_ngram_character_ratio.items():
            if found := outside(self, f"top_{size}_gram_character_ratio", value, f"of it in one run of {size} words"):
                return found
        for size, value in seen.duplicate_ngram_character_ratio.items():
            key = f"duplicate_{size}_gram_character_ratio"
            if found := outside(self, key, value, f"of it in repeated runs of {size} words"):
                return found
        return None
