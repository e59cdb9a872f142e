"""Duplicates among the documents that passed: which ones another one stands for, and which passages came before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmforge.cleaning.dedup.index import EarlierCorpora, open_index, write_index
from llmforge.cleaning.dedup.keep import preference
from llmforge.cleaning.dedup.settings import DedupSettings
from llmforge.cleaning.dedup.substring import Repeated
from llmforge.cleaning.pipeline import num_bytes
from llmforge.cleaning.survivors import Survivors

EXACT, NEAR, REPEATED = "exact_duplicate", "near_duplicate", "repeated_passages"
Read = Callable[[int], str]
Changed = Mapping[int, Callable[[], str]]
_BLOCK_ROWS = 1 << 13


@dataclass(frozen=True, slots=True)
class Copy:
    """A document that another one stands for: that one's id, and what of the two is shared, 0 to 1."""

    kept: str
    similarity: float
    rule: str

    @property
    def because(self) -> str:
        """Completes "dropped because"."""
        if self.rule == EXACT:
            return f"it is the same text as {self.kept}"
        if self.rule == NEAR:
            return f"{self.similarity:.1%} of its runs of words and those of {self.kept} are shared"
        return f"{self.similarity:.1%} of its words stand in earlier documents, such as {self.kept}"


@dataclass(slots=True)
class Duplicates:
    """By document number: the copies to drop, and the passages to cut out of those that stay."""

    copies: dict[int, Copy] = field(default_factory=dict)
    repeated: dict[int, Repeated] = field(default_factory=dict)


@contextmanager
def earlier_corpora(settings: DedupSettings, scratch: Path | None) -> Iterator[EarlierCorpora | None]:
    """The corpora of `against`, opened; None when there are none. Raises as `open_index`."""
    if not settings.against:
        yield None
        return
    with EarlierCorpora([open_index(place, settings.near) for place in settings.against], scratch) as earlier:
        yield earlier


def find_duplicates(
    documents: Survivors, settings: DedupSettings, earlier: EarlierCorpora | None, read: Read
) -> Duplicates:
    """All duplicates of a run; `read` gives a document's text by its number.

    A copy names the document that stays in the end: an exact copy of one that goes as nearly the same as a third names
    that third.
    """
    found = Duplicates()
    if not len(documents):
        return found
    sources = map(documents.source, range(len(documents)))
    ranks = preference(settings, documents.sizes, sources, documents.scores)
    names = _Names(documents, earlier)
    kept = _exact(documents, settings, earlier, ranks)
    near = _near(documents, settings, earlier, ranks, kept, read)
    for number in range(len(documents)):
        if kept is not None and kept[number] != number:
            stays = int(kept[number])
            final, similarity = near.get(stays, (stays, 1.0))
            found.copies[number] = Copy(names.of(final), similarity, EXACT)
        elif number in near:
            found.copies[number] = Copy(names.of(near[number][0]), near[number][1], NEAR)
    if settings.substring is not None:
        _passages(documents, settings, found, read)
    return found


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
    documents: Survivors, settings: DedupSettings, earlier: EarlierCorpora | None, ranks: Any, kept: Any, read: Read
) -> dict[int, tuple[int, float]]:
    """number -> (the one that stays, similarity), among the documents that are no exact copies."""
    import numpy as np

    from llmforge.cleaning.dedup.near import find_near_duplicates

    if settings.near is None:
        return {}
    staying = None if kept is None else kept == np.arange(len(documents))
    same = find_near_duplicates(documents.signatures(), ranks, read, settings.near, earlier, staying)
    return {number: (match.kept, match.similarity) for number, match in same.items()}


def _passages(documents: Survivors, settings: DedupSettings, found: Duplicates, read: Read) -> None:
    import numpy as np

    from llmforge.cleaning.dedup.substring import find_repeated_passages

    assert settings.substring is not None and documents.num_anchors is not None
    staying = np.ones(len(documents), dtype=bool)
    staying[list(found.copies)] = False
    repeated = find_repeated_passages(documents.anchors(), documents.num_anchors, staying, read, settings.substring)
    for number, passages in repeated.items():
        if passages.drop:
            earlier = documents.id(passages.passages[0].earlier)
            found.copies[number] = Copy(earlier, 1 - passages.own_share, REPEATED)
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
    ids = (documents.id(number) for number in staying.tolist())
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
