"""Which documents are held out for validation, by their ids alone.

A corpus of one or a few documents would leave one side empty. Then every document is for training but the end of the
longest, which is cut off at a paragraph: a person with one book gets a validation set too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from llmforge.config.schema import Config
from llmforge.corpus.document import Document
from llmforge.corpus.folder import Split
from llmforge.corpus.split import is_valid, stable_fraction

_MIN_CUT_BYTES = 2000  # a document shorter than this is not cut


class SplitSettings(Config):
    """How much is held out."""

    valid_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="share of documents for validation, by their ids"
    )


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """Which documents are held out (a 1 each), and the one of which the last `fraction` is, if any."""

    held_out: bytearray
    cut: int | None
    fraction: float

    def split(self, number: int) -> Split:
        """The split of a document; of the one that is cut, that of its beginning."""
        return "valid" if self.cut is None and self.held_out[number] else "train"

    def parts(self, document: Document) -> Iterator[tuple[Split, Document]]:
        """The document that is cut as two, the second with "#valid" behind its id; whole where there is no place."""
        end = _cut_at(document.text, self.fraction)
        yield "train", Document(document.id, document.text[:end], document.source, document.metadata)
        if end < len(document.text):
            rest = document.text[end:].lstrip("\n")
            yield "valid", Document(f"{document.id}#valid", rest, document.source, document.metadata)


def is_held_out(document_id: str, settings: SplitSettings) -> bool:
    """What a document's id says of its split."""
    return is_valid(document_id, settings.valid_fraction)


def choose_splits(held_out: bytearray, sizes: Sequence[int], staying: Any, settings: SplitSettings) -> SplitPlan:
    """The plan for the documents with the numbers `staying`; `held_out` (of each id, 0 or 1) and `sizes` are of all."""
    import numpy as np

    fraction = settings.valid_fraction
    if not len(staying) or fraction == 0:
        return SplitPlan(held_out, None, fraction)
    chosen = int(np.count_nonzero(np.frombuffer(held_out, dtype=np.uint8)[staying]))
    if 0 < chosen < len(staying):
        return SplitPlan(held_out, None, fraction)
    own = np.asarray(sizes, dtype=np.int64)[staying]
    longest = int(own.argmax())
    if own[longest] >= _MIN_CUT_BYTES:
        return SplitPlan(held_out, int(staying[longest]), fraction)
    return SplitPlan(bytearray(len(held_out)), None, fraction)


def nothing_held_out(ids: Sequence[str], settings: SplitSettings) -> str:
    """For a corpus of the documents `ids` without a valid split: that it has none, why, and what to set."""
    fractions = sorted(map(stable_fraction, ids))
    taken = "all" if fractions[0] < settings.valid_fraction else "none"
    what = f"nothing is held out for validation: split.valid_fraction={settings.valid_fraction:g} takes {taken} of"
    what += f" {len(ids):,} document{'s' if len(ids) > 1 else ''}, and the longest is too short to be cut in two"
    if len(ids) < 2:
        return f"{what}; give more text"
    return f"{what}; set split.valid_fraction={_between(*fractions[:2])}, which holds out 1 of them, or give more text"


def _between(low: float, high: float) -> float:
    """A short number above `low` and not above `high`."""
    for digits in range(2, 16):
        value = math.floor(low * float(10**digits) + 1) / float(10**digits)
        if low < value <= high:
            return value
    return high


def _cut_at(text: str, fraction: float) -> int:
    """Where the last `fraction` of a text begins: at a paragraph, else a line, else a word, else nowhere."""
    wanted = int(len(text) * (1 - fraction))
    for mark in ("\n\n", "\n", " "):
        found = text.find(mark, wanted, wanted + max(1, (len(text) - wanted) // 2))
        if found > 0 and text[found:].strip():
            return found
    return len(text)
