"""The step of the chain: a label and a score for each text, and which texts stay by them.

A pure function of the text: batches only make it faster. The model is loaded at the first text, once in each process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llmforge.cleaning.classify.classifier import Classifier
from llmforge.cleaning.classify.settings import ClassifySettings
from llmforge.cleaning.verdict import KEEP, Drop, Verdict
from llmforge.errors import UsageError

_DIGITS = 4  # of a score in the metadata


@dataclass(frozen=True, slots=True)
class Judgement:
    """The most probable label of a text, its probability, and whether the text stays."""

    label: str
    score: float
    verdict: Verdict


class Classify:
    """The step that labels texts and, with `keep`, drops those of other labels."""

    name = "classify"

    def __init__(self, settings: ClassifySettings) -> None:
        """`settings.model` names the classifier: a stage that trains one first puts its folder there."""
        assert settings.model is not None, "the stage trains a classifier before the chain is built"
        self._settings = settings
        self._path = Path(settings.model)

    @cached_property
    def classifier(self) -> Classifier:
        """The model, loaded and checked.

        Raises:
            DataError: there is none, or it is of another format.
            DamagedError: it was changed.
            UsageError: `keep` names a label that it does not know.
        """
        found = Classifier.load(self._path)
        unknown = [label for label in self._settings.keep or () if label not in found.labels]
        if unknown:
            what = f"keep names {', '.join(unknown)}, and the classifier knows {', '.join(found.labels)}"
            raise UsageError(what, "classify.keep", "name labels that it knows")
        return found

    def __call__(self, text: str) -> Verdict:
        """Keep or Drop."""
        return self.judge([text])[0].verdict

    def judge(self, texts: Sequence[str]) -> list[Judgement]:
        """Label, score and verdict of each text."""
        labels = self.classifier.labels
        keep = self._settings.keep
        unwanted = [] if keep is None else [at for at, label in enumerate(labels) if label not in keep]
        found = []
        for text, row in zip(texts, self.classifier.probabilities(texts).tolist(), strict=True):
            best = max(range(len(labels)), key=row.__getitem__)
            kept = 1.0 - sum(row[at] for at in unwanted)
            stays = not unwanted or kept >= self._settings.min_score
            verdict = KEEP if stays else self._drop(text, kept, max(unwanted, key=row.__getitem__), row)
            found.append(Judgement(labels[best], row[best], verdict))
        return found

    def facts(self, judgement: Judgement) -> dict[str, object]:
        """What goes into a document's metadata."""
        field = self._settings.label
        return {field: judgement.label, f"{field}_score": round(judgement.score, _DIGITS)}

    def _drop(self, text: str, kept: float, blamed: int, row: list[float]) -> Drop:
        label = self.classifier.labels[blamed]
        told = ", ".join(repr(run) for run, _ in self.classifier.explain(text, label))
        wanted = " or ".join(self._settings.keep or ())
        because = f"the probability of {wanted} is {kept:.3f} and that of {label} {row[blamed]:.3f}"
        return Drop(self.name, "min_score", f"{because}, mostly for {told}" if told else because)
