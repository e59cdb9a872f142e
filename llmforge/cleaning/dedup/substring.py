"""Passages that stood in an earlier document: found by anchors, verified word by word, cut out.

A passage is a run of at least `min_words` words (as shingles.py has them) that a document shares with what stays of an
earlier one. Two documents that share an anchor (anchors.py) are compared from it to both sides.

Memory: an anchor takes 12 bytes and of 50 words there is one in 13, so the anchors of 1 GB of English text are about
160 MB, which may lie in a mapped file. They are sorted in parts of 64 MB; beside a part, 4 bytes for each anchor and 24
for each that two documents share are held, and the words of the documents that were compared last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmforge.cleaning.dedup.anchors import SubstringSettings
from llmforge.cleaning.dedup.shingles import word_hashes, word_spans

_PART_BYTES = 64 << 20
_MAX_PLACES = 64  # earlier places of one anchor that a document is compared with
_CACHE_WORDS = 8_000_000  # words held in memory for comparison, 8 bytes each


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters begin to end of a document, which are those of an earlier one but for case and punctuation."""

    begin: int
    end: int
    earlier: int
    earlier_begin: int
    earlier_end: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """A document that has repeated passages.

    `cut` holds the characters to take out, parted and in order; `drop` says that the document is to go instead (then
    nothing of it counts as earlier text); `own_share` is the share of its words that no passage covers.
    """

    passages: list[Passage]
    cut: list[tuple[int, int]]
    own_share: float
    drop: bool


