"""A text as the set of its runs of words, each a 64-bit number: what near-duplicate similarity is measured on.

A word is a run of letters and digits in lower case; punctuation, spacing and case make no difference. Characters of
scripts without spaces (kana, Chinese, Korean: U+3000 to U+DFFF) are words each. A text of fewer words than a run has
one run: all of it. Numbers are computed over bytes by NumPy, piece by piece.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

_PIECE = 256 << 10  # bytes at a time, small enough to stay in the processor's cache
_PUNCTUATION = re.compile("[\u00a0-\u00bf\u2000-\u206f\u3000-\u3003\u3008-\u3020\uff01-\uff0f\ufeff]")
_MAX_POWER = 1024  # a power of two
_FACTOR = 0x9E3779B97F4A7C15
_MIX = 0xBF58476D1CE4E5B9


@cache
def _tables() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(a 64-bit value for each byte, 0 where the byte parts words; powers of an odd factor)."""
    import numpy as np

    mask = (1 << 64) - 1
    values = np.zeros(256, dtype=np.uint64)
    for byte in range(256):
        if byte >= 0x80 or chr(byte).isalnum():
            mixed = (byte + 1) * _FACTOR & mask
            values[byte] = ((mixed ^ mixed >> 29) * _MIX & mask) | 1
    powers = np.empty(_MAX_POWER, dtype=np.uint64)
    power = 1
    for place in range(_MAX_POWER):
        powers[place] = power
        power = power * 0xD6E8FEB86659FD93 & mask
    return values, powers


def _mixed(hashes: Hashes) -> Hashes:
    import numpy as np

    hashes = (hashes ^ (hashes >> np.uint64(31))) * np.uint64(_MIX)
    return hashes ^ (hashes >> np.uint64(29))


def word_hashes(text: str) -> Hashes:
    """One number for each word of the text, in order; shape (words,)."""
    import numpy as np

    lowered = text.lower()
    if not lowered.isascii():
        lowered = _PUNCTUATION.sub(" ", lowered)
    data = np.frombuffer(lowered.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    if len(data) <= _PIECE:
        return _piece_hashes(data)
    found = []
    start = 0
    while start < len(data):
        end = min(start + _PIECE, len(data))
        if end < len(data):
            gaps = np.flatnonzero(_tables()[0][data[start:end]] == 0)
            end = start + int(gaps[-1]) + 1 if len(gaps) else end
        found.append(_piece_hashes(data[start:end]))
        start = end
    return np.concatenate(found)


def _piece_hashes(data: NDArray[np.uint8]) -> Hashes:
    import numpy as np

    table, powers = _tables()
    values = table[data]
    inside = values != 0
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    begins |= (data >= 0xE3) & (data <= 0xED)
    starts = np.flatnonzero(begins)
    if not len(starts):
        return np.empty(0, dtype=np.uint64)
    values = values[starts[0] :]
    lengths = np.diff(starts, append=len(data))
    places = np.arange(len(values)) - np.repeat(starts - starts[0], lengths)
    hashes: Hashes = np.add.reduceat(values * powers[places & (_MAX_POWER - 1)], starts - starts[0])
    return _mixed(hashes)


def shingle_hashes(text: str, words: int) -> Hashes:
    """The different runs of so many words, sorted; shape (runs,); empty for a text without words."""
    import numpy as np

    hashes = word_hashes(text)
    if not len(hashes):
        return hashes
    words = min(words, len(hashes))
    count = len(hashes) - words + 1
    runs = np.zeros(count, dtype=np.uint64)
    for place in range(words):
        runs = runs * np.uint64(_FACTOR) + hashes[place : place + count]
    found = np.sort(_mixed(runs))  # np.unique hashes first, which takes five times as long
    is_new = np.ones(count, dtype=bool)
    is_new[1:] = found[1:] != found[:-1]
    return found[is_new]


def jaccard(first: Hashes, second: Hashes) -> float:
    """Shared runs over all runs of two texts, 0 to 1."""
    import numpy as np

    if not len(first) or not len(second):
        return 0.0
    both = np.sort(np.concatenate((first, second)))
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return float(shared / (len(first) + len(second) - shared))
