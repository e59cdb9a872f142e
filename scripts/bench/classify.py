"""How well and how fast documents get a label, beside scikit-learn's own features with the same linear model.

    python scripts/bench/classify.py [--data DIR] [--rounds 3] [--json FILE]

Pieces of real books, half of them spoilt in one of six ways (noise of a scan, shuffled words, a page's furniture,
loops, lost spaces, torn lines); trained on books-train, measured on books-valid, whose books are not in it. Sides:
ours (runs of one and two words), ours with characters: 3, and scikit-learn's HashingVectorizer over the same runs with
the same LogisticRegression. MB of text a processor second on one core, medians of the rounds, the sides in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from bench_machine import machine  # noqa: E402

from llmforge.cleaning.classify.settings import FeatureSettings, TrainOn  # noqa: E402
from llmforge.cleaning.classify.train import train  # noqa: E402

ROOT = Path(__file__).parents[2]
FURNITURE = (
    "Home|About us|Contact|Sign in|Subscribe to our newsletter|Share this|Read more »|All rights reserved|Cookie policy"
    "|Next page|Add to cart|Terms of service|Click here|0 comments"
).split("|")
Labelled = list[tuple[str, str]]
Predict = Callable[[Sequence[str]], list[str]]
Table = dict[str, Any]


def spoilt(text: str, rng: random.Random) -> str:
    """The text in one of six bad states."""
    words, lines, kind = text.split(" "), text.split("\n"), rng.randrange(6)
    if kind == 0:
        return "".join(sign if rng.random() > 0.04 else rng.choice("~|^*1l0@#") for sign in text)
    if kind == 1:
        rng.shuffle(words)
        return " ".join(words)
    if kind == 2:
        parts = []
        for at in range(0, len(words), 60):
            parts += [" ".join(words[at : at + rng.randrange(10, 40)]), *rng.sample(FURNITURE, rng.randrange(2, 6))]
        return "\n".join(parts)
    if kind == 3:
        length = rng.randrange(20, 80)
        return " ".join(words[:length] * max(2, len(words) // length))
    if kind == 4:
        return "".join(sign for sign in text if sign != " " or rng.random() > 0.25)
    rng.shuffle(lines)
    return "\n".join(line[: rng.randrange(10, 50)] for line in lines)


def labelled(path: Path) -> Labelled:
    """(text, label) of each piece; half of them, drawn by their number, are spoilt."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        text, rng = json.loads(line)["text"], random.Random(number)
        found.append((text, "clean") if rng.random() < 0.5 else (spoilt(text, rng), "spoilt"))
    return found


def ours(rows: Labelled, folder: Path, features: FeatureSettings) -> Predict:
    """Trained as `clean` trains it."""
    path = folder / "labelled.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    classifier = train(TrainOn(path=str(path), features=features)).classifier
    return lambda texts: classifier.predict(texts)[0]


def sklearn_side(rows: Labelled) -> Predict:
    """scikit-learn's hashed runs of one and two words and its logistic regression, with our penalty."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    hashing = HashingVectorizer(n_features=1 << 18, ngram_range=(1, 2))
    model = LogisticRegression(C=100.0, max_iter=300, tol=1e-3)
    model.fit(hashing.transform([text for text, _ in rows]), [label for _, label in rows])
    return lambda texts: [str(label) for label in model.predict(hashing.transform(texts))]


def main() -> None:
    """Prints a line for each side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder of real text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="a file for the same numbers")
    asked = parser.parse_args()
    rows, unseen = labelled(asked.data / "books-train.jsonl"), labelled(asked.data / "books-valid.jsonl")
    texts = [text for text, _ in unseen]
    size = sum(len(text.encode()) for text in texts)
    sides: dict[str, Predict] = {}
    with tempfile.TemporaryDirectory() as folder:
        sides["ours"] = ours(rows, Path(folder), FeatureSettings())
        sides["ours, characters: 3"] = ours(rows, Path(folder), FeatureSettings(characters=3))
        sides["scikit-learn"] = sklearn_side(rows)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    right: dict[str, float] = {}
    for number in range(asked.rounds + 1):
        for name, predict in sides.items():
            start = time.process_time()
            found = predict(texts)
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - start)
            right[name] = statistics.mean(label == wanted for label, (_, wanted) in zip(found, unseen, strict=True))
    facts = {**machine(), "trained_on": len(rows), "measured_on": len(unseen), "bytes": size}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    table: Table = {}
    for name in sides:
        rate = round(size / 1e6 / statistics.median(seconds[name]), 2)
        table[name] = {"accuracy": round(right[name], 4), "mb_per_second": rate}
        print(f"{name:20} accuracy {right[name]:.4f}  {rate} MB/s")
    if asked.json:
        asked.json.write_text(json.dumps({"machine": facts, "sides": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