def _shared(all_anchors: Any, counts: Any, staying: Any) -> tuple[Any, Any, Any]:
    """(documents, words, groups) of the anchors that several staying documents have, in the documents' order."""
    import numpy as np

    numbers = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    parts = max(1, -(-len(all_anchors) * 12 // _PART_BYTES))
    step = -(-(1 << 64) // parts)
    found: list[tuple[Any, Any, Any]] = []
    groups = 0
    for part in range(parts):
        hashes = np.asarray(all_anchors["hash"])
        top = min((part + 1) * step, 1 << 64) - 1
        at = np.flatnonzero((hashes >= np.uint64(part * step)) & (hashes <= np.uint64(top)))
        at = at[staying[numbers[at]]]
        if not len(at):
            continue
        keys = hashes[at]
        order = np.argsort(keys, kind="stable")
        at, keys = at[order], keys[order]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        lengths = np.diff(starts, append=len(keys))
        owners = numbers[at]
        # Stable sorting left each group in the documents' order.
        several = owners[starts] != owners[starts + lengths - 1]
        chosen = np.repeat(several, lengths)
        group = np.repeat(np.arange(len(starts)), lengths)[chosen] + groups
        groups += len(starts)
        at = at[chosen]
        found.append((at, group, owners[chosen]))
    if not found:
        empty = np.empty(0, dtype=np.int64)
        return empty, empty, empty
    at, group, owners = (np.concatenate([part[place] for part in found]) for place in range(3))
    order = np.argsort(at)
    return owners[order], np.asarray(all_anchors["word"])[at[order]].astype(np.int64), group[order]


class _Words:
    """The words' hashes of documents by number, the most recently used ones kept."""

    def __init__(self, read: Callable[[int], str]) -> None:
        self._read = read
        self._held: dict[int, Any] = {}
        self._size = 0

    def of(self, number: int) -> Any:
        words = self._held.pop(number, None)
        if words is None:
            words = word_hashes(self._read(number))
            self._size += len(words)
        self._held[number] = words  # the last one of the dictionary is the last one used
        while self._size > _CACHE_WORDS and len(self._held) > 2:
            self._size -= len(self._held.pop(next(iter(self._held))))
        return words


def _common(first: Any, second: Any) -> int:
    """How many values are equal from the start on."""
    import numpy as np

    size, done = min(len(first), len(second)), 0
    step = 64
    while done < size:
        end = min(done + step, size)
        differ = np.flatnonzero(first[done:end] != second[done:end])
        if len(differ):
            return done + int(differ[0])
        done, step = end, step * 4
    return size


Match = tuple[int, int, int, int]  # first word, end, earlier document, its first word
Place = tuple[int, int, int, int]  # document, word, begin and end of the piece of it that stays


def _matches(
    number: int, own: Iterable[tuple[int, int]], places: dict[int, list[Place]], words: _Words, least: int
) -> list[Match]:
    """All verified passages of a document: `own` are its shared anchors as (word, group)."""
    found: list[Match] = []
    reached: dict[tuple[int, int], int] = {}  # (earlier document, shift): compared up to this word
    for word, group in own:
        for earlier, there, begin, end in places.get(group, ()):
            shift = (earlier, there - word)
            if reached.get(shift, 0) > word:
                continue
            mine, theirs = words.of(number), words.of(earlier)
            after = _common(mine[word:], theirs[there:end])
            before = _common(mine[:word][::-1], theirs[begin:there][::-1])
            reached[shift] = word + after
            if before + after >= least:
                found.append((word - before, word + after, earlier, there - before))
    return found


def _longest_only(found: list[Match]) -> list[Match]:
    """Without the passages that lie inside another one; in order."""
    kept: list[Match] = []
    for match in sorted(found, key=lambda match: (match[0], -match[1], match[2], match[3])):
        if not kept or match[1] > kept[-1][1]:
            kept.append(match)
    return kept


def _merged(found: list[Match]) -> list[tuple[int, int]]:
    """The words that passages cover, as (first, end), parted and in order."""
    spans: list[tuple[int, int]] = []
    for begin, end, _, _ in found:
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    return spans


def find_repeated_passages(
    all_anchors: Any, counts: Sequence[int], staying: Any, read: Callable[[int], str], settings: SubstringSettings
) -> dict[int, Repeated]:
    """The documents that repeat passages of earlier ones, by number.

    Documents are gone through in order; what is cut from one, or dropped, is no earlier text for those behind it. Of
    the places that share an anchor but no passage the first 64 are compared.

    Args:
        all_anchors: the documents' `anchors` one behind the other, in memory or mapped.
        counts: (documents,) how many anchors each has.
        staying: (documents,) True for those that were not dropped before.
        read: gives a document's text by its number.
        settings: as for `anchors`.
    """
    import numpy as np

    documents, at, groups = _shared(all_anchors, np.asarray(counts), np.asarray(staying, dtype=bool))
    edges = np.flatnonzero(np.diff(documents, prepend=-1, append=-1)).tolist() if len(documents) else []
    places: dict[int, list[Place]] = {}
    words = _Words(read)
    repeated: dict[int, Repeated] = {}
    for begin, end in zip(edges, edges[1:], strict=False):
        number = int(documents[begin])
        own = list(zip(at[begin:end].tolist(), groups[begin:end].tolist(), strict=True))
        found = _longest_only(_matches(number, own, places, words, settings.min_words))
        cut = _merged(found)
        if found:
            share = 1 - sum(last - first for first, last in cut) / len(words.of(number))
            repeated[number] = _in_characters(number, found, cut, share, read, settings)
            if repeated[number].drop:
                continue
        pieces = _pieces(cut if settings.action == "cut" else [])
        for word, group in own:
            for first, last in pieces:
                if first <= word and word + settings.gram <= last and len(places.setdefault(group, [])) < _MAX_PLACES:
                    places[group].append((number, word, first, last))
    return repeated


def _pieces(cut: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is between the cuts, as (first word, end); the last one has no end."""
    begins = [0, *(end for _, end in cut)]
    ends = [*(begin for begin, _ in cut), 1 << 62]
    return list(zip(begins, ends, strict=True))


def _in_characters(
    number: int,
    found: list[Match],
    cut: list[tuple[int, int]],
    own_share: float,
    read: Callable[[int], str],
    settings: SubstringSettings,
) -> Repeated:
    """The same in characters: a cut goes to the next word, so that the passage's last punctuation goes with it."""
    text = read(number)
    _, starts, ends = word_spans(text)
    spans = {earlier: word_spans(read(earlier)) for earlier in {match[2] for match in found}}
    passages = []
    for begin, end, earlier, there in found:
        _, first, last = spans[earlier]
        reach = there + end - begin - 1
        passages.append(Passage(int(starts[begin]), int(ends[end - 1]), earlier, int(first[there]), int(last[reach])))
    edges = [*starts.tolist(), len(text)]
    cuts = [(edges[begin], edges[end]) for begin, end in cut] if settings.action == "cut" else []
    # Of a document without a word of its own nothing would be left but marks, whatever share is asked for.
    drop = own_share < settings.min_remaining or (bool(cuts) and own_share <= 0)
    cuts = [] if drop else cuts
    return Repeated(passages, cuts, own_share, drop)


def without(text: str, cut: Sequence[tuple[int, int]]) -> str:
    """The text without the characters of `cut`, which are parted and in order."""
    begins = [0, *(end for _, end in cut)]
    ends = [*(begin for begin, _ in cut), len(text)]
    return "".join(text[begin:end] for begin, end in zip(begins, ends, strict=True))
