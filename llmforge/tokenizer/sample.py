"""Which part of a corpus a vocabulary is learned from: the same amount from each source, spread over all of it.

A source that has less than its part gives all it has and leaves the rest to the others. What is taken depends on the
documents' ids only, so the same corpus gives the same sample in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

_SPAN = 16_384  # characters; long documents are sampled in parts of this length
_STRETCH = 256


class SampledDocument(Protocol):
    """What is looked at of a document."""

    @property
    def id(self) -> str:
        """Stable name of the document."""

    @property
    def text(self) -> str:
        """Its text."""

    @property
    def source(self) -> str:
        """Where it comes from."""


def sizes_by_source(documents: Iterable[SampledDocument]) -> dict[str, int]:
    """Bytes of text by source."""
    sizes: dict[str, int] = {}
    for document in documents:
        sizes[document.source] = sizes.get(document.source, 0) + len(document.text.encode("utf-8", "surrogatepass"))
    return sizes


def fractions(sizes: Mapping[str, int], budget: int) -> dict[str, float]:
    """The share of each source that is taken, so that together they give about `budget` bytes.

    Each gets an equal part; what small sources leave over goes to the larger ones in equal parts again.
    """
    found: dict[str, float] = {}
    left = budget
    ordered = sorted((size, name) for name, size in sizes.items() if size)
    for position, (size, name) in enumerate(ordered):
        taken = min(size, left / (len(ordered) - position))
        found[name] = taken / size
        left -= int(taken)
    return found


def sample(documents: Iterable[SampledDocument], taken: Mapping[str, float]) -> Iterator[str]:
    """The parts of the documents that belong to the sample, in the documents' order.

    Of a source whose draw came out empty (a budget of a few spans), the first span.
    """
    first: dict[str, str] = {}
    drawn: set[str] = set()
    for document in documents:
        if taken.get(document.source, 0.0) and document.text:
            first.setdefault(document.source, next(_spans(document.text)))
        for part in taken_spans(document, taken):
            drawn.add(document.source)
            yield part
    yield from (part for source, part in first.items() if source not in drawn)


def taken_spans(document: SampledDocument, taken: Mapping[str, float]) -> Iterator[str]:
    """The parts of one document that belong to the sample: all of it, or spans of about 16,000 characters."""
    fraction = taken.get(document.source, 0.0)
    if fraction >= 1.0:
        yield document.text
        return
    for number, span in enumerate(_spans(document.text)):
        if _position(f"{document.source}\n{document.id}\n{number}") < fraction:
            yield span


def _spans(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        stop = start + _SPAN
        if stop < len(text):
            space = text.find(" ", stop, stop + _STRETCH)
            stop = space if space > 0 else stop
        yield text[start:stop]
        start = stop


def _position(key: str) -> float:
    """A stable place in [0, 1) for a key."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
