"""A text as words, each a number in its vocabulary, and the shares of words that rules ask for.

What counts as a word changes verdicts, so there are two readings. `whitespace`: what stands between white space, as
Gopher, dolma and DCLM have it. `punctuation`: marks before and behind a word are words of their own, and an apostrophe
inside begins one ("don't." is "don", "'t", "."), which is close to the spaCy tokens that datatrove counts; there, as in
datatrove, marks count in the ratios' denominators but not in the number of words.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

WordKind = Literal["whitespace", "punctuation"]
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
WORD_SIGNALS = (
    "num_words",
    "mean_word_length",
    "hash_word_ratio",
    "ellipsis_word_ratio",
    "alpha_word_ratio",
    "num_stop_words",
    "newline_word_ratio",
)

PIECE = 1 << 20  # characters
_SPACE = re.compile(r"\s")
# A word may hold marks inside that spaCy does not part it at ("os.path", "f(x"); runs of some marks are one word.
_TOKENS = re.compile(
    r"\w+(?:[.@&()\[\]{}#%$\\+*|;!?~^]+\w+|(?<=[0-9])[,:/](?=[0-9])\w+)*|(?<=\w)['’]\w+|\.{2,}|-+|~+|\|+|/+|\\+|\^+"
    r"|[^\w\s]"
)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text: `numbers` (words,) into the vocabulary, whose words are `lengths` (vocabulary,) long."""

    places: dict[str, int]
    numbers: Integers
    lengths: Integers


def split_words(text: str, kind: WordKind) -> list[str]:
    """The words of a text in order."""
    return text.split() if kind == "whitespace" else _TOKENS.findall(text)


def number_words(parts: Iterable[list[str]]) -> Words:
    """The words of the parts in order; equal words get equal numbers, from 0 in the order of their first coming."""
    import numpy as np

    places: defaultdict[str, int] = defaultdict()
    places.default_factory = places.__len__
    numbers = [np.fromiter(map(places.__getitem__, words), np.int64, len(words)) for words in parts]
    places.default_factory = None  # it holds the dictionary in a ring, which would outlive the text
    lengths = np.fromiter(map(len, places), np.int64, len(places))
    return Words(places, numbers[0] if len(numbers) == 1 else np.concatenate(numbers), lengths)


def words_of(text: str, kind: WordKind) -> Words:
    """The words of a text, split a piece at a time so that a huge text is not held as a list of all its words."""
    return number_words(split_words(piece, kind) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """The text, or its pieces of about a million characters, cut at white space."""
    start = 0
    while len(text) - start > PIECE:
        cut = _SPACE.search(text, start + PIECE)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:] if start else text


def word_signals(text: str, words: Words, kind: WordKind) -> dict[str, float]:
    """The numbers named in WORD_SIGNALS; ratios are 0 where there is no word.

    `mean_word_length` leaves out words without any letter or figure; `num_stop_words` counts different ones, in small
    letters.
    """
    import numpy as np

    counts = np.bincount(words.numbers, minlength=len(words.places))
    no_letter = [
        (number, word)
        for number, word in enumerate(words.places)
        if not (word.isalpha() or word[0].isalpha() or any(map(str.isalpha, word)))
    ]
    symbols = [number for number, word in no_letter if not any(map(str.isalnum, word))]
    total = len(words.numbers)
    marks = int(counts[symbols].sum())
    characters = int(counts @ words.lengths) - int(counts[symbols] @ words.lengths[symbols])
    per_word = max(total, 1)
    return {
        "num_words": total if kind == "whitespace" else total - marks,
        "mean_word_length": characters / max(total - marks, 1),
        "hash_word_ratio": text.count("#") / per_word,
        "ellipsis_word_ratio": (text.count("...") + text.count("…")) / per_word,
        "alpha_word_ratio": (total - int(counts[[number for number, _ in no_letter]].sum())) / per_word,
        "num_stop_words": sum(word in words.places for word in STOP_WORDS),
        "newline_word_ratio": text.count("\n") / per_word,
    }
