"""Pieces that reach over word borders (" of the", ", and", a line break and indentation) and how ids merge to them.

A vocabulary is learned in two steps, as SuperBPE does (https://arxiv.org/abs/2503.13423): pieces inside words first,
then phrases of whole pieces, which all rank behind the former. So a text can be encoded word by word with a memory for
words, and the phrases are merged afterwards over the ids. Phrases are kept simple so that this can be done for all
places at once and still give exactly sentencepiece's ids: at most three parts, and no word twice in a phrase.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PARTS = 3
_NONE = 2**31 - 1  # the rank of a pair that makes no phrase


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
        pairs: dict[tuple[int, int], int] = {}
        for rank, number in enumerate(phrases):
            text = pieces[number]
            for at in borders(text):
                left, right = by_text.get(text[:at]), by_text.get(text[at:])
                if left is not None and right is not None:
                    pairs[left, right] = rank
        # A pair is looked up by two small tables and one of ranks over (left, right); row and column 0 are all others.
        lefts, rights = ({number: at for at, number in enumerate(sorted(set(side)), 1)} for side in _sides(pairs))
        width = len(rights) + 1
        self._row, self._column = np.zeros((2, vocab_size), dtype=np.int32)
        self._row[list(lefts)] = [at * width for at in lefts.values()]
        self._column[list(rights)] = list(rights.values())
        self._ranks = np.full((len(lefts) + 1) * width, _NONE, dtype=np.int32)
        for (left, right), rank in pairs.items():
            self._ranks[lefts[left] * width + rights[right]] = rank
        self._merged = np.array(phrases, dtype=np.uint32)  # by rank

    def merge(self, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Ids (N,) of words one after another -> ids with phrases (at most N,).

        A pair is merged when none within two places of it ranks better. That gives the order of sentencepiece, where
        the best pair of the whole text goes first: a pair further away could only take one of this pair's ids by a
        phrase of four parts, and those do not exist.
        """
        import numpy as np

        if len(ids) < 2:
            return ids
        end = len(ids)  # the place behind the last id; also what is before the first
        ranks = np.full(end + 1, _NONE, dtype=np.int32)  # of the pair that begins at each place
        ranks[:-2] = self._rank(ids[:-1], ids[1:])
        places = np.flatnonzero(ranks != _NONE)
        if not len(places):
            return ids
        ids = np.append(ids, np.uint32(0))
        following, before = np.minimum(np.arange(1, end + 2), end), np.arange(-1, end)
        before[0] = end
        alive = np.ones(end, dtype=bool)
        while len(places):
            chosen = _best_nearby(places, ranks, following, before)
            heads = places[chosen]
            taken = following[heads]
            ids[heads] = self._merged[ranks[heads]]
            alive[taken] = False
            ranks[taken] = _NONE
            following[heads] = following[taken]
            before[following[heads]] = heads
            before[end] = end
            # A merged id stands in two new pairs: with what follows it, and with what is before it.
            looked = np.concatenate([heads, before[heads]])
            ranks[looked] = np.where(following[looked] < end, self._rank(ids[looked], ids[following[looked]]), _NONE)
            ranks[end] = _NONE
            places = np.concatenate([places[~chosen], looked])
            places = places[ranks[places] != _NONE]
        return ids[:-1][alive]

    def _rank(self, lefts: NDArray[np.uint32], rights: NDArray[np.uint32]) -> NDArray[np.int32]:
        """The rank of the phrase that each pair (P,) makes, `_NONE` where it makes none."""
        ranks: NDArray[np.int32] = self._ranks[self._row[lefts] + self._column[rights]]
        return ranks


def _sides(pairs: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [left for left, _ in pairs], [right for _, right in pairs]


def _best_nearby(
    places: NDArray[np.int64], ranks: NDArray[np.int32], following: NDArray[np.int64], before: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which of the pairs at `places` (P,) no pair within two ids outranks.

    Pairs of equal rank are the same phrase; no word is in it twice, so they never overlap.
    """
    own = ranks[places]
    next_one, last_one = following[places], before[places]
    best: NDArray[np.bool_] = (own <= ranks[next_one]) & (own <= ranks[last_one])
    return best & (own <= ranks[following[next_one]]) & (own <= ranks[before[last_one]])
