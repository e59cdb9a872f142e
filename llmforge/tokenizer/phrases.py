"""Pieces that reach over word borders (" of the", ", and", a line break and indentation) and how ids merge to them.

A vocabulary is learned in two steps, as SuperBPE does (https://arxiv.org/abs/2503.13423): pieces inside words first,
then phrases of whole pieces, which all rank behind the former. So a text can be encoded word by word with a memory for
words, and the phrases are merged afterwards over the ids. Phrases are kept simple so that this can be done for all
places at once and still give exactly sentencepiece's ids: at most three parts, and no word twice in a phrase.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PARTS = 3


def borders(piece: str) -> list[int]:
    """Where a space follows another character: the places at which a piece reaches from one word into the next."""
    return [at for at in range(1, len(piece)) if piece[at] == " " and piece[at - 1] != " "]


def is_phrase(piece: str) -> bool:
    """True for a piece over at least one word border."""
    return bool(borders(piece))


def parts(phrase: str) -> list[str]:
    """A phrase cut at its word borders."""
    cuts = [0, *borders(phrase), len(phrase)]
    return [phrase[start:stop] for start, stop in zip(cuts, cuts[1:], strict=False)]


def is_mergeable(phrase: str) -> bool:
    """Whether `PhraseMerger` may hold this phrase: at most three parts, none of them twice."""
    found = parts(phrase)
    return len(found) <= MAX_PARTS and len(set(found)) == len(found)


class PhraseMerger:
    """Merges neighbouring ids into phrases, the best-ranked first: what sentencepiece's BPE does after its words.

    `pieces` are the texts of all NORMAL pieces by id, `phrases` the ids of those over word borders, best first.
    """

    def __init__(self, pieces: dict[int, str], phrases: Sequence[int], vocab_size: int) -> None:
        import numpy as np

        by_text = {text: number for number, text in pieces.items()}
        rows = []
        for rank, number in enumerate(phrases):
            text = pieces[number]
            for at in borders(text):
                left, right = by_text.get(text[:at]), by_text.get(text[at:])
                if left is not None and right is not None:
                    rows.append((left * vocab_size + right, rank, number, left, right))
        rows.sort()
        self._size = vocab_size
        self._keys = np.array([row[0] for row in rows], dtype=np.int64)
        self._ranks = np.array([row[1] for row in rows], dtype=np.int64)
        self._merged = np.array([row[2] for row in rows], dtype=np.uint32)
        self._begins, self._ends = np.zeros(vocab_size, dtype=bool), np.zeros(vocab_size, dtype=bool)
        self._begins[[row[3] for row in rows]] = True
        self._ends[[row[4] for row in rows]] = True

    def merge(self, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Ids (N,) of words one after another -> ids with phrases (at most N,).

        A pair is merged when none within two places of it ranks better. That gives the order of sentencepiece, where
        the best pair of the whole text goes first: a pair further away could only take one of this pair's ids by a
        phrase of four parts, and those do not exist.
        """
        import numpy as np

        if len(self._keys) == 0 or len(ids) < 2:
            return ids
        starts = np.flatnonzero(self._begins[ids[:-1]] & self._ends[ids[1:]])
        places, rows = self._hits(ids, starts, starts + 1)
        if not len(places):
            return ids
        ids = ids.copy()
        following = np.minimum(np.arange(1, len(ids) + 2), len(ids))  # the place of the next id, or the end
        before = np.arange(-1, len(ids))
        alive = np.ones(len(ids), dtype=bool)
        while len(places):
            chosen = _best_nearby(places, self._ranks[rows], following)
            heads, taken = places[chosen], following[places[chosen]]
            ids[heads] = self._merged[rows[chosen]]
            alive[taken] = False
            following[heads] = following[taken]
            before[following[heads]] = heads
            # A merged id stands in two new pairs: with what follows it, and with what is before it.
            looked = np.unique(np.concatenate([heads, before[heads]]))
            looked = looked[(looked >= 0) & (following[looked] < len(ids))]
            rest = ~chosen & alive[places] & ~np.isin(places, looked)
            found, found_rows = self._hits(ids, looked, following[looked])
            places = np.concatenate([places[rest], found])
            order = np.argsort(places)
            places, rows = places[order], np.concatenate([rows[rest], found_rows])[order]
        return ids[alive]

    def _hits(
        self, ids: NDArray[np.uint32], lefts: NDArray[np.int64], rights: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of the pairs make a phrase: (places of their left ids, rows in the table)."""
        import numpy as np

        wanted = ids[lefts].astype(np.int64) * self._size + ids[rights]
        rows = np.searchsorted(self._keys, wanted)
        rows[rows == len(self._keys)] = 0
        same = self._keys[rows] == wanted
        return lefts[same], rows[same]


def _best_nearby(
    places: NDArray[np.int64], ranks: NDArray[np.int64], following: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Pairs that none of the (up to two) pairs on each side within two ids outranks; equal ranks are the same phrase
    and never overlap."""
    import numpy as np

    best = np.ones(len(places), dtype=bool)
    one, two = following[places], following[following[places]]
    for step in (1, 2):
        first, second = places[:-step], places[step:]
        near = (second == one[: len(first)]) | (second == two[: len(first)])
        best[: len(first)] &= ~(near & (ranks[step:] < ranks[: len(first)]))
        best[step:] &= ~(near & (ranks[: len(first)] < ranks[step:]))
    return best
