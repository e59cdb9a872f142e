"""How good a classifier is on held-out texts: accuracy, precision and recall by label, confusion, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmforge.cleaning.classify.classifier import Classifier
from llmforge.report.table import table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BINS = 10
_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_MAX_SHOWN = 12


def report_on(model: Classifier, texts: Sequence[str], labels: Sequence[str]) -> dict[str, object]:
    """The scores on texts whose labels are known; what `majority` would score is the share of the largest label."""
    import numpy as np

    probabilities = model.probabilities(texts)  # (N, K)
    wanted = np.asarray([model.labels.index(label) for label in labels])
    found = probabilities.argmax(axis=1)
    count = len(model.labels)
    confusion = np.zeros((count, count), dtype=np.int64)  # [true, said]
    np.add.at(confusion, (wanted, found), 1)
    true_probability = np.maximum(probabilities[np.arange(len(wanted)), wanted], 1e-300)
    return {
        "documents": len(wanted),
        "accuracy": _rounded(np.trace(confusion) / len(wanted)),
        "majority": _rounded(confusion.sum(axis=1).max() / len(wanted)),
        "log_loss": _rounded(-np.log(true_probability).mean()),
        "calibration_error": _rounded(calibration_error(probabilities.max(axis=1), found == wanted)),
        "labels": {
            label: {
                "documents": int(confusion[at].sum()),
                "precision": _share(confusion[at, at], confusion[:, at].sum()),
                "recall": _share(confusion[at, at], confusion[at].sum()),
                "thresholds": _sweep(probabilities[:, at], wanted == at),
            }
            for at, label in enumerate(model.labels)
        },
        "confusion": confusion.tolist(),
    }


def calibration_error(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """How far scores are from the share that is right, on average over ten bins of scores (expected calibration error,
    Naeini et al., 2015)."""
    import numpy as np

    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(bins, scores - right, _BINS)
    return float(np.abs(gaps).sum() / len(scores))


def _sweep(scores: NDArray[np.float64], is_label: NDArray[np.bool_]) -> list[dict[str, float | None]]:
    """For `keep: [label]` at each min_score: the share of the label's texts that stays, and of the others'."""
    return [
        {
            "min_score": threshold,
            "kept": _share((scores[is_label] >= threshold).sum(), is_label.sum()),
            "others_kept": _share((scores[~is_label] >= threshold).sum(), (~is_label).sum()),
        }
        for threshold in _THRESHOLDS
    ]


def as_text(report: Mapping[str, Any]) -> str:
    """The report as a page for a person: the held-out scores and, for a few labels, who was taken for whom."""
    test = report["test"]
    labels = list(test["labels"])
    head = (
        f"classifier: accuracy {test['accuracy']:.3f} on {test['documents']:,} held-out texts "
        f"(always the largest label: {test['majority']:.3f}), calibration error {test['calibration_error']:.3f}"
    )
    shown = labels[:_MAX_SHOWN]
    header = ["label", "texts", "precision", "recall", *(f"as {label}" for label in shown)]
    rows = [
        [
            label,
            f"{report['documents'][label]:,}",
            _number(test["labels"][label]["precision"]),
            _number(test["labels"][label]["recall"]),
            *(f"{count:,}" for count in test["confusion"][at][: len(shown)]),
        ]
        for at, label in enumerate(shown)
    ]
    lines = [head, *table(rows, header, right=range(1, len(header)))]
    if len(labels) > len(shown):
        lines.append(f"and {len(labels) - len(shown)} labels more, in the classifier's report")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(part: Any, whole: Any) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: Any) -> float:
    return round(float(value), 6)
