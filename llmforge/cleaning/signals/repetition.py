"""How much of a text is the same run of 2 to 10 words again.

The measures of Gopher (https://arxiv.org/abs/2112.11446, table A1) in the reading of datatrove, with one difference: a
run of words that comes once is no repetition, so the top run of a short text counts only from its second coming.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from llmforge.cleaning.signals.words import Words

if TYPE_CHECKING:
    from llmforge.cleaning.signals.words import Integers

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)
MAX_WORDS = 500_000  # runs are looked for in this many words from the beginning, which bounds memory at about 60 MB


def run_signal(size: int) -> str:
    """The name of the signal for runs of so many words."""
    return f"{'top' if size in TOP_SIZES else 'duplicate'}_{size}_gram_character_ratio"


RUN_SIGNALS = tuple(run_signal(size) for size in (*TOP_SIZES, *DUPLICATE_SIZES))


def run_signals(text: str, words: Words, sizes: Collection[int]) -> dict[str, float]:
    """Characters in the top runs (2 to 4 words) and in duplicated runs (5 to 10), over those of the text.

    A run of n + 1 words can only come twice where both its runs of n words do, so each size looks only at the places
    that the smaller one left: prose has few of them beyond three words.
    """
    import numpy as np

    length = max(len(text), 1)
    numbers = words.numbers
    if len(numbers) > MAX_WORDS:
        numbers = numbers[:MAX_WORDS]
        length = int(words.lengths[numbers].sum()) + MAX_WORDS
    found = dict.fromkeys(map(run_signal, sizes), 0.0)
    largest = max(sizes, default=0)
    places = np.arange(len(numbers))
    ends = np.zeros(len(numbers) + 1, dtype=np.int64)
    np.cumsum(words.lengths[numbers], out=ends[1:])
    for size in range(2, largest + 1):
        places, numbers = _longer(places, numbers)
        if not len(places):
            break
        if size in sizes:
            count = _top_characters if size in TOP_SIZES else _duplicate_characters
            found[run_signal(size)] = count(places, numbers, ends, size) / length
    return found


def _longer(places: Integers, numbers: Integers) -> tuple[Integers, Integers]:
    """From the places and numbers of runs of n words to those of n + 1 words that come twice, numbered anew."""
    import numpy as np

    next_to = np.flatnonzero(places[1:] == places[:-1] + 1)
    if len(next_to) < 2:
        return next_to[:0], next_to[:0]
    keys = numbers[next_to] * (int(numbers.max()) + 1) + numbers[next_to + 1]
    order = np.argsort(keys)
    ordered = keys[order]
    is_new = np.empty(len(keys), dtype=bool)
    is_new[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    again = ~is_new
    again[:-1] |= again[1:]  # the first of a group has a second one behind it
    group = np.empty(len(keys), dtype=np.int64)
    group[order] = np.cumsum(is_new & again)  # numbered from 1 among those that come twice
    stays = np.empty(len(keys), dtype=bool)
    stays[order] = again
    return places[next_to[stays]], group[stays]


def _top_characters(places: Integers, numbers: Integers, ends: Integers, size: int) -> int:
    """Characters, single spaces included, of the most frequent run; the first seen among equals."""
    import numpy as np

    counts: Any = np.bincount(numbers)
    best = int(counts.max())
    start = int(places[int(np.argmax(counts[numbers] == best))])
    return best * (int(ends[start + size] - ends[start]) + size - 1)


def _duplicate_characters(places: Integers, numbers: Integers, ends: Integers, size: int) -> int:
    """Characters, spaces left out, of runs seen before; a run that was counted is stepped over."""
    seen: set[int] = set()
    free = 0
    counted = []
    for start, number in zip(places.tolist(), numbers.tolist(), strict=True):
        if start < free:
            continue
        if number in seen:
            counted.append(start)
            free = start + size
        else:
            seen.add(number)
    return sum(int(ends[start + size] - ends[start]) for start in counted)
