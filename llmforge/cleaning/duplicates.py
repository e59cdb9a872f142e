"""Duplicates among the documents that passed: which ones another one stands for, and which passages came before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmforge.cleaning.dedup.index import EarlierCorpora, open_index, write_index
from llmforge.cleaning.dedup.keep import preference
from llmforge.cleaning.dedup.settings import DedupSettings
from llmforge.cleaning.dedup.substring import Repeated
from llmforge.cleaning.survivors import Survivors

EXACT, NEAR, REPEATED = "exact_duplicate", "near_duplicate", "repeated_passages"
Read = Callable[[int], str]


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
    ranks = preference(settings, documents.sizes, documents.sources, documents.scores)
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
            return self._documents.ids[number]
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

    assert settings.substring is not None
    staying = np.ones(len(documents), dtype=bool)
    staying[list(found.copies)] = False
    repeated = find_repeated_passages(documents.anchors(), documents.num_anchors, staying, read, settings.substring)
    for number, passages in repeated.items():
        if passages.drop:
            earlier = documents.ids[passages.passages[0].earlier]
            found.copies[number] = Copy(earlier, 1 - passages.own_share, REPEATED)
        else:
            found.repeated[number] = passages


def index_corpus(
    corpus: Path, documents: Survivors, staying: Sequence[int], changed: dict[int, str], settings: DedupSettings
) -> None:
    """Leaves the index of the documents that stay; `changed` are the texts that passages were cut out of."""
    import numpy as np

    from llmforge.cleaning.dedup.exact import exact_key
    from llmforge.cleaning.dedup.near import signatures

    chosen = np.asarray(staying, dtype=np.int64)
    place = {number: at for at, number in enumerate(staying) if number in changed}
    keys = documents.exact_keys()[chosen]
    sizes = np.asarray(documents.sizes, dtype=np.uint64)[chosen]
    rows = documents.signatures()[chosen] if settings.near is not None else None
    for number, at in place.items():
        text = changed[number]
        sizes[at] = len(text.encode("utf-8", "surrogatepass"))
        keys[at] = np.frombuffer(exact_key(text), dtype=np.uint8)
        if rows is not None and settings.near is not None:
            rows[at] = signatures([text], settings.near)[0]
    write_index(corpus, [documents.ids[number] for number in staying], keys, rows, sizes.tolist(), settings.near)
