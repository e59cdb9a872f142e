"""Texts to hashed counts of their runs of words: the one input of the classifier, in training and in use.

A text is cut into words (letters, digits and bytes above ASCII; a character of a script without spaces is one), marks
(runs of punctuation) and line ends; case is folded for ASCII and every digit counts as 0, so that a price is a price.
Runs of one word, of two and so on are hashed (Weinberger et al., 2009, https://arxiv.org/abs/0902.2206), counted,
damped to log(1 + count) and scaled to a Euclidean length of 1 a text. All is integer arithmetic over bytes but for the
last step, whose sums run in a fixed order within a text: what else is in the batch changes nothing.

N texts, F features of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from llmforge.cleaning.classify.settings import FeatureSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_GROUP_BYTES = 64 << 10  # at a time, so that what is computed stays in the processor's cache
_GROUP_TEXTS = 1024  # text and counter together fit 32 bits at 22 bits of counters
_MASK = (1 << 64) - 1
_FACTOR = 0x9E3779B97F4A7C15
_MIX = 0xBF58476D1CE4E5B9
_MAX_POWER = 1024  # a power of two: words longer than this repeat the powers
_MAX_COUNT = 1 << 12
_BLANK, _WORD, _MARK, _LINE = range(4)


@dataclass(frozen=True)
class Features:
    """The features of N texts, text after text: F `counters` with F `values`, and where each text's end.

    `texts` has the number of the text of each feature, rising.
    """

    num_texts: int
    texts: NDArray[np.int64]  # (F,)
    counters: NDArray[np.int64]  # (F,)
    values: NDArray[np.float64]  # (F,)


@dataclass(frozen=True)
class _Tables:
    values: NDArray[np.uint64]  # (256,) of a byte; 0 for blanks
    kinds: NDArray[np.uint8]  # (256,)
    powers: NDArray[np.uint64]  # (_MAX_POWER,)
    damped: NDArray[np.float64]  # (_MAX_COUNT + 1,) log(1 + count)


@cache
def _tables() -> _Tables:
    import numpy as np

    values, kinds = np.zeros(256, dtype=np.uint64), np.zeros(256, dtype=np.uint8)
    for byte in range(256):
        sign = fold(chr(byte)) if byte < 0x80 else ""
        if sign.isspace() or (sign and ord(sign) < 0x20) or byte == 0x7F:
            kinds[byte] = _LINE if sign == "\n" else _BLANK
        else:
            kinds[byte] = _WORD if not sign or sign.isalnum() else _MARK
        if kinds[byte] != _BLANK:
            mixed = ((ord(sign) if sign else byte) + 1) * _FACTOR & _MASK
            values[byte] = ((mixed ^ mixed >> 29) * _MIX & _MASK) | 1
    powers = np.empty(_MAX_POWER, dtype=np.uint64)
    power = 1
    for place in range(_MAX_POWER):
        powers[place] = power
        power = power * 0xD6E8FEB86659FD93 & _MASK
    damped = np.asarray([math.log1p(count) for count in range(_MAX_COUNT + 1)])
    return _Tables(values, kinds, powers, damped)


def fold(text: str) -> str:
    """The text as features see it: ASCII letters small, ASCII digits 0; the rest as it is."""
    return text.translate(_FOLDED)


_FOLDED = {**{ord(sign): ord(sign) + 32 for sign in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}, **dict.fromkeys(range(48, 58), 48)}


def sample(text: str, max_characters: int) -> str:
    """A short text whole; of a longer one its beginning, middle and end, a third of `max_characters` each."""
    if len(text) <= max_characters:
        return text
    part = max_characters // 3
    middle = (len(text) - part) // 2
    return "\n".join((text[:part], text[middle : middle + part], text[len(text) - part :]))


def features_of(texts: Sequence[str], settings: FeatureSettings) -> Iterator[Features]:
    """The features of the texts in their order, some texts at a time."""
    group: list[bytes] = []
    size = 0
    for text in texts:
        data = sample(text, settings.max_characters).encode("utf-8", "surrogatepass")
        if group and (size + len(data) > _GROUP_BYTES or len(group) == _GROUP_TEXTS):
            yield _group_features(group, settings)
            group, size = [], 0
        group.append(data)
        size += len(data)
    if group:
        yield _group_features(group, settings)


def _group_features(group: list[bytes], settings: FeatureSettings) -> Features:
    import numpy as np

    data = np.frombuffer(b" ".join(group), dtype=np.uint8)
    ends = np.cumsum([len(text) + 1 for text in group])  # (N,) where each text ends, with the blank behind it
    found = [(places, hashes) for places, _, hashes in runs_of(data, ends, settings)]
    places = np.concatenate([places for places, _ in found])
    hashes = np.concatenate([hashes for _, hashes in found])
    owners = np.searchsorted(ends, places, side="right").astype(np.uint32)
    keys = (owners << np.uint32(settings.bits)) | counters_of(hashes, settings.bits).astype(np.uint32)
    keys.sort()
    first = np.flatnonzero(np.concatenate((np.ones(min(1, len(keys)), dtype=bool), keys[1:] != keys[:-1])))
    counts = np.diff(first, append=len(keys))
    owner = (keys[first] >> np.uint32(settings.bits)).astype(np.int64)
    values = _tables().damped[np.minimum(counts, _MAX_COUNT)]
    lengths = np.sqrt(np.bincount(owner, values * values, len(group)))
    counters = (keys[first] & np.uint32((1 << settings.bits) - 1)).astype(np.int64)
    return Features(len(group), owner, counters, values / lengths[owner])


def counters_of(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """The counter of each hash: its upper bits."""
    import numpy as np

    return hashes >> np.uint64(64 - bits)


def runs_of(
    data: NDArray[np.uint8], ends: NDArray[np.int64], settings: FeatureSettings
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]]:
    """(first byte, byte after the last, hash) of all runs of one word, then of two and so on, then of characters.

    `data` holds texts that end before `ends`; no run crosses an end.
    """
    import numpy as np

    starts, stops, words = _words(data)
    owners = np.searchsorted(ends, starts, side="right")
    chained = np.zeros(len(words), dtype=np.uint64)
    for length in range(1, settings.words + 1):
        count = max(0, len(words) - length + 1)
        chained = chained[:count] * np.uint64(_FACTOR) + words[length - 1 : length - 1 + count]
        last = stops[length - 1 : length - 1 + count]
        if length == 1:
            yield starts, last, _mixed(chained)
            continue
        whole = owners[:count] == owners[length - 1 : length - 1 + count]
        yield starts[:count][whole], last[whole], _mixed(chained[whole] ^ np.uint64(length))
    if settings.characters:
        yield _character_runs(data, ends, settings.characters)


def _words(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """First byte, byte after the last, and number of each word, mark and line end."""
    import numpy as np

    tables = _tables()
    kinds = tables.kinds[data]
    solid = kinds != _BLANK
    changes = np.ones(len(data) + 1, dtype=bool)  # before each byte, and at the end
    np.not_equal(kinds[1:], kinds[:-1], out=changes[1:-1])
    changes[:-1] |= (data >= 0xE3) & (data <= 0xED)  # kana, Chinese and Korean characters are words each
    starts = np.flatnonzero(changes[:-1] & solid)
    stops = np.flatnonzero(changes[1:] & solid) + 1
    if not len(starts):
        return starts, stops, np.empty(0, dtype=np.uint64)
    lengths = np.diff(starts, append=len(data))
    places = np.arange(starts[0], len(data)) - np.repeat(starts, lengths)
    places &= _MAX_POWER - 1
    numbers = tables.values[data[starts[0] :]]
    numbers *= tables.powers[places]
    return starts, stops, _mixed(np.add.reduceat(numbers, starts - starts[0]))


def _character_runs(
    data: NDArray[np.uint8], ends: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    import numpy as np

    numbers = _tables().values[data]
    count = max(0, len(data) - length + 1)
    chained = np.zeros(count, dtype=np.uint64)
    for place in range(length):
        chained = chained * np.uint64(_FACTOR) + numbers[place : place + count]
    starts = np.arange(count)
    owners = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))[: len(data)]
    whole = starts + length < ends[owners[:count]]  # the blank behind a text is not its own
    return starts[whole], starts[whole] + length, _mixed(chained[whole] ^ np.uint64(64 + length))


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    import numpy as np

    hashes = (hashes ^ (hashes >> np.uint64(31))) * np.uint64(_MIX)
    return hashes ^ (hashes >> np.uint64(29))
