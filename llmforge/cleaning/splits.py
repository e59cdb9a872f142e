"""Which documents are held out for validation, by their ids alone.

A corpus of one or a few documents would leave one side empty. Then every document is for training but the end of the
longest, which is cut off at a paragraph: a person with one book gets a validation set too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from llmforge.config.schema import Config
from llmforge.corpus.document import Document
from llmforge.corpus.folder import Split
from llmforge.corpus.split import is_valid

_MIN_CUT_BYTES = 2000  # a document shorter than this is not cut


class SplitSettings(Config):
    """How much is held out."""

    valid_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="share of documents for validation, by their ids"
    )


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """The split of each document that stays, and the one of which the last `fraction` is held out, if any."""

    splits: dict[int, Split]
    cut: int | None
    fraction: float

    def parts(self, number: int, document: Document) -> Iterator[tuple[Split, Document]]:
        """The document under its split; the one to be cut as two, the second with "#valid" behind its id."""
        end = _cut_at(document.text, self.fraction) if number == self.cut else len(document.text)
        if end == len(document.text):
            yield self.splits[number], document
            return
        yield "train", Document(document.id, document.text[:end], document.source, document.metadata)
        rest = document.text[end:].lstrip("\n")
        yield "valid", Document(f"{document.id}#valid", rest, document.source, document.metadata)


def choose_splits(
    ids: Sequence[str], sizes: Sequence[int], staying: Sequence[int], settings: SplitSettings
) -> SplitPlan:
    """The plan for the documents with the numbers `staying`; `ids` and `sizes` are those of all."""
    fraction = settings.valid_fraction
    splits: dict[int, Split] = {number: "valid" if is_valid(ids[number], fraction) else "train" for number in staying}
    if not staying or fraction == 0 or len(set(splits.values())) == 2:
        return SplitPlan(splits, None, fraction)
    longest = max(staying, key=lambda number: (sizes[number], -number))
    cut = longest if sizes[longest] >= _MIN_CUT_BYTES else None
    return SplitPlan(dict.fromkeys(staying, "train"), cut, fraction)


def _cut_at(text: str, fraction: float) -> int:
    """Where the last `fraction` of a text begins: at a paragraph, else a line, else a word, else nowhere."""
    wanted = int(len(text) * (1 - fraction))
    for mark in ("\n\n", "\n", " "):
        found = text.find(mark, wanted, wanted + max(1, (len(text) - wanted) // 2))
        if found > 0 and text[found:].strip():
            return found
    return len(text)
