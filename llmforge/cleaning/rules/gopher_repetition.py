"""The repetition rules of Gopher (https://arxiv.org/abs/2112.11446, table A1) with the published thresholds.

A paragraph ends at an empty line. Runs are of words between white space, or with `words: punctuation` of words and
marks, as datatrove has them. As in datatrove, what came before counts from its second coming on (DCLM counts the first
one too). `lines.py` and `repetition.py` among the signals say how each share is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.threshold import Judge, Limit
from llmforge.cleaning.signals.measure import of_kind
from llmforge.cleaning.signals.repetition import DUPLICATE_SIZES, TOP_SIZES, run_signal
from llmforge.cleaning.signals.words import WordKind


def _share(value: float, what: str) -> float:
    share: float = Field(default=value, ge=0, le=1, description=what)
    return share


class GopherRepetition(Judge):
    """Drops texts that say the same again and again."""

    name: Literal["gopher_repetition"] = "gopher_repetition"
    words: WordKind = Field(default="whitespace", description="what ends a word: white space, or also punctuation")
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

    def limits(self) -> Sequence[Limit]:
        """Lines and paragraphs, then runs from short to long."""
        parts = (
            ("duplicate_line_ratio", "of its lines repeated"),
            ("duplicate_paragraph_ratio", "of its paragraphs repeated"),
            ("duplicate_line_character_ratio", "of it in repeated lines"),
            ("duplicate_paragraph_character_ratio", "of it in repeated paragraphs"),
        )
        limits = [Limit(f"max_{signal}", signal, what) for signal, what in parts]
        for size in (*TOP_SIZES, *DUPLICATE_SIZES):
            runs = f"one run of {size} words" if size in TOP_SIZES else f"repeated runs of {size} words"
            signal = run_signal(size)
            limits.append(Limit(f"max_{signal}", of_kind(signal, self.words), f"of it in {runs}"))
        return limits
