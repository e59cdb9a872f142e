"""A text as numbers: its words, and the set of its runs of words, which near-duplicate similarity is measured on.

A word is a run of letters and digits in lower case; punctuation, spacing and case make no difference. Characters of
scripts without spaces (kana, Chinese, Korean: U+3000 to U+DFFF) begin a word each. A text of fewer words than a run has
one run: all of it. A word's number is a polynomial of its bytes modulo 2**64 (Karp and Rabin 1987), mixed; NumPy sums
it for all words of a piece at once, the powers counted from the piece's start and divided out word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

WORDS_VERSION = 2  # of what a word's number is: indexes made with another one cannot be compared
_PIECE = 64 << 10  # bytes at a time, small enough for eight times as much to stay in the processor's cache
_FACTOR = 0x9E3779B97F4A7C15
_MIX = 0xBF58476D1CE4E5B9
_BASE = 0xD6E8FEB86659FD93  # odd, so it has an inverse modulo 2**64
_MASK = (1 << 64) - 1
# Letters and digits in lower case, bytes beyond ASCII as they are, all others 0.
_FOLD = bytes(byte if byte >= 0x80 else ord(chr(byte).lower()) if chr(byte).isalnum() else 0 for byte in range(256))
# What is left of a text without these has letters that may have two cases.
_CASELESS = bytes(range(0x80, 0xC0)) + bytes(range(0x80)) + b"\xc2\xe2"
_PERHAPS_CASED = re.compile(b"\xe2[\x84-\xbf]")  # U+2100 and beyond, where some letters have two cases


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """The powers of the base from 0, and their inverses."""
    import numpy as np

    inverse = pow(_BASE, -1, 1 << 64)
    tables = []
    for factor in (_BASE, inverse):
        table = np.empty(_PIECE + 1, dtype=np.uint64)
        power = 1
        for place in range(len(table)):
            table[place] = power
            power = power * factor & _MASK
        tables.append(table)
    return tables[0], tables[1]


def _mixed(hashes: Hashes) -> Hashes:
    import numpy as np

    hashes = (hashes ^ (hashes >> np.uint64(31))) * np.uint64(_MIX)
    return hashes ^ (hashes >> np.uint64(29))


def _lower(text: str) -> str:
    """Lower case, character by character where the whole would get longer (one letter becomes two)."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


def _in_one_case(text: str) -> bytes:
    """UTF-8 of a text that differs from its lower case in ASCII letters at most; as many characters as the text."""
    data = text.encode("utf-8", "surrogatepass")
    if text.isascii() or not (data.translate(None, _CASELESS) or _PERHAPS_CASED.search(data)):
        return data
    return _lower(text).encode("utf-8", "surrogatepass")


