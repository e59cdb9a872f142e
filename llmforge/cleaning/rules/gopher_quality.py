"""The quality rules of Gopher (https://arxiv.org/abs/2112.11446, appendix A1.1) with the published thresholds.

A word is what stands between white space (datatrove counts punctuation marks as words of their own, which fails many
more texts by `min_alpha_word_ratio`); stop words are matched as whole lower-case words.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.threshold import outside
from llmforge.cleaning.signals.measure import Signals
from llmforge.cleaning.verdict import Drop
from llmforge.config.schema import Config


class GopherQuality(Config):
    """Drops texts that are too short, too long, or not made of sentences."""

    name: Literal["gopher_quality"] = "gopher_quality"
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

    def judge(self, signals: Signals) -> Drop | None:
        """The first threshold that the text does not meet, or None."""
        for key, value, what in (
            ("words", signals.num_words, "words"),
            ("mean_word_length", signals.mean_word_length, "characters a word on average"),
            ("hash_word_ratio", signals.hash_word_ratio, "# signs per word"),
            ("ellipsis_word_ratio", signals.ellipsis_word_ratio, "ellipses per word"),
            ("bullet_line_ratio", signals.bullet_line_ratio, "of its lines starting with a bullet"),
            ("ellipsis_line_ratio", signals.ellipsis_line_ratio, "of its lines ending in an ellipsis"),
            ("alpha_word_ratio", signals.alpha_word_ratio, "of its words with a letter"),
            ("stop_words", signals.num_stop_words, "different stop words"),
        ):
            if found := outside(self, key, value, what):
                return found
        return None
