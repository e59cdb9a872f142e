"""Nearly the same text again: MinHash finds candidates, the measured similarity decides, one document stays.

MinHash with bands (https://www.cs.princeton.edu/courses/archive/spring13/cos598C/broder97resemblance.pdf; bands: Mining
of Massive Datasets, chapter 3) over runs of 5 words, as FineWeb does it. FineWeb's 14 bands of 8 rows miss 8 % of the
pairs at similarity .8; 25 bands of 5 miss 1 in 20,000, and what they propose too much the measured similarity turns
down. Documents are gone through from the one to prefer downward; each is compared with those already kept that share a
band with it, so what is dropped is always similar to a document that stays. Documents of earlier corpora are kept from
the start.

Memory: the signatures (4 bytes a hash, 500 a document by default) may lie in a file (row_file.py), and which documents
share which bands goes through another. Beside them it takes about 30 bytes a document, 8 for each bucket that several
documents share, 16 for each of its kept documents, and what is held at once (48 MB).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from llmforge.cleaning.dedup.ahead import Item, RunsAhead
from llmforge.cleaning.dedup.bands import SharedBuckets
from llmforge.cleaning.dedup.row_file import RowFile
from llmforge.cleaning.dedup.shingles import flat_shingle_hashes, flat_word_hashes, jaccard, shingle_hashes
from llmforge.config.schema import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmforge.cleaning.dedup.bands import Rows, Signatures

SEED = 7
_ESTIMATE_MARGIN = 0.15  # four standard errors of an estimate from 125 hashes
_MAX_KEPT_PER_BAND = 64  # different documents in one band bucket that a new one is compared with
_CACHE_RUNS = 4_000_000  # runs of words held in memory for comparison, 8 bytes each


class NearSettings(Config):
    """When two documents count as the same text."""

    threshold: float = Field(
        default=0.8, gt=0, le=1, description="shared runs of words over all runs (Jaccard), from here up"
    )
    ngram: int = Field(default=5, ge=1, le=50, description="words in a run")
    bands: int = Field(default=25, ge=1, le=256, description="groups of hashes; more find more pairs and cost more")
    rows: int = Field(default=5, ge=1, le=64, description="hashes in a group; more propose fewer pairs")

    @property
    def width(self) -> int:
        """Hashes in a signature."""
        return self.bands * self.rows


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A document to drop: the number of the one that stays, and their measured similarity."""

    kept: int
    similarity: float


class NearDuplicates(Mapping[int, NearDuplicate]):
    """Documents to drop by number, in 24 bytes each: `add` them all, then `sort`."""

    def __init__(self) -> None:
        self._numbers, self._kept, self._similarities = array("q"), array("q"), array("d")

    def add(self, number: int, found: NearDuplicate) -> None:
        """Puts down that a document goes, once."""
        self._numbers.append(number)
        self._kept.append(found.kept)
        self._similarities.append(found.similarity)

    def sort(self) -> None:
        """Makes all that was added readable by number."""
        import numpy as np

        order = np.argsort(np.asarray(self._numbers))
        self._numbers = array("q", np.asarray(self._numbers)[order].tobytes())
        self._kept = array("q", np.asarray(self._kept)[order].tobytes())
        self._similarities = array("d", np.asarray(self._similarities)[order].tobytes())

    def __getitem__(self, number: int) -> NearDuplicate:
        place = bisect_left(self._numbers, number)
        if place == len(self) or self._numbers[place] != number:
            raise KeyError(number)
        return NearDuplicate(self._kept[place], self._similarities[place])

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class Earlier(Protocol):
    """Documents of earlier corpora: kept whatever comes, and named as what a new document repeats."""

    @property
    def signatures(self) -> Sequence[Signatures]:
        """One matrix a corpus."""

    def fetch(self, numbers: Sequence[int]) -> None:
        """Makes the texts of these documents ready to be read."""

    def text(self, number: int) -> str:
        """The text of a document that was fetched."""


def signatures(texts: Sequence[str], settings: NearSettings) -> Rows:
    """MinHash signatures, one row a text, (texts, bands * rows); of a text without words all the largest number."""
    return signatures_of_words(*flat_word_hashes(texts), settings)


def signatures_of_words(hashes: NDArray[np.uint64], starts: NDArray[np.int64], settings: NearSettings) -> Rows:
    """The `signatures` of texts whose words are known, as `flat_word_hashes` gives them."""
    import numpy as np
    from rensa import RMinHash

    width, count = settings.width, len(starts) - 1
    if not count:
        return np.empty((0, width), dtype=np.uint32)
    runs, offsets = flat_shingle_hashes(hashes, starts, settings.ngram)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(runs, offsets.astype(np.uint64), width, SEED)
    # Half the time of np.array over the rows.
    found = np.fromiter(chain.from_iterable(matrix.to_rows()), dtype=np.uint32, count=count * width)
    return found.reshape(count, width)


class _Runs:
    """The runs of documents by number, the most recently used ones kept in memory."""

    def __init__(self, read: Callable[[int], str], words: int, ahead: RunsAhead | None) -> None:
        self._read, self._words, self._ahead = read, words, ahead
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._size = 0

    def of(self, number: int) -> Any:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        runs = self._ahead.take(number) if self._ahead is not None else None
        return self._hold(number, shingle_hashes(self._read(number), self._words) if runs is None else runs)

    def keep(self, number: int) -> None:
        """Holds what was made ahead of a document that later ones are compared with."""
        runs = self._ahead.take(number, is_asked=False) if self._ahead and number not in self._held else None
        if runs is not None:
            self._hold(number, runs)

    def _hold(self, number: int, runs: Any) -> Any:
        self._held[number] = runs
        self._size += len(runs)
        while self._size > _CACHE_RUNS and len(self._held) > 2:
            self._size -= len(self._held.popitem(last=False)[1])
        return runs


