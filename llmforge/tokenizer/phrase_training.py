"""Which phrases a vocabulary gets: the pairs of neighbouring pieces that stand together most often, found greedily."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from llmforge.tokenizer.phrases import is_mergeable, is_phrase

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmforge.tokenizer.sentencepiece_backend import SentencePieceBackend

GAP = 0xFFFFFFFF  # stands between texts
_BATCH = 0.5  # a round takes all pairs that are at least half as frequent as its best
_MIN_COUNT = 20
_MAX_LENGTH = 32  # characters of a phrase


class _Pieces:
    """What is asked of each piece, by id; phrases are added while they are found."""

    def __init__(self, texts: Sequence[str], room: int) -> None:
        import numpy as np

        self.texts = list(texts)
        self.phrases: dict[str, int] = {}
        size = len(texts) + room + 1  # the last row stands for the gap between texts
        self.begins_spaced, self.ends_spaced, self.usable, self.letter_first, self.letter_last = np.zeros(
            (5, size), dtype=bool
        )
        for number, text in enumerate(texts):
            self._describe(number, text)

    def add(self, text: str) -> int:
        """The id of a phrase, new or found earlier by another way to put it together."""
        if text not in self.phrases:
            self.phrases[text] = len(self.texts)
            self.texts.append(text)
            self._describe(self.phrases[text], text)
        return self.phrases[text]

    def _describe(self, number: int, text: str) -> None:
        # Numbers stay one id a digit.
        self.usable[number] = bool(text) and not any(sign.isdigit() for sign in text)
        self.begins_spaced[number] = text[:1] == " "
        self.ends_spaced[number] = text[-1:] == " "
        self.letter_first[number] = text[:1].isalpha()
        self.letter_last[number] = text[-1:].isalpha()


def id_stream(backend: SentencePieceBackend, texts: Iterable[str]) -> NDArray[np.uint32]:
    """The ids of all texts, `GAP` behind each."""
    import numpy as np

    gap = np.array([GAP], dtype=np.uint32)
    found = [part for text in texts for part in (np.frombuffer(backend.encode(text), dtype=np.uint32), gap)]
    return np.concatenate(found) if found else gap


def learn_phrases(ids: NDArray[np.uint32], pieces: Sequence[str], most: int) -> list[str]:
    """Up to `most` phrases, the most frequent first.

    `ids` (N,) are texts in the vocabulary `pieces` (text by id, "" for what no phrase may hold), `GAP` between them.
    Pairs are counted only where both sides are whole words or signs, so that no phrase ends in the middle of a word.
    """
    import numpy as np

    known = _Pieces(pieces, most)
    gap = len(known.usable) - 1
    row = np.where(ids == GAP, gap, ids).astype(np.int64)
    while chosen := _most_frequent(row, known, most - len(known.phrases)):
        keys = np.array([left * gap + right for left, right in chosen], dtype=np.int64)
        news = np.array([known.add(known.texts[left] + known.texts[right]) for left, right in chosen])
        row = _merged(row, keys, news, gap)
    return list(known.phrases)


def _most_frequent(ids: NDArray[np.int64], known: _Pieces, most: int) -> list[tuple[int, int]]:
    """The pairs that this round merges; none overlaps another."""
    import numpy as np

    left, right, gap = ids[:-1], ids[1:], len(known.usable) - 1
    inside = known.letter_first[left[1:]] & known.letter_last[ids[:-2]]  # the left one begins in the middle of a word
    fits = known.begins_spaced[right] & ~known.ends_spaced[left] & known.usable[left] & known.usable[right]
    fits[1:] &= ~inside
    fits[:-1] &= ~(known.letter_first[ids[2:]] & known.letter_last[right[:-1]])
    keys, counts = np.unique(left[fits] * gap + right[fits], return_counts=True)
    chosen: list[tuple[int, int]] = []
    lefts: set[int] = set()
    rights: set[int] = set()
    best = 0
    for at in np.lexsort((keys, -counts)):
        if counts[at] < max(_MIN_COUNT, _BATCH * best) or most == 0:
            break
        first, second = divmod(int(keys[at]), gap)
        text = known.texts[first] + known.texts[second]
        apart = first not in rights and second not in lefts and first != second
        if apart and len(text) <= _MAX_LENGTH and is_phrase(text) and is_mergeable(text):
            chosen.append((first, second))
            lefts.add(first)
            rights.add(second)
            best = best or counts[at]
            most -= text not in known.phrases
    return chosen


def _merged(ids: NDArray[np.int64], keys: NDArray[np.int64], news: NDArray[np.int64], gap: int) -> NDArray[np.int64]:
    import numpy as np

    order = np.argsort(keys)
    keys, news = keys[order], news[order]
    pairs = ids[:-1] * gap + ids[1:]
    rows = np.searchsorted(keys, pairs)
    rows[rows == len(keys)] = 0
    places = np.flatnonzero(keys[rows] == pairs)
    ids[places] = news[rows[places]]
    return np.delete(ids, places + 1)
