"""Labelled examples to a classifier and the report on it: multinomial logistic regression by scikit-learn.

Trained on one part of the examples, calibrated on a second and measured on a third; the weights that were measured are
the ones that are kept. scikit-learn is needed here only: the extra `classify`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmforge.cleaning.classify.classifier import Classifier, softmax
from llmforge.cleaning.classify.examples import SIDES, Example, Examples, read_examples
from llmforge.cleaning.classify.features import features_of
from llmforge.cleaning.classify.scores import report_on
from llmforge.cleaning.classify.settings import FeatureSettings, TrainOn
from llmforge.errors import MachineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Inverse strength of the L2 penalty. Texts have a length of 1, so a strong penalty leaves all probabilities near even;
# measured on the quality of pieces of books, accuracy is .966 at 1, .973 at 10, .985 at 100 and at 1,000.
_INVERSE_PENALTY = 100.0
_MAX_ITERATIONS = 300
_TOLERANCE = 1e-3
_MIN_TO_CALIBRATE = 30  # below, a temperature says more of chance than of the model
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Training:
    """A trained classifier and what it took; `seconds` stay out of the classifier's files, which a seed decides."""

    classifier: Classifier
    seconds: dict[str, float]
    num_bytes: int

    @property
    def report(self) -> dict[str, object]:
        """The report that the classifier's folder keeps."""
        return self.classifier.report


def check_installed() -> None:
    """Raises MachineError when scikit-learn is not there; loads nothing."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        hint = "install it with pip install 'llmforge[classify]', or give classify.model, which needs no more"
        raise MachineError("training a classifier needs scikit-learn, which is not installed", "classify", hint)


def train(settings: TrainOn, on_progress: Callable[[], None] = lambda: None) -> Training:
    """A classifier of the labelled texts; the same settings and texts give the same bytes on the same machine.

    `on_progress` is called now and then and may raise to stop.

    Raises:
        DataError: the examples cannot be read or are too few.
        MachineError: scikit-learn is not installed.
    """
    check_installed()
    started = time.monotonic()
    examples = read_examples(settings, on_progress)
    read = time.monotonic()
    with _one_thread():
        model = _fit(examples, settings.features)
        calibrated = replace(model, temperature=_temperature(model, examples.sides["calibrate"]))
        report = _report(calibrated, examples)
    seconds = {"read": round(read - started, 3), "train": round(time.monotonic() - read, 3)}
    return Training(replace(calibrated, report=report), seconds, examples.num_bytes)


def matrix_of(texts: Sequence[str], settings: FeatureSettings) -> Any:
    """The features as a sparse SciPy matrix, (N, counters) float32."""
    import numpy as np
    from scipy.sparse import csr_array

    ends, counters, values = [np.zeros(1, dtype=np.int64)], [], []
    for found in features_of(texts, settings):
        ends.append(ends[-1][-1] + np.cumsum(np.bincount(found.texts, minlength=found.num_texts)))
        counters.append(found.counters.astype(np.int32))
        values.append(found.values.astype(np.float32))
    parts = (np.concatenate(values), np.concatenate(counters), np.concatenate(ends))
    return csr_array(parts, shape=(len(texts), 1 << settings.bits))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, so that the same examples give the same bits."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def _fit(examples: Examples, settings: FeatureSettings) -> Classifier:
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    side = examples.sides["train"]
    matrix = matrix_of([example.text for example in side], settings)
    wanted = np.asarray([examples.labels.index(example.label) for example in side])
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MAX_ITERATIONS, tol=_TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of the weights decide nothing
        model.fit(matrix, wanted)
    weights, bias = model.coef_.T, model.intercept_  # (counters, K or 1), (K or 1,)
    if len(examples.labels) == 2:  # one column z for two labels: softmax(-z/2, z/2) is sigmoid(z)
        weights, bias = np.hstack([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
    weights, bias = (np.ascontiguousarray(array, dtype=np.float32) for array in (weights, bias))
    return Classifier(examples.labels, settings, weights, bias, temperature=1.0, report={})


def _temperature(model: Classifier, side: list[Example]) -> float:
    """The temperature under which held-out labels are most probable (Guo et al., 2017,
    https://arxiv.org/abs/1706.04599); 1 when there are too few of them.

    A label that came n times counts as certain by (n + 1) / (n + 2) only, as in Platt, 1999: held-out texts without
    one mistake do not prove that there are none.
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    if len(side) < _MIN_TO_CALIBRATE:
        return 1.0
    sums = np.log(np.maximum(model.probabilities([example.text for example in side]), 1e-300))  # (N, K)
    wanted = np.asarray([model.labels.index(example.label) for example in side])
    counts = np.bincount(wanted, minlength=len(model.labels))
    sure = ((counts + 1) / (counts + 2))[wanted]  # (N,)
    targets = np.repeat(((1 - sure) / (len(model.labels) - 1))[:, None], len(model.labels), axis=1)  # (N, K)
    targets[np.arange(len(wanted)), wanted] = sure

    def loss(log_temperature: float) -> float:
        found: NDArray[np.float64] = softmax(sums / np.exp(log_temperature))
        return float(-(targets * np.log(np.maximum(found, 1e-300))).sum(axis=1).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


def _report(model: Classifier, examples: Examples) -> dict[str, object]:
    side = examples.sides["test"]
    scores = report_on(model, [example.text for example in side], [example.label for example in side])
    return {
        "documents": examples.documents,
        "bytes": examples.num_bytes,
        "left_out": examples.left_out,
        "sides": {name: len(examples.sides[name]) for name in SIDES},
        "calibrated": len(examples.sides["calibrate"]) >= _MIN_TO_CALIBRATE,
        "test": scores,
    }
