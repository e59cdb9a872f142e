"""The quality rules of Gopher (https://arxiv.org/abs/2112.11446, appendix A1.1) with the published thresholds.

The paper does not say what a word is. `words: whitespace` splits at white space, as dolma and DCLM do; `words:
punctuation` counts marks as words of their own, as datatrove does, which fails many more texts by
`min_alpha_word_ratio`. Stop words are whole words in small letters. datatrove counts blank lines as lines, DCLM also
takes "*" and "●" for bullets and counts a stop word each time it comes; here they are as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.threshold import Judge, Limit
from llmforge.cleaning.signals.measure import of_kind
from llmforge.cleaning.signals.words import WordKind


class GopherQuality(Judge):
    """Drops texts that are too short, too long, or not made of sentences."""

    name: Literal["gopher_quality"] = "gopher_quality"
    words: WordKind = Field(default="whitespace", description="what ends a word: white space, or also punctuation")
    min_words: int = Field(default=50, ge=0, description="fewer words are dropped")
    max_words: int = Field(default=100_000, ge=1, description="more words are dropped")
    min_mean_word_length: float = Field(default=3.0, ge=0, description="characters a word on average")
    max_mean_word_length: float = Field(default=10.0, ge=0, description="characters a word on average")
    max_hash_word_ratio: float = Field(default=0.1, ge=0, description="# signs per word")
    max_ellipsis_word_ratio: float = Field(default=0.1, ge=0, description="ellipses per word")
    max_bullet_line_ratio: float = Field(default=0.9, ge=0, le=1, description="lines that start with a bullet")
    max_ellipsis_line_ratio: float = Field(default=0.3, ge=0, le=1, description="lines that end in an ellipsis")
    min_alpha_word_ratio: float = Field(default=0.8, ge=0, le=1, description="words with at least one letter")
    min_stop_words: int = Field(default=2, ge=0, le=8, description="different ones of: the be to of and that have with")

    def limits(self) -> Sequence[Limit]:
        """In the order of datatrove."""
        words, length = of_kind("num_words", self.words), of_kind("mean_word_length", self.words)
        return (
            Limit("min_words", words, "words"),
            Limit("max_words", words, "words"),
            Limit("min_mean_word_length", length, "characters a word on average"),
            Limit("max_mean_word_length", length, "characters a word on average"),
            Limit("max_hash_word_ratio", of_kind("hash_word_ratio", self.words), "# signs per word"),
            Limit("max_ellipsis_word_ratio", of_kind("ellipsis_word_ratio", self.words), "ellipses per word"),
            Limit("max_bullet_line_ratio", "bullet_line_ratio", "of its lines starting with a bullet"),
            Limit("max_ellipsis_line_ratio", "ellipsis_line_ratio", "of its lines ending in an ellipsis"),
            Limit("min_alpha_word_ratio", of_kind("alpha_word_ratio", self.words), "of its words with a letter"),
            Limit("min_stop_words", of_kind("num_stop_words", self.words), "different stop words"),
        )
