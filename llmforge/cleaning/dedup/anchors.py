"""Anchors: few runs of words of a text, chosen so that every long enough passage holds one, wherever it stands.

Winnowing (Schleimer, Wilkerson and Aiken 2003, https://theory.stanford.edu/~aiken/publications/papers/sigmod03.pdf):
the smallest hash of every `window` runs of `gram` words, with window + gram - 1 = min_words, so that a passage of
`min_words` words holds an anchor and two texts that share the passage share the anchor. Of 50 words there is one in 13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from llmforge.cleaning.dedup.shingles import run_hashes, word_hashes
from llmforge.config.schema import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ANCHOR = [("hash", "<u8"), ("word", "<u4")]  # of a run of words, and the number of its first word; 12 bytes
_MIX = 0x94D049BB133111EB


class SubstringSettings(Config):
    """Which repeated passages go, and what becomes of a document that has them."""

    min_words: int = Field(default=50, ge=8, le=10_000, description="words of a passage, from here up")
    action: Literal["cut", "drop_document"] = Field(
        default="cut", description="cut the passages out, or drop documents that are made of them"
    )
    min_remaining: float = Field(
        default=0.2, ge=0, le=1, description="a document is dropped when less than this share of its words is its own"
    )

    @property
    def gram(self) -> int:
        """Words of an anchor."""
        return self.min_words - self.window + 1

    @property
    def window(self) -> int:
        """Anchors are the smallest of so many."""
        return self.min_words // 2


def _extreme(values: Any, window: int, pick: Any) -> Any:
    """The smallest or greatest of every `window` values; (len(values) - window + 1,). Doubling steps."""
    width = 1
    while width * 2 <= window:
        values = pick(values[:-width], values[width:])
        width *= 2
    rest = window - width
    return pick(values[:-rest], values[rest:]) if rest else values


def anchors(text: str, settings: SubstringSettings) -> NDArray[np.void]:
    """The anchors of a text in order, (anchors,) of ANCHOR; none when it has fewer words than a passage.

    Of a run of equal hashes side by side (one word again and again) the first and the last are taken.
    """
    return anchors_of_words(word_hashes(text), settings)


def anchors_of_words(words: NDArray[np.uint64], settings: SubstringSettings) -> NDArray[np.void]:
    """The `anchors` of a text whose words are known, as `word_hashes` gives them."""
    import numpy as np

    if len(words) < settings.min_words:
        return np.empty(0, dtype=ANCHOR)
    grams = run_hashes(words, settings.gram)
    grams ^= grams >> np.uint64(32)
    grams *= np.uint64(_MIX)
    smallest = _extreme(grams, settings.window, np.minimum)
    # A gram is the smallest of some window exactly when the greatest of its windows' minima is no smaller.
    edge = np.zeros(settings.window - 1, dtype=np.uint64)
    chosen = grams <= _extreme(np.concatenate((edge, smallest, edge)), settings.window, np.maximum)
    differs = np.concatenate(([True], grams[1:] != grams[:-1], [True]))
    chosen &= differs[1:] | differs[:-1]
    at = np.flatnonzero(chosen)
    found = np.empty(len(at), dtype=ANCHOR)
    found["hash"], found["word"] = grams[at], at
    return found