def _folded(data: bytes) -> bytes:
    """Text of one case with a 0 for every byte that parts words, so that what lies between zeros are the words.

    Beyond ASCII, U+00A0-BF, U+2000-206F, U+3000-3003, U+3008-3020, U+FF01-FF0F and U+FEFF part words.
    """
    import numpy as np

    folded = data.translate(_FOLD)
    if data.isascii():
        return folded
    values = np.frombuffer(bytearray(folded), dtype=np.uint8)
    leads = np.flatnonzero(values >= 0xC2)
    found = values[leads]
    at = leads[found == 0xC2]
    at = at[values[at + 1] >= 0xA0]
    values[at] = values[at + 1] = 0
    for lead in (0xE2, 0xE3, 0xEF):
        at = leads[found == lead]
        second, third = values[at + 1], values[at + 2]
        if lead == 0xE2:
            parts = (second == 0x80) | ((second == 0x81) & (third <= 0xAF))
        elif lead == 0xE3:
            parts = (second == 0x80) & ((third <= 0x83) | ((third >= 0x88) & (third <= 0xA0)))
        else:
            parts = ((second == 0xBC) & (third >= 0x81) & (third <= 0x8F)) | ((second == 0xBB) & (third == 0xBF))
        at = at[parts]
        values[at] = values[at + 1] = values[at + 2] = 0
    return values.tobytes()


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of a document, cut between words, so long as no word is longer than a piece."""
    start = 0
    while len(data) - start > _PIECE:
        end = data.rfind(b"\0", start, start + _PIECE) + 1
        if end <= start:
            end = start + _PIECE
            while end > start + 1 and data[end] & 0xC0 == 0x80:  # not inside a character
                end -= 1
        yield start, data[start:end]
        start = end
    yield start, data[start:]


def _begins(values: NDArray[np.uint8]) -> tuple[Any, Any]:
    """(mask of the bytes in words, mask of the words' first bytes)."""
    inside = values != 0
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    if len(values) and values.max() >= 0xE3:
        begins |= (values >= 0xE3) & (values <= 0xED)
    return inside, begins


def _piece_hashes(data: bytes) -> tuple[Hashes, Offsets]:
    """(hashes, first bytes) of the words of a piece."""
    import numpy as np

    powers, inverses = _powers()
    values = np.frombuffer(data, dtype=np.uint8)
    starts = np.flatnonzero(_begins(values)[1])
    if not len(starts):
        return np.empty(0, dtype=np.uint64), starts
    terms = values.astype(np.uint64)
    terms *= powers[: len(terms)]
    np.cumsum(terms, out=terms)  # with differences half the time of np.add.reduceat
    sums = terms[np.append(starts[1:], len(terms)) - 1]
    hashes = np.diff(sums, prepend=np.uint64(0))
    hashes *= inverses[starts]
    return _mixed(hashes), starts


def word_hashes(text: str) -> Hashes:
    """One number for each word of the text, in order; shape (words,)."""
    import numpy as np

    found = [_piece_hashes(piece)[0] for _, piece in _pieces(_folded(_in_one_case(text)))]
    return found[0] if len(found) == 1 else np.concatenate(found)


def word_spans(text: str) -> tuple[Hashes, Offsets, Offsets]:
    """(hashes, first characters, ends) of the words of a text: `text[first:end]` is the word; each (words,)."""
    import numpy as np

    data = _in_one_case(text)
    hashes, starts, ends = [], [], []
    for offset, piece in _pieces(_folded(data)):
        found, begin = _piece_hashes(piece)
        inside, begins = _begins(np.frombuffer(piece, dtype=np.uint8))
        goes_on = np.append(inside[1:] & ~begins[1:], False)
        hashes.append(found)
        starts.append(begin + offset)
        ends.append(np.flatnonzero(inside & ~goes_on) + 1 + offset)
    first, end = np.concatenate(starts), np.concatenate(ends)
    if not text.isascii():  # from bytes to characters
        values = np.frombuffer(data, dtype=np.uint8)
        characters = np.concatenate(([0], np.cumsum((values & 0xC0) != 0x80)))
        first, end = characters[first], characters[end]
    return np.concatenate(hashes), first, end


def flat_word_hashes(texts: Sequence[str]) -> tuple[Hashes, Offsets]:
    """The words of many texts: (hashes of all in order, (texts + 1,) where each text's words begin).

    Short texts go through NumPy together, which changes nothing but the time it takes.
    """
    import numpy as np

    hashes: list[Any] = []
    counts: list[Any] = []
    group: list[bytes] = []
    size = 0

    def finish() -> None:
        ends = np.cumsum([len(data) + 1 for data in group])
        found, starts = _piece_hashes(_folded(b"\0".join(group)))
        hashes.append(found)
        counts.append(np.diff(np.searchsorted(starts, ends), prepend=0))
        group.clear()

    for text in texts:
        data = _in_one_case(text)
        if group and size + len(data) + 1 > _PIECE:
            finish()
            size = 0
        if len(data) >= _PIECE:
            found = [_piece_hashes(piece)[0] for _, piece in _pieces(_folded(data))]
            hashes.extend(found)
            counts.append([sum(map(len, found))])
        else:
            group.append(data)
            size += len(data) + 1
    if group:
        finish()
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    if texts:
        np.cumsum(np.concatenate(counts), out=offsets[1:])
    return np.concatenate([*hashes, np.empty(0, dtype=np.uint64)]), offsets


def run_hashes(hashes: Hashes, words: int) -> Hashes:
    """The run of so many words from each word on, not mixed; shape (len(hashes) - words + 1,), at least 0."""
    import numpy as np

    count = max(0, len(hashes) - words + 1)
    runs = hashes[:count].copy()
    for place in range(1, words if count else 1):
        runs *= np.uint64(_FACTOR)
        runs += hashes[place : place + count]
    return runs


def flat_shingle_hashes(hashes: Hashes, starts: Offsets, words: int) -> tuple[Hashes, Offsets]:
    """All runs of so many words of many texts, also repeated ones: (hashes, (texts + 1,) where each text begins).

    `hashes` and `starts` are those of `flat_word_hashes`.
    """
    import numpy as np

    lengths = np.diff(starts)
    counts = np.where(lengths >= words, lengths - words + 1, np.minimum(lengths, 1))
    offsets = np.zeros(len(starts), dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    runs = run_hashes(hashes, words)
    # A run's place among all minus its place in its own text's runs: how far the text's runs move to the front.
    inside = np.repeat(starts[:-1] - offsets[:-1], counts) + np.arange(offsets[-1])
    short = (lengths > 0) & (lengths < words)
    found = runs.take(inside, mode="clip") if len(runs) else np.zeros(len(inside), dtype=np.uint64)
    for number in np.flatnonzero(short).tolist():
        found[offsets[number]] = run_hashes(hashes[starts[number] : starts[number + 1]], int(lengths[number]))[0]
    return _mixed(found), offsets


def shingle_hashes(text: str, words: int) -> Hashes:
    """The different runs of so many words, sorted; shape (runs,); empty for a text without words."""
    import numpy as np

    hashes = word_hashes(text)
    if not len(hashes):
        return hashes
    found = np.sort(_mixed(run_hashes(hashes, min(words, len(hashes)))))  # np.unique takes five times as long
    is_new = np.ones(len(found), dtype=bool)
    is_new[1:] = found[1:] != found[:-1]
    return found[is_new]


def jaccard(first: Hashes, second: Hashes) -> float:
    """Shared runs over all runs of two texts, 0 to 1; `first` and `second` are sorted and have no repeats."""
    import numpy as np

    if not len(first) or not len(second):
        return 0.0
    both = np.sort(np.concatenate((first, second)))
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return float(shared / (len(first) + len(second) - shared))
