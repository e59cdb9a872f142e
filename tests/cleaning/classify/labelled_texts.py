"""Three kinds of made-up text that a classifier can tell apart."""

from __future__ import annotations

import json
import random
from pathlib import Path

from llmforge.cleaning.classify.classifier import KIND, Classifier
from llmforge.runtime.manifest import write_manifest

WORDS = {
    "sea": "harbour wave captain anchor sail storm deck mast tide whale rope crew island gull reef",
    "kitchen": "butter flour oven spoon sugar kettle bread onion pepper knife stew recipe dough plate salt",
    "court": "judge witness verdict law clerk oath jury appeal trial statute bench plea fine notary deed",
}
SHARED = "the of and to in a that it was with for on his they at be from had not".split()


def text_of(kind: str, number: int) -> str:
    """A text of about 60 words, a third of them telling."""
    rng = random.Random(f"{kind} {number}")
    telling = WORDS[kind].split()
    chosen = [rng.choice(telling if rng.random() < 0.35 else SHARED) for _ in range(60)]
    return f"No {number}: " + " ".join(chosen) + "."


def write_rows(path: Path, counts: dict[str, int], **more: object) -> Path:
    """JSONL rows of text and label."""
    pairs = [(kind, number) for kind, count in counts.items() for number in range(count)]
    rows = [{"text": text_of(kind, number), "label": kind, **more} for kind, number in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def saved(classifier: Classifier, folder: Path) -> Path:
    """The classifier as an artefact in a new folder."""
    folder.mkdir(parents=True)
    classifier.save(folder)
    write_manifest(folder, KIND, config={})
    return folder
