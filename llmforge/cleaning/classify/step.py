"""The step of the chain: how probable each label of a text is, and which texts stay by that.

Measuring needs the text and the model, and is a pure function of the text: batches only make it faster. Deciding needs
what was measured alone, so that other labels to keep or another `min_score` measure nothing again. The model is loaded
at the first text, once in each process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from llmforge.cleaning.classify.classifier import Classifier
from llmforge.cleaning.classify.settings import ClassifySettings
from llmforge.cleaning.verdict import KEEP, Drop, Verdict
from llmforge.errors import UsageError

_DIGITS = 4  # of a score in the metadata
_MEASURED_DIGITS = 9  # of what is kept of a label's probability; one that is 0 then is left out

Labels = Mapping[str, float]  # the probability of each label


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

    def load(self) -> None:
        """Loads the model now; raises as `classifier` does."""
        _ = self.classifier

    def __call__(self, text: str) -> Verdict:
        """Keep or Drop."""
        (labels,) = self.measure([text])
        label = self.blamed(labels)
        return KEEP if label is None else self.drop(labels, label, self.telling(text, label))

    def measure(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """How probable each label of each text is."""
        names = self.classifier.labels
        rows = self.classifier.probabilities(texts).tolist()
        rounded = ([round(value, _MEASURED_DIGITS) for value in row] for row in rows)
        return [{name: value for name, value in zip(names, row, strict=True) if value} for row in rounded]

    def wanted(self, labels: Labels) -> float:
        """How probable the labels to keep are together; 1 when all are kept."""
        keep = self._settings.keep
        unwanted = sum(value for label, value in labels.items() if keep is not None and label not in keep)
        return round(1.0 - unwanted, _MEASURED_DIGITS)

    def blamed(self, labels: Labels) -> str | None:
        """The label that speaks most against a text that does not stay; None for one that does."""
        keep = self._settings.keep
        unwanted = [label for label in labels if keep is not None and label not in keep]
        if not unwanted or self.wanted(labels) >= self._settings.min_score:
            return None
        return max(unwanted, key=labels.__getitem__)

    def telling(self, text: str, label: str) -> list[str]:
        """The runs of words that spoke most for a label."""
        return [run for run, _ in self.classifier.explain(text, label)]

    def drop(self, labels: Labels, blamed: str, telling: Sequence[str]) -> Drop:
        """The reason against a text for the label that is blamed."""
        told = ", ".join(map(repr, telling))
        wanted = " or ".join(self._settings.keep or ())
        because = f"the probability of {wanted} is {self.wanted(labels):.3f} and that of {blamed} {labels[blamed]:.3f}"
        return Drop(self.name, "min_score", f"{because}, mostly for {told}" if told else because)

    def facts(self, labels: Labels) -> dict[str, object]:
        """What goes into a document's metadata: the most probable label and how probable it is."""
        field = self._settings.label
        best = max(labels, key=labels.__getitem__)
        return {field: best, f"{field}_score": round(labels[best], _DIGITS)}
