"""The trained classifier: a folder with its header and weights, and labels with scores for texts, by NumPy alone.

    classifier.json       format, labels, features, temperature, the report of its training
    weights.safetensors   weights (counters, labels) and bias (labels,), float32
    manifest.json         as of every artefact

N texts, K labels, F features of all texts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import ValidationError

from llmforge.cleaning.classify.features import Features, counters_of, features_of, fold, runs_of, sample
from llmforge.cleaning.classify.settings import FeatureSettings
from llmforge.errors import DamagedError, DataError
from llmforge.runtime.files import disk_errors, write_atomic
from llmforge.runtime.manifest import find_artefact, read_manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = "classifier"
HEADER_FILE, WEIGHTS_FILE = "classifier.json", "weights.safetensors"
FORMAT = 1  # changes with the features' arithmetic too: weights fit one way of hashing only
_AGAIN = "train it again"
_SHOWN_CHARACTERS = 24


@dataclass(frozen=True)
class Classifier:
    """A linear model over hashed runs of words: softmax((features @ weights + bias) / temperature)."""

    labels: list[str]
    features: FeatureSettings
    weights: NDArray[np.float32]  # (counters, K)
    bias: NDArray[np.float32]  # (K,)
    temperature: float
    report: dict[str, object]

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """The classifier in a folder, or in the run folder that made it.

        Raises:
            DataError: there is none, or it was made by another format.
            DamagedError: a file is missing or was changed.
        """
        folder = find_artefact(path, KIND)
        read_manifest(folder, KIND, verify="digests")
        try:
            header = json.loads((folder / HEADER_FILE).read_text(encoding="utf-8"))
            if header["format"] != FORMAT:
                what = f"made by format {header['format']} of classifiers, {FORMAT} is known"
                raise DataError(what, folder / HEADER_FILE, f"{_AGAIN} with this version of llmforge")
            shape = (1 << int(header["features"]["bits"]), len(header["labels"]))
            weights, bias = _read_weights(folder / WEIGHTS_FILE, shape)
            return cls(
                labels=[str(label) for label in header["labels"]],
                features=FeatureSettings.model_validate(header["features"]),
                weights=weights,
                bias=bias,
                temperature=float(header["temperature"]),
                report=dict(header["report"]),
            )
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise DamagedError("the classifier's header cannot be read", folder / HEADER_FILE, _AGAIN) from error

    def save(self, folder: Path) -> None:
        """Writes header and weights into an existing folder; the manifest is the caller's to write."""
        from safetensors.numpy import save

        header = {
            "format": FORMAT,
            "labels": self.labels,
            "features": self.features.model_dump(),
            "temperature": self.temperature,
            "report": self.report,
        }
        with disk_errors(folder):
            write_atomic(folder / WEIGHTS_FILE, save({"weights": self.weights, "bias": self.bias}))
            write_atomic(folder / HEADER_FILE, json.dumps(header, indent=2, ensure_ascii=False) + "\n")

    def predict(self, texts: Sequence[str]) -> tuple[list[str], list[float]]:
        """The most probable label of each text and its probability, 0 to 1."""
        import numpy as np

        found = self.probabilities(texts)  # (N, K)
        best = found.argmax(axis=1)
        return [self.labels[at] for at in best], found[np.arange(len(best)), best].tolist()

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The probability of each label, (N, K) in the order of `labels`; what else is in `texts` changes nothing."""
        import numpy as np

        parts = [softmax(self._sums(found) / self.temperature) for found in features_of(texts, self.features)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.labels)))

    def _sums(self, found: Features) -> NDArray[np.float64]:
        """The weighted features of each text plus bias, (N, K), added up one after the other."""
        import numpy as np

        sums = np.empty((found.num_texts, len(self.labels)))
        weighted = self.weights[found.counters] * found.values[:, None]  # (F, K)
        for label in range(len(self.labels)):
            sums[:, label] = np.bincount(found.texts, weighted[:, label], found.num_texts)
        return sums + self.bias

    def explain(self, text: str, label: str, count: int = 3) -> list[tuple[str, float]]:
        """The runs of words that spoke most for a label, each with its share of the sum; folded and cut short."""
        import numpy as np

        data = sample(text, self.features.max_characters).encode("utf-8", "surrogatepass")
        array = np.frombuffer(data, dtype=np.uint8)
        runs = list(runs_of(array, np.asarray([len(data) + 1]), self.features))
        starts, stops, hashes = (np.concatenate(part) for part in zip(*runs, strict=True))
        counters = counters_of(hashes, self.features.bits).astype(np.int64)
        column = self.labels.index(label)
        found = next(features_of([text], self.features))
        speaks = self.weights[found.counters, column] * found.values  # (F,); weights of a counter add up to 0
        answer: list[tuple[str, float]] = []
        for at in np.argsort(-speaks, kind="stable")[: 4 * count]:
            if speaks[at] <= 0 or len(answer) == count:
                break
            first = int(np.flatnonzero(counters == found.counters[at])[0])
            shown = _shown(data[int(starts[first]) : int(stops[first])])
            if shown and all(shown not in earlier for earlier, _ in answer):
                answer.append((shown, float(speaks[at])))
        return answer


def softmax(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (N, K) of weighted sums (N, K)."""
    import numpy as np

    powers: NDArray[np.float64] = np.exp(sums - sums.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _shown(run: bytes) -> str:
    """A run of words as a person may read it: digits are 0 and little is shown, so that no number gets out."""
    return " ".join(fold(run.decode("utf-8", "replace")).split())[:_SHOWN_CHARACTERS]


def _read_weights(path: Path, shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedError("the weights cannot be read", path, _AGAIN) from error
    for name, wanted in {"weights": shape, "bias": shape[1:]}.items():
        tensor = found.get(name)
        if tensor is None or tensor.shape != wanted or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise DamagedError(f"the tensor {name!r} is not {wanted} finite float32 numbers", path, _AGAIN)
    return found["weights"], found["bias"]
