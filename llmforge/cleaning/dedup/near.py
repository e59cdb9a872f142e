"""Nearly the same text again: MinHash finds candidates, the measured similarity decides, one document stays.

MinHash with bands (https://www.cs.princeton.edu/courses/archive/spring13/cos598C/broder97resemblance.pdf; bands: Mining
of Massive Datasets, chapter 3) over runs of 5 words, as FineWeb does it. FineWeb's 14 bands of 8 rows miss 8 % of the
pairs at similarity .8; 25 bands of 5 miss 1 in 20,000, and what they propose too much the measured similarity turns
down. Documents are gone through from the one to prefer downward; each is compared with those already kept that share a
band with it, so what is dropped is always similar to a document that stays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from llmforge.cleaning.dedup.shingles import jaccard, shingle_hashes
from llmforge.config.schema import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Signatures = NDArray[np.uint32]  # (documents, bands * rows)

SEED = 7
_ESTIMATE_MARGIN = 0.15  # four standard errors of an estimate from 125 hashes
_MAX_KEPT_PER_BAND = 64  # different documents in one band bucket that a new one is compared with
_CACHE_RUNS = 8_000_000  # runs of words held in memory for comparison, 8 bytes each


class NearSettings(Config):
    """When two documents count as the same text, and which of them stays."""

    threshold: float = Field(
        default=0.8, gt=0, le=1, description="shared runs of words over all runs (Jaccard), from here up"
    )
    ngram: int = Field(default=5, ge=1, le=50, description="words in a run")
    bands: int = Field(default=25, ge=1, le=256, description="groups of hashes; more find more pairs and cost more")
    rows: int = Field(default=5, ge=1, le=64, description="hashes in a group; more propose fewer pairs")
    keep: Literal["longest", "first"] = Field(default="longest", description="which document of similar ones stays")


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A document to drop: the number of the one that stays, and their measured similarity."""

    kept: int
    similarity: float


def signatures(texts: Sequence[str], settings: NearSettings) -> Signatures:
    """MinHash signatures, one row a text; a text without words has a row of the largest number only."""
    import numpy as np
    from rensa import RMinHash

    hashes = settings.bands * settings.rows
    if not texts:
        return np.empty((0, hashes), dtype=np.uint32)
    runs = [shingle_hashes(text, settings.ngram) for text in texts]
    offsets = np.zeros(len(runs) + 1, dtype=np.uint64)
    np.cumsum([len(found) for found in runs], out=offsets[1:])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(runs), offsets, hashes, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def _bucket_members(found: Signatures, settings: NearSettings) -> Iterator[tuple[Any, Any]]:
    """For each band: (document numbers, bucket numbers) of those that share the band's hashes with another one."""
    import numpy as np

    with_words = np.flatnonzero((found != np.iinfo(np.uint32).max).any(axis=1))
    buckets = 0
    for band in range(settings.bands):
        rows = np.asarray(found[with_words, band * settings.rows : (band + 1) * settings.rows], dtype=np.uint64)
        keys = np.zeros(len(rows), dtype=np.uint64)
        for column in range(settings.rows):
            keys = (keys ^ (keys >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + rows[:, column]
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        is_new = np.ones(len(keys), dtype=bool)
        is_new[1:] = sorted_keys[1:] != sorted_keys[:-1]
        group = np.cumsum(is_new) - 1
        shared = np.bincount(group, minlength=1)[group] > 1
        yield with_words[order[shared]], group[shared] + buckets
        buckets += len(keys)


class _Runs:
    """The runs of documents by number, the most recently used ones kept in memory."""

    def __init__(self, read: Callable[[int], str], words: int) -> None:
        self._read, self._words = read, words
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._size = 0

    def of(self, number: int) -> Any:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        runs = self._held[number] = shingle_hashes(self._read(number), self._words)
        self._size += len(runs)
        while self._size > _CACHE_RUNS and len(self._held) > 2:
            self._size -= len(self._held.popitem(last=False)[1])
        return runs


def find_near_duplicates(
    found: Signatures, sizes: Sequence[int], read: Callable[[int], str], settings: NearSettings
) -> dict[int, NearDuplicate]:
    """The documents to drop, by number.

    `found` has a row of signatures for each document, `sizes` its length in bytes, `read` gives its text.
    """
    import numpy as np

    if len(found) < 2:
        return {}
    members = list(_bucket_members(found, settings))
    documents = np.concatenate([pair[0] for pair in members])
    buckets = np.concatenate([pair[1] for pair in members])
    if not len(documents):
        return {}
    # Preferred documents first; equal ones in the order they were read.
    weights = np.asarray(sizes, dtype=np.int64) if settings.keep == "longest" else np.zeros(len(found), dtype=np.int64)
    rank = np.empty(len(found), dtype=np.int64)
    rank[np.lexsort((np.arange(len(found)), -weights))] = np.arange(len(found))
    order = np.argsort(rank[documents], kind="stable")
    documents, buckets = documents[order], buckets[order]
    edges = np.flatnonzero(np.diff(documents)) + 1
    return _greedy(
        documents, buckets, [0, *edges.tolist(), len(documents)], (found, _Runs(read, settings.ngram)), settings
    )


def _greedy(
    documents: Any, buckets: Any, edges: list[int], measured: tuple[Any, _Runs], settings: NearSettings
) -> dict[int, NearDuplicate]:
    """Each document in turn against those kept in its buckets."""
    kept_in: dict[int, list[int]] = {}
    dropped: dict[int, NearDuplicate] = {}
    for begin, end in zip(edges, edges[1:], strict=False):
        number = int(documents[begin])
        own = buckets[begin:end].tolist()
        candidates = list(dict.fromkeys(kept for bucket in own for kept in kept_in.get(bucket, ())))
        match = _most_similar(number, candidates, measured, settings) if candidates else None
        if match is not None:
            dropped[number] = match
            continue
        for bucket in own:
            kept = kept_in.setdefault(bucket, [])
            if len(kept) < _MAX_KEPT_PER_BAND:
                kept.append(number)
    return dropped


def _most_similar(
    number: int, candidates: list[int], measured: tuple[Any, _Runs], settings: NearSettings
) -> NearDuplicate | None:
    """The first candidate, best estimate first, whose measured similarity reaches the threshold."""
    import numpy as np

    found, runs = measured
    estimates = (found[candidates] == found[number]).mean(axis=1)
    for place in np.argsort(-estimates, kind="stable").tolist():
        if estimates[place] < settings.threshold - _ESTIMATE_MARGIN:
            return None
        kept = candidates[place]
        similarity = jaccard(runs.of(kept), runs.of(number))
        if similarity >= settings.threshold:
            return NearDuplicate(kept, similarity)
    return None