class _Measure:
    """Documents of all parts by number: their estimated and their measured similarity."""

    def __init__(self, parts: Sequence[Signatures], runs: _Runs, threshold: float) -> None:
        import numpy as np

        self._parts, self.runs, self._threshold = parts, runs, threshold
        self._ends = np.cumsum([len(part) for part in parts])

    def _row(self, number: int) -> Any:
        import numpy as np

        part = int(np.searchsorted(self._ends, number, side="right"))
        return self._parts[part][number - (int(self._ends[part - 1]) if part else 0)]

    def match(self, number: int, candidates: Sequence[int]) -> NearDuplicate | None:
        """The first candidate, best estimate first, whose measured similarity reaches the threshold."""
        import numpy as np

        rows = np.stack([self._row(candidate) for candidate in candidates])
        estimates = (rows == self._row(number)).mean(axis=1)
        for place in np.argsort(-estimates, kind="stable").tolist():
            if estimates[place] < self._threshold - _ESTIMATE_MARGIN:
                return None
            similarity = jaccard(self.runs.of(candidates[place]), self.runs.of(number))
            if similarity >= self._threshold:
                return NearDuplicate(candidates[place], similarity)
        return None


def find_near_duplicates(
    found: Signatures,
    preference: Sequence[float] | NDArray[np.int64],
    read: Callable[[int], str],
    settings: NearSettings,
    earlier: Earlier | None = None,
    staying: Any = None,
    ahead: RunsAhead | None = None,
) -> NearDuplicates:
    """The documents to drop, by number.

    Args:
        found: (documents, bands * rows), the rows of `signatures`, in memory or in a file.
        preference: (documents,) numbers; of similar documents the one with the greater stays, of equals the first.
        read: gives a document's text by its number.
        settings: when two documents are similar.
        earlier: documents that stay in any case; the j-th of them is called number documents + j.
        staying: (documents,) True for those that were not dropped before; None: all.
        ahead: makes runs of words elsewhere; the answer is the same without.
    """
    import numpy as np

    new = len(found)
    stay = np.ones(new, dtype=bool) if staying is None else np.asarray(staying, dtype=bool)
    parts = [found, *(earlier.signatures if earlier is not None else ())]
    total = sum(map(len, parts))
    ranks = _ranks(new, total, preference)

    def text(number: int) -> str:
        if number < new:
            return read(number)
        assert earlier is not None, "numbers from `new` on are those of earlier corpora"
        return earlier.text(number - new)

    folder = found.path.parent if isinstance(found, RowFile) else None
    with SharedBuckets(parts, stay, ranks, (settings.bands, settings.rows), folder) as shared:
        if earlier is not None:
            earlier.fetch(np.flatnonzero(shared.members[new:]).tolist())
        in_order = shared.in_order() if ahead is None else ahead.watch(shared.in_order())
        measure = _Measure(parts, _Runs(text, settings.ngram, ahead), settings.threshold)
        return _greedy(in_order, shared.count, new, measure)


def _ranks(new: int, total: int, preference: Sequence[float] | NDArray[np.int64]) -> Any:
    """(total,) the place of each document: earlier corpora first, then those to prefer, equal ones as they came."""
    import numpy as np

    ranks = np.empty(total, dtype=np.uint32)
    ranks[new:] = np.arange(total - new)
    ranks[np.lexsort((np.arange(new), -np.asarray(preference, dtype=np.float64)))] = np.arange(total - new, total)
    return ranks


class _Buckets:
    """The kept documents of each bucket as chains in flat arrays: 8 bytes a bucket and 16 a kept document in it."""

    def __init__(self, count: int) -> None:
        self._last = array("q", [-1]) * count
        self._sizes = bytearray(count)
        self._before = array("q")
        self._kept = array("q")
        self._documents = array("q")

    def kept(self, buckets: Sequence[int]) -> list[int]:
        """The documents kept in these buckets, in the order they were added."""
        found = set()
        for bucket in buckets:
            entry = self._last[bucket]
            while entry >= 0:
                found.add(self._kept[entry])
                entry = self._before[entry]
        return [self._documents[place] for place in sorted(found)]

    def add(self, document: int, buckets: Sequence[int]) -> None:
        """Keeps a document in these buckets, so far as they are not full."""
        for bucket in buckets:
            if self._sizes[bucket] < _MAX_KEPT_PER_BAND:
                self._sizes[bucket] += 1
                self._before.append(self._last[bucket])
                self._kept.append(len(self._documents))
                self._last[bucket] = len(self._before) - 1
        self._documents.append(document)


def _greedy(in_order: Iterable[Item], buckets: int, new: int, measure: _Measure) -> NearDuplicates:
    """Each document in turn against those kept in its buckets."""
    kept_in = _Buckets(buckets)
    dropped = NearDuplicates()
    for number, own in in_order:
        if number < new:
            candidates = kept_in.kept(own)
            match = measure.match(number, candidates) if candidates else None
            if match is not None:
                dropped.add(number, match)
                continue
        kept_in.add(number, own)
        measure.runs.keep(number)
    dropped.sort()
    return dropped
