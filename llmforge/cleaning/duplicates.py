"""Duplicates among the documents that passed: which ones another one stands for, and which passages came before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmforge.cleaning.dedup.ahead import RunsAhead, TextRuns
from llmforge.cleaning.dedup.index import EarlierCorpora, open_index, write_index
from llmforge.cleaning.dedup.keep import preference
from llmforge.cleaning.dedup.near import NearDuplicate
from llmforge.cleaning.dedup.settings import DedupSettings
from llmforge.cleaning.dedup.substring import Repeated
from llmforge.cleaning.parts import TextPlace
from llmforge.cleaning.pipeline import num_bytes
from llmforge.cleaning.survivors import Survivors

EXACT, NEAR, REPEATED = "exact_duplicate", "near_duplicate", "repeated_passages"
_RULES = ("", EXACT, NEAR, REPEATED)
Read = Callable[[int], str]
RunsOf = Callable[[Sequence[tuple[Path, TextPlace]], int], "Future[TextRuns]"]  # of texts, runs of so many words
Changed = Mapping[int, Callable[[], str]]
_BLOCK_ROWS = 1 << 13


@dataclass(frozen=True, slots=True)
class Copy:
    """A document that another one stands for: that one's id, and what of the two is shared, 0 to 1.

    `because` completes "dropped because".
    """

    kept: str
    similarity: float
    rule: str
    because: str


def _because(kept: str, similarity: float, rule: str) -> str:
    if rule == EXACT:
        return f"it is the same text as {kept}"
    if rule == NEAR:
        return f"{similarity:.1%} of its runs of words and those of {kept} are shared"
    return f"{similarity:.1%} of its words stand in earlier documents, such as {kept}"


class Duplicates:
    """What was found: `copy` tells of a document that goes, in 17 bytes each; `repeated` holds the passages to cut out
    of those that stay, by number.
    """

    def __init__(self, count: int, names: _Names) -> None:
        import numpy as np

        self._names = names
        self._kept = np.arange(count, dtype=np.int64)
        self._similarities = np.zeros(count)
        self._rules = np.zeros(count, dtype=np.uint8)  # places in _RULES
        self.repeated: dict[int, Repeated] = {}

    def add(self, number: int, kept: int, similarity: float, rule: str) -> None:
        """A document goes, and `kept` stands for it."""
        self._kept[number], self._similarities[number], self._rules[number] = kept, similarity, _RULES.index(rule)

    @property
    def stays(self) -> Any:
        """(documents,) the mask of those that stay."""
        return self._rules == 0

    def copy(self, number: int) -> Copy:
        """Why a document goes; what it is a copy of may have gone after it, for its passages."""
        other = int(self._kept[number])
        kept, similarity, rule = self._names.of(other), float(self._similarities[number]), _RULES[self._rules[number]]
        because = _because(kept, similarity, rule)
        if other < len(self._rules) and _RULES[self._rules[other]] == REPEATED:
            last = self.copy(other)
            because += f", and {last.similarity:.1%} of that one's words stand in {last.kept}"
            kept, similarity = last.kept, min(similarity, last.similarity)
        return Copy(kept, similarity, rule, because)


@contextmanager
def earlier_corpora(
    settings: DedupSettings, scratch: Path | None, told_id: Callable[[str], str] = str
) -> Iterator[EarlierCorpora | None]:
    """The corpora of `against`, opened; None when there are none. Raises as `open_index`.

    `told_id` gives an id of theirs as it may be written.
    """
    if not settings.against:
        yield None
        return
    indexes = [open_index(place, settings.near) for place in settings.against]
    with EarlierCorpora(indexes, scratch, told_id) as earlier:
        yield earlier


def find_duplicates(
    documents: Survivors,
    settings: DedupSettings,
    earlier: EarlierCorpora | None,
    read: Read,
    runs_of: RunsOf | None = None,
) -> Duplicates:
    """All duplicates of a run; `read` gives a document's text by its number, and `runs_of` has texts' runs of words
    made by other processes, which changes nothing in what is found.

    A copy names the document that stays in the end: an exact copy of one that goes as nearly the same as a third is
    nearly the same as that third.
    """
    found = Duplicates(len(documents), _Names(documents, earlier))
    if not len(documents):
        return found
    sources = map(documents.source, range(len(documents)))
    ranks = preference(settings, documents.sizes, sources, documents.scores)
    kept = _exact(documents, settings, earlier, ranks)
    near = _near(documents, settings, earlier, ranks, kept, read, runs_of)
    for number, match in near.items():
        found.add(number, match.kept, match.similarity, NEAR)
    for number in _copies(kept):
        stays = int(kept[number])
        last = near.get(stays)
        if last is not None:
            found.add(number, last.kept, last.similarity, NEAR)
        else:
            found.add(number, stays, 1.0, EXACT)
    if settings.substring is not None:
        _passages(documents, settings, found, read)
    return found


def _copies(kept: Any) -> Iterator[int]:
    """The numbers of exact copies."""
    import numpy as np

    if kept is not None:
        yield from np.flatnonzero(kept != np.arange(len(kept))).tolist()


class _Names:
    """Ids by number, those of earlier corpora behind those of this run."""

    def __init__(self, documents: Survivors, earlier: EarlierCorpora | None) -> None:
        self._documents, self._earlier = documents, earlier

    def of(self, number: int) -> str:
        count = len(self._documents)
        if number < count:
            return self._documents.id(number)
        assert self._earlier is not None, "greater numbers are those of earlier corpora"
        return self._earlier.id(number - count)


def _exact(documents: Survivors, settings: DedupSettings, earlier: EarlierCorpora | None, ranks: Any) -> Any:
    from llmforge.cleaning.dedup.exact import find_exact_duplicates

    if not settings.exact:
        return None
    return find_exact_duplicates(documents.exact_keys(), ranks, earlier.keys if earlier is not None else None)


def _near(
    documents: Survivors,
    settings: DedupSettings,
    earlier: EarlierCorpora | None,
    ranks: Any,
    kept: Any,
    read: Read,
    runs_of: RunsOf | None,
) -> Mapping[int, NearDuplicate]:
    """The near duplicates among the documents that are no exact copies."""
    import numpy as np

    from llmforge.cleaning.dedup.near import find_near_duplicates

    near = settings.near
    if near is None:
        return {}
    staying = None if kept is None else kept == np.arange(len(documents))
    ahead = None
    if runs_of is not None:
        ahead = RunsAhead(lambda numbers: runs_of(list(map(documents.place, numbers)), near.ngram), documents.sizes)
    return find_near_duplicates(documents.signatures(), ranks, read, near, earlier, staying, ahead)


def _passages(documents: Survivors, settings: DedupSettings, found: Duplicates, read: Read) -> None:
    from llmforge.cleaning.dedup.substring import find_repeated_passages

    assert settings.substring is not None and documents.num_anchors is not None
    anchors, counts = documents.anchors(), documents.num_anchors
    repeated = find_repeated_passages(anchors, counts, found.stays, read, settings.substring)
    for number, passages in repeated.items():
        if passages.drop:
            found.add(number, passages.passages[0].earlier, 1 - passages.own_share, REPEATED)
        else:
            found.repeated[number] = passages


def index_corpus(corpus: Path, documents: Survivors, staying: Any, changed: Changed, settings: DedupSettings) -> None:
    """Leaves the index of the documents that stay, numbers in order; `changed` are those that passages were cut out of,
    each with what gives its text.
    """
    import numpy as np

    from llmforge.cleaning.dedup.exact import exact_key

    keys = documents.exact_keys()[staying]
    sizes = np.asarray(documents.sizes, dtype=np.uint64)[staying]
    for number, text in changed.items():
        at = int(np.searchsorted(staying, number))
        sizes[at] = num_bytes(text())
        keys[at] = np.frombuffer(exact_key(text()), dtype=np.uint8)
    marks = np.zeros(len(documents), dtype=bool)
    marks[staying] = True
    ids = (document.id for document, stays in zip(documents, marks.tolist(), strict=True) if stays)
    write_index(corpus, ids, keys, _signature_blocks(documents, staying, changed, settings), sizes, settings.near)


def _signature_blocks(documents: Survivors, staying: Any, changed: Changed, settings: DedupSettings) -> Iterator[Any]:
    """The signatures of the documents that stay, some thousands at a time."""
    import numpy as np

    from llmforge.cleaning.dedup.near import signatures

    if settings.near is None:
        return
    stored = documents.signatures()
    for first in range(0, len(documents), _BLOCK_ROWS):
        begin, end = np.searchsorted(staying, (first, first + _BLOCK_ROWS)).tolist()
        numbers = staying[begin:end]
        rows = stored[first : first + _BLOCK_ROWS][numbers - first]
        for at, number in enumerate(numbers.tolist() if changed else ()):
            if number in changed:
                rows[at] = signatures([changed[number]()], settings.near)[0]
        yield rows
