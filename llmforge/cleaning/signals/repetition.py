"""How much of a text says the same again: lines, paragraphs, and runs of 2 to 10 words.

The measures of Gopher (https://arxiv.org/abs/2112.11446, table A1) in the reading of datatrove, with one difference: a
run of words that comes once is no repetition, so the top run of a short text counts only from its second coming.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)
MAX_WORDS = 500_000  # runs are looked for in this many words from the beginning, which bounds memory at about 200 MB

_PARAGRAPHS = re.compile(r"\n{2,}")
_LINES = re.compile(r"\n+")


@dataclass(frozen=True, slots=True)
class Repetition:
    """Shares of a text that repeat; characters are counted against the whole text (or the part looked at)."""

    duplicate_line_ratio: float
    duplicate_line_character_ratio: float
    duplicate_paragraph_ratio: float
    duplicate_paragraph_character_ratio: float
    top_ngram_character_ratio: dict[int, float]
    duplicate_ngram_character_ratio: dict[int, float]


def _duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts came before, and their characters."""
    unique = set(parts)
    if len(unique) == len(parts):
        return 0, 0
    return len(parts) - len(unique), sum(map(len, parts)) - sum(map(len, unique))


def measure_repetition(text: str, words: Sequence[str]) -> Repetition:
    """The repetition of a text of which `words` are the words."""
    stripped = text.strip()
    paragraphs = _PARAGRAPHS.split(stripped)
    lines = _LINES.split(stripped)
    paragraph_count, paragraph_characters = _duplicates(paragraphs)
    line_count, line_characters = _duplicates(lines)
    length = max(len(text), 1)
    if len(words) > MAX_WORDS:
        words = words[:MAX_WORDS]
        length = sum(map(len, words)) + MAX_WORDS
    top, duplicate = _runs(words)
    return Repetition(
        duplicate_line_ratio=line_count / len(lines),
        duplicate_line_character_ratio=line_characters / max(len(text), 1),
        duplicate_paragraph_ratio=paragraph_count / len(paragraphs),
        duplicate_paragraph_character_ratio=paragraph_characters / max(len(text), 1),
        top_ngram_character_ratio={size: top[size] / length for size in TOP_SIZES},
        duplicate_ngram_character_ratio={size: duplicate[size] / length for size in DUPLICATE_SIZES},
    )


def _runs(words: Sequence[str]) -> tuple[dict[int, int], dict[int, int]]:
    """Characters in the top runs, by size 2 to 4, and in duplicated runs, by size 5 to 10.

    A run of n + 1 words can only come twice where both its runs of n words do, so each size looks only at the places
    that the smaller one left: prose has few of them beyond three words.
    """
    top = dict.fromkeys(TOP_SIZES, 0)
    duplicate = dict.fromkeys(DUPLICATE_SIZES, 0)
    ends = list(accumulate(map(len, words), initial=0))
    pairs = list(zip(words, words[1:], strict=False))
    counts: Counter[tuple[object, object]] = Counter(pairs)
    numbers = {pair: number for number, pair in enumerate(pair for pair, count in counts.items() if count > 1)}
    if numbers:
        best = max(numbers, key=counts.__getitem__)
        top[2] = counts[best] * (len(str(best[0])) + len(str(best[1])) + 1)
    place = {start: numbers[pair] for start, pair in enumerate(pairs) if pair in numbers}
    for size in range(3, DUPLICATE_SIZES[-1] + 1):
        place = _longer(place)
        if not place:
            break
        if size in top:
            top[size] = _top_characters(place, ends, size)
        elif size in duplicate:
            duplicate[size] = _duplicate_characters(place, ends, size)
    return top, duplicate


def _longer(place: dict[int, int]) -> dict[int, int]:
    """From the places of repeated runs of n words (start -> number) to those of n + 1 words, numbered anew."""
    keys = {start: (number, place[start + 1]) for start, number in place.items() if start + 1 in place}
    counts = Counter(keys.values())
    numbers = {key: number for number, key in enumerate(key for key, count in counts.items() if count > 1)}
    return {start: numbers[key] for start, key in keys.items() if key in numbers}


def _top_characters(place: dict[int, int], ends: list[int], size: int) -> int:
    """Characters, single spaces included, of the most frequent run; the first seen among equals."""
    counts = Counter(place.values())
    best = max(counts, key=counts.__getitem__)
    start = next(start for start, number in place.items() if number == best)
    return counts[best] * (ends[start + size] - ends[start] + size - 1)


def _duplicate_characters(place: dict[int, int], ends: list[int], size: int) -> int:
    """Characters, spaces left out, of runs seen before; a run that was counted is stepped over."""
    seen: set[int] = set()
    free = characters = 0
    for start, number in place.items():
        if start < free:
            continue
        if number in seen:
            characters += ends[start + size] - ends[start]
            free = start + size
        else:
            seen.add(number)
    return characters
