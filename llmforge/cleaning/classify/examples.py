"""Labelled texts to learn from: read, freed of copies, and parted into training, calibration and test.

The same text under one label counts once; under two labels it teaches nothing and is left out. What is held out is
decided by a hash of the text (or of its group), so that neither order nor copies bring a test text into training.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from llmforge.cleaning.classify.features import sample
from llmforge.cleaning.classify.settings import MAX_LABELS, TrainOn
from llmforge.cleaning.dedup.exact import exact_key
from llmforge.corpus.document import Document
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import check_source, read_source, source_fingerprint
from llmforge.errors import DataError

MIN_DOCUMENTS = 10
Side = Literal["train", "calibrate", "test"]
SIDES: tuple[Side, ...] = ("train", "calibrate", "test")
_HELD_OUT: tuple[Side, ...] = ("test", "calibrate")
_SET_KEY = "set classify.train_on.label_key"


@dataclass(frozen=True, slots=True)
class Example:
    """A text as far as features look at it, its label, and what decides its side."""

    text: str
    label: str
    group: str
    size: int  # UTF-8 bytes of the whole text


@dataclass
class Examples:
    """What there is to learn from, by side, and what was left out on the way."""

    sides: dict[Side, list[Example]]
    labels: list[str]
    documents: dict[str, int]
    left_out: dict[str, int]
    num_bytes: int


@dataclass
class _Drawn:
    """The documents of one label with the smallest hashes, `limit` at most; order of reading makes no difference."""

    limit: int
    heap: list[tuple[int, bytes]] = field(default_factory=list)
    kept: dict[bytes, Example] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)

    def add(self, rank: int, key: bytes, example: Callable[[], Example]) -> bool:
        """False for a copy of a text seen before."""
        if key in self.seen:
            return False
        self.seen.add(key)
        if len(self.heap) < self.limit:
            heapq.heappush(self.heap, (-rank, key))
            self.kept[key] = example()
        elif -self.heap[0][0] > rank:
            _, gone = heapq.heapreplace(self.heap, (-rank, key))
            del self.kept[gone]
            self.kept[key] = example()
        return True


def check_places(settings: TrainOn) -> int | None:
    """Bytes of the examples on disk, None where not known; raises DataError when a place holds nothing."""
    sizes = [check_source(source).bytes for source in _sources(settings).values()]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def fingerprints(settings: TrainOn) -> dict[str, str]:
    """A digest for each place of examples, without reading it."""
    return {f"examples {label}".strip(): source_fingerprint(source) for label, source in _sources(settings).items()}


def read_examples(settings: TrainOn, on_progress: Callable[[], None] = lambda: None) -> Examples:
    """All examples, parted; `on_progress` is called after each document and may raise to stop.

    Raises:
        DataError: a row cannot be read or names no label, there is one label only, or a label has too few texts.
    """
    drawn: dict[str, _Drawn] = {}
    left_out = {"empty": 0, "copies": 0, "under_two_labels": 0, "beyond_max_documents": 0}
    for label, document in _labelled(settings):
        on_progress()
        of_label = drawn.setdefault(label, _Drawn(settings.max_documents))
        if len(drawn) > MAX_LABELS:
            raise DataError(f"has more than {MAX_LABELS} labels", settings.path, f"{_SET_KEY} to the field of labels")
        if not document.text or document.text.isspace():
            left_out["empty"] += 1
            continue
        key = exact_key(document.text)

        def example(document: Document = document, label: str = label, key: bytes = key) -> Example:
            size = len(document.text.encode("utf-8", "surrogatepass"))
            text = sample(document.text, settings.features.max_characters)
            return Example(text, label, _group(document, key, settings), size)

        left_out["copies"] += not of_label.add(_rank(key, settings.seed), key, example)
    _leave_out(drawn, left_out)
    _check_labels(drawn, settings)
    kept = {label: [drawn[label].kept[key] for key in sorted(drawn[label].kept)] for label in sorted(drawn)}
    sides = part(kept, settings.held_out, settings.seed)
    _check_sides(sides, list(kept), settings)
    documents = {label: len(examples) for label, examples in kept.items()}
    size = sum(example.size for examples in kept.values() for example in examples)
    return Examples(sides, list(kept), documents, left_out, size)


def part(kept: dict[str, list[Example]], held_out: float, seed: int) -> dict[Side, list[Example]]:
    """Each example on its side; groups stay whole, and every label gets its share as nearly as groups allow."""
    groups: dict[str, list[Example]] = {}
    for examples in kept.values():
        for example in examples:
            groups.setdefault(example.group, []).append(example)
    wanted = {label: max(1, round(held_out * len(examples))) for label, examples in kept.items()}
    sides: dict[Side, list[Example]] = {side: [] for side in SIDES}
    counts: dict[tuple[Side, str], int] = {}
    for name in sorted(groups, key=lambda name: _rank(name.encode("utf-8", "surrogatepass"), seed + 1)):
        labels = {example.label for example in groups[name]}
        side: Side = "train"
        for candidate in _HELD_OUT:
            if any(counts.get((candidate, label), 0) < wanted[label] for label in labels):
                side = candidate
                break
        sides[side] += groups[name]
        for example in groups[name]:
            counts[side, example.label] = counts.get((side, example.label), 0) + 1
    return sides


def _rank(key: bytes, seed: int) -> int:
    salt = seed.to_bytes(16, "big")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8, salt=salt).digest(), "big")


def _sources(settings: TrainOn) -> dict[str, SourceConfig]:
    places = settings.labels if settings.labels is not None else {"": settings.path or ""}
    return {
        label: SourceConfig.model_validate({"path": path, "text_key": settings.text_key})
        for label, path in sorted(places.items())
    }


def _labelled(settings: TrainOn) -> Iterator[tuple[str, Document]]:
    for label, source in _sources(settings).items():
        for document in read_source(source):
            yield label or _label_of(document, settings.label_key), document


def _label_of(document: Document, key: str) -> str:
    label = document.metadata.get(key)
    where = _where(document)
    if label is None or label == "":
        names = ", ".join(sorted(set(document.metadata) - {"file", "row"})[:8])
        raise DataError(f"it has no label in field {key!r} (other fields: {names or 'none'})", where, _SET_KEY)
    name = str(label)
    if isinstance(label, list | dict | float) or len(name) > 100 or not name.isprintable():
        raise DataError(f"its label in field {key!r} is not a short name", where, _SET_KEY)
    return name


def _group(document: Document, key: bytes, settings: TrainOn) -> str:
    if settings.group_key is None:
        return key.hex()
    value = document.metadata.get(settings.group_key)
    if value is None or isinstance(value, list | dict):
        what = f"it has no value in field {settings.group_key!r}"
        raise DataError(what, _where(document), "set classify.train_on.group_key or leave it out")
    return str(value)


def _where(document: Document) -> str:
    place = document.metadata
    return f"{place['file']}:{place['row']}" if "file" in place and "row" in place else document.id


def _leave_out(drawn: dict[str, _Drawn], left_out: dict[str, int]) -> None:
    owners: dict[bytes, int] = {}
    for of_label in drawn.values():
        left_out["beyond_max_documents"] += len(of_label.seen) - len(of_label.kept)
        for key in of_label.seen:
            owners[key] = owners.get(key, 0) + 1
    for of_label in drawn.values():
        for key in [key for key in of_label.kept if owners[key] > 1]:
            del of_label.kept[key]
            left_out["under_two_labels"] += 1


def _check_labels(drawn: dict[str, _Drawn], settings: TrainOn) -> None:
    where = settings.path or "classify.train_on.labels"
    if len(drawn) < 2 and settings.labels is None:
        found = f"only one label, {next(iter(drawn))!r}" if drawn else "no labelled text"
        raise DataError(f"holds {found}: there is nothing to tell apart", where, "give texts of two labels at least")
    for label in settings.labels or drawn:
        count = len(drawn[label].kept) if label in drawn else 0
        if count < MIN_DOCUMENTS:
            place = settings.labels[label] if settings.labels is not None else where
            what = f"label {label!r} has {count} different texts of its own, {MIN_DOCUMENTS} are needed"
            raise DataError(what, place, "give more texts of it (copies and texts under two labels do not count)")


def _check_sides(sides: dict[Side, list[Example]], labels: list[str], settings: TrainOn) -> None:
    for side, examples in sides.items():
        missing = sorted(set(labels) - {example.label for example in examples})
        if missing:
            what = f"no group is left for {'training' if side == 'train' else 'holding out'} of label {missing[0]!r}"
            where = settings.path or "classify.train_on.labels"
            hint = f"give more values of {settings.group_key!r}, or leave classify.train_on.group_key out"
            raise DataError(what, where, hint)
