"""Where a document holds an evaluation item, also with some of its words changed.

Runs of words that the item has too say where it may stand. There the longest common subsequence of its telling words
and the document's (bit-parallel, Hyyrö 2004, https://doi.org/10.1007/978-3-540-27798-3_7) says how much of it does: a
phrase that both share by chance is a small part of the item, and an item with every tenth word changed is nine tenths
of it, wherever the changes fall.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from llmforge.cleaning.decontaminate.items import SHORT_WORDS, ItemIndex, Pointers, item_runs
from llmforge.cleaning.decontaminate.settings import DecontaminateSettings
from llmforge.cleaning.dedup.shingles import word_hashes, word_spans

_CACHE_PARTS = 4096
_MAX_SPREAD = 64  # words between the begins that are tried as one place


@dataclass(frozen=True, slots=True)
class Hit:
    """Characters begin to end of a document that are an item's, or a piece of it.

    `items` are all that have this text, as "file:row"; `share` of the part's telling words is there; `text` is what
    the document has.
    """

    items: tuple[str, ...]
    begin: int
    end: int
    share: float
    text: str


@dataclass(frozen=True, slots=True)
class _Place:
    """A part that may stand at a document's words: it would begin between `first` and `last`."""

    part: int
    first: int
    last: int


class Decontaminate:
    """The hits of a text: a function of the text, the index and the settings alone."""

    def __init__(self, index: ItemIndex, settings: DecontaminateSettings) -> None:
        self._index, self._settings = index, settings
        self._masks = lru_cache(_CACHE_PARTS)(self._masks_of)

    def __call__(self, text: str, words: Any = None) -> list[Hit]:
        """The hits in the order of the text; none for a clean one. `words`: its `word_hashes`, when they are known."""
        words = word_hashes(text) if words is None else words
        found = []
        for pointers in self._index.pointers:
            for place in _places(pointers, words):
                match = self._aligned(place, words)
                if match is not None:
                    found.append((place.part, *match))
        return self._hits(text, found) if found else []

    def _masks_of(self, part: int) -> tuple[dict[int, int], int, int]:
        """(for each telling word the bits of its places among the telling ones, their number, all words' number)."""
        begin, end = int(self._index.starts[part]), int(self._index.starts[part + 1])
        masks: dict[int, int] = {}
        telling = self._index.words[begin:end][self._index.telling[begin:end]].tolist()
        for place, word in enumerate(telling):
            masks[word] = masks.get(word, 0) | 1 << place
        return masks, len(telling), end - begin

    def _aligned(self, place: _Place, words: Any) -> tuple[int, int, float] | None:
        """(first word, end, share) of a part that is there, None for one that is not."""
        masks, count, length = self._masks(place.part)
        slack = length // 8 + (2 if length >= SHORT_WORDS else 0)
        begin = max(0, place.first - slack)
        window = words[begin : place.last + length + slack].tolist()
        full = (1 << count) - 1
        row = full
        for word in window:
            mask = masks.get(word)
            if mask is not None:
                both = row & mask
                row = ((row + both) | (row - both)) & full
        common = count - row.bit_count()
        if common < self._settings.min_share * count:
            return None
        first, end = self._span(place.part, window)
        return begin + first, begin + end, common / count

    def _span(self, part: int, window: list[int]) -> tuple[int, int]:
        """(first, end) of the words of a window that follow the part's; lone words at the edges count for nothing."""
        own = self._index.words[int(self._index.starts[part]) : int(self._index.starts[part + 1])].tolist()
        blocks = SequenceMatcher(None, window, own, autojunk=False).get_matching_blocks()
        blocks = [block for block in blocks if block.size > 1] or [block for block in blocks if block.size]
        return blocks[0].a, blocks[-1].a + blocks[-1].size

    def _hits(self, text: str, found: list[tuple[int, int, int, float]]) -> list[Hit]:
        """The hits of (part, first word, end, share); of overlapping ones of one part, the one with the most of it."""
        _, starts, ends = word_spans(text)
        best: list[tuple[int, int, int, float]] = []
        for one in sorted(found):
            if best and best[-1][0] == one[0] and one[1] < best[-1][2]:
                best[-1] = max(best[-1], one, key=lambda hit: hit[3])
            else:
                best.append(one)
        hits = []
        for part, first, end, share in sorted(best, key=lambda hit: (hit[1], hit[2], hit[0])):
            begin, stop = int(starts[first]), int(ends[end - 1])
            hits.append(Hit(self._index.owners[part], begin, stop, share, text[begin:stop]))
        return hits


def _places(pointers: Pointers, words: Any) -> Iterator[_Place]:
    """Where runs of the document point to, those of one part that agree about its begin as one."""
    import numpy as np

    runs = item_runs(words, pointers.ngram)
    at = np.flatnonzero(pointers.filter[(runs & np.uint64(len(pointers.filter) - 1)).astype(np.int64)])
    if not len(at):
        return
    left = np.searchsorted(pointers.hashes, runs[at], side="left")
    at, left = at[there := pointers.hashes.take(left, mode="clip") == runs[at]], left[there]
    counts = np.searchsorted(pointers.hashes, runs[at], side="right") - left
    pairs = np.repeat(left, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    if not len(pairs):
        return
    parts = pointers.parts[pairs].astype(np.int64)
    begins = np.repeat(at, counts) - pointers.words[pairs]
    order = np.lexsort((begins, parts))
    parts, begins = parts[order], begins[order]
    # The spread is bounded, or a text of one word again and again would be one place for all of it.
    parted = (np.diff(parts) != 0) | (np.diff(begins) > 2) | (np.diff(begins // _MAX_SPREAD) != 0)
    edges = np.concatenate(([0], np.flatnonzero(parted) + 1, [len(parts)]))
    enough = np.diff(edges) >= pointers.least[parts[edges[:-1]]]
    for first, end in zip(edges[:-1][enough].tolist(), edges[1:][enough].tolist(), strict=True):
        yield _Place(int(parts[first]), int(begins[first]), int(begins[end - 1]))


def spans_to_cut(hits: Iterable[Hit]) -> list[tuple[int, int]]:
    """The characters of all hits, parted and in order, for `substring.without`."""
    spans: list[tuple[int, int]] = []
    for hit in sorted(hits, key=lambda hit: hit.begin):
        if spans and hit.begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(hit.end, spans[-1][1]))
        else:
            spans.append((hit.begin, hit.end))
    return spans


def by_item(found: Iterable[tuple[str, list[Hit]]]) -> dict[str, list[dict[str, object]]]:
    """For each item that was found, the documents that hold it: {"document", "begin", "end", "share", "text"}.

    `found` is (document id, its hits); of an item's hits in a document all are told.
    """
    items: dict[str, list[dict[str, object]]] = {}
    for document, hits in found:
        for hit in hits:
            fact = {"document": document, "begin": hit.begin, "end": hit.end, "text": hit.text}
            for item in hit.items:
                items.setdefault(item, []).append({**fact, "share": round(hit.share, 4)})
    return items
