"""Which of equal or similar documents stays: one policy for exact and near duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from llmforge.config.schema import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSIFIER = "classifier"  # the score field that stands for how probable the classifier finds its labels to keep


class KeepSettings(Config):
    """Which of equal or similar documents stays."""

    keep: Literal["longest", "first", "score", "source"] = Field(
        default="longest",
        description="which of similar documents stays: the longest, the first read, by score, or by source",
    )
    source_priority: list[str] = Field(
        default=[], description="with keep: source, names of sources, the one to prefer first; others come last"
    )
    score_field: str | None = Field(
        default=None, description="with keep: score, the metadata field that holds it, or classifier; greater stays"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.keep == "source") != bool(self.source_priority):
            raise ValueError("source_priority belongs to keep: source, and keep: source needs it")
        if (self.keep == "score") != (self.score_field is not None):
            raise ValueError("score_field belongs to keep: score, and keep: score needs it")
        if len(set(self.source_priority)) != len(self.source_priority):
            raise ValueError("source_priority names a source twice")
        return self


def score_of(metadata: dict[str, object], classifier: float | None, settings: KeepSettings) -> float:
    """A document's score under `settings`: its metadata field or the classifier's; -inf when it has no number there."""
    value = classifier if settings.score_field == CLASSIFIER else metadata.get(settings.score_field or "")
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return float(value) if is_number else float("-inf")  # type: ignore[arg-type]


def preference(
    settings: KeepSettings, sizes: Sequence[int], sources: Iterable[str], scores: Sequence[float] | None = None
) -> NDArray[np.int64]:
    """(documents,) different numbers, greater for the document that stays.

    Equal documents under `score` and `source` are told apart by length, and in the end the first one read stays.

    Args:
        settings: the policy.
        sizes: UTF-8 bytes of each document's text.
        sources: the name of each document's source; looked at under keep: source only.
        scores: `score_of` of each document; looked at under keep: score only.
    """
    import numpy as np

    count = len(sizes)
    keys = [np.arange(count)]  # of np.lexsort, the last one decides first
    if settings.keep != "first":
        keys.append(-np.asarray(sizes, dtype=np.int64))
    if settings.keep == "source":
        place = {name: number for number, name in enumerate(settings.source_priority)}
        keys.append(np.fromiter((place.get(name, len(place)) for name in sources), dtype=np.int64, count=count))
    if settings.keep == "score":
        assert scores is not None, "keep: score comes with scores"
        keys.append(-np.asarray(scores, dtype=np.float64))  # type: ignore[arg-type]
    found = np.empty(count, dtype=np.int64)
    found[np.lexsort(keys)] = np.arange(count - 1, -1, -1)
    return found
