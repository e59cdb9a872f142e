"""All signals of a text in one pass: what the rule sets judge, and what a verdict can be recomputed from.

A word is what stands between white space, here and in every rule set (datatrove counts punctuation marks as words of
their own, dolma splits as we do). A line is what stands between newlines.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from llmforge.cleaning.signals.repetition import Repetition, measure_repetition

# What ends a sentence in the scripts of the world's larger languages, and what closes a quotation after it.
SENTENCE_ENDS = tuple(".!?\"'”’…。！？؟।۔｡．")
BULLETS = ("•", "-")
ELLIPSES = ("...", "…")
STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})


@dataclass(frozen=True, slots=True)
class Signals:
    """Numbers of one text; ratios are 0 where there is nothing to divide by."""

    num_characters: int
    num_words: int
    mean_word_length: float  # characters a word, words of punctuation alone left out
    hash_word_ratio: float  # "#" characters per word
    ellipsis_word_ratio: float  # "..." and "…" per word
    alpha_word_ratio: float  # words with at least one letter
    num_stop_words: int  # different ones of the eight of Gopher
    newline_word_ratio: float
    num_lines: int  # lines that are not blank
    bullet_line_ratio: float
    ellipsis_line_ratio: float
    punctuated_line_ratio: float  # lines that end in a mark that ends sentences
    line_lengths: tuple[int, ...]  # characters of each line that is not blank, sorted
    duplicate_line_character_ratio: float  # characters in lines seen before; newlines are not counted
    repetition: Repetition | None

    def short_line_ratio(self, max_characters: int) -> float:
        """The share of lines with at most this many characters."""
        return bisect_right(self.line_lengths, max_characters) / self.num_lines if self.num_lines else 0.0


def _has_letter(word: str) -> bool:
    return word.isalpha() or any(map(str.isalpha, word))


def _duplicate_characters(lines: Sequence[str]) -> int:
    unique = set(lines)
    return 0 if len(unique) == len(lines) else sum(map(len, lines)) - sum(map(len, unique))


def measure(text: str, repetition: bool = True) -> Signals:
    """The signals of a text; `repetition` left out saves most of the time where no rule asks for it."""
    words = text.split()
    num_words = len(words)
    # Most words come often: what depends on the word alone is asked once for each different one.
    counted: dict[str, int] = {}
    for word in words:
        counted[word] = counted.get(word, 0) + 1
    spoken = letters = alpha = 0
    for word, count in counted.items():
        if _has_letter(word):
            alpha += count
        elif not any(map(str.isalnum, word)):
            continue
        spoken += count
        letters += count * len(word)
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    num_lines = len(lines)
    stripped = [line.strip() for line in lines]
    per_word = max(num_words, 1)
    per_line = max(num_lines, 1)
    return Signals(
        num_characters=len(text),
        num_words=num_words,
        mean_word_length=letters / spoken if spoken else 0.0,
        hash_word_ratio=text.count("#") / per_word,
        ellipsis_word_ratio=(text.count("...") + text.count("…")) / per_word,
        alpha_word_ratio=alpha / per_word,
        num_stop_words=sum(word in counted for word in STOP_WORDS),
        newline_word_ratio=text.count("\n") / per_word,
        num_lines=num_lines,
        bullet_line_ratio=sum(line.startswith(BULLETS) for line in stripped) / per_line,
        ellipsis_line_ratio=sum(line.endswith(ELLIPSES) for line in stripped) / per_line,
        punctuated_line_ratio=sum(line.endswith(SENTENCE_ENDS) for line in stripped) / per_line,
        line_lengths=tuple(sorted(map(len, lines))),
        duplicate_line_character_ratio=_duplicate_characters(lines) / max(len(text) - text.count("\n"), 1),
        repetition=measure_repetition(text, words) if repetition else None,
    )
