"""llmforge's side of the cleaning bench: the functions that `llmforge clean` calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from clean_rounds import serve  # noqa: E402


def prepare(shape: str, data: str) -> Callable[[], object]:
    """The work of a shape on the texts of a file (JSON: a list of texts)."""
    texts: list[str] = json.loads(Path(data).read_text(encoding="utf-8"))
    return {"rules": _rules, "rules_punctuation": _rules_punctuation, "near": _near, "patterns": _patterns}[shape](
        texts
    )


def _chain(texts: list[str], words: str) -> Callable[[], object]:
    from llmforge.cleaning.rules.c4 import C4
    from llmforge.cleaning.rules.fineweb import FineWeb
    from llmforge.cleaning.rules.gopher_quality import GopherQuality
    from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
    from llmforge.cleaning.rules.rule_sets import Rules

    own = {"words": words}
    c4 = C4.model_validate({"variant": "fineweb"})
    step = Rules(
        [*(kind.model_validate(own) for kind in (GopherRepetition, GopherQuality)), c4, FineWeb.model_validate(own)]
    )

    def kept(text: str) -> bool:
        return not step.judge_all(step.measure(step.edit(text).text, text))

    return lambda: {"kept": sum(map(kept, texts))}


def _rules(texts: list[str]) -> Callable[[], object]:
    return _chain(texts, "whitespace")


def _rules_punctuation(texts: list[str]) -> Callable[[], object]:
    return _chain(texts, "punctuation")


def _near(texts: list[str]) -> Callable[[], object]:
    from llmforge.cleaning.dedup.near import NearSettings, find_near_duplicates, signatures

    settings = NearSettings()

    def work() -> object:
        found = signatures(texts, settings)
        sizes = [len(text) for text in texts]
        return sorted(find_near_duplicates(found, sizes, texts.__getitem__, settings))

    return work


def _patterns(texts: list[str]) -> Callable[[], object]:
    from llmforge.cleaning.pii.anonymize import AnonymizeSettings
    from llmforge.cleaning.pii.find import find

    regions = AnonymizeSettings().phone_regions

    def work() -> object:
        matches = [find(text, ("email", "ip", "phone", "card"), regions) for text in texts]
        return [[(match.start, match.end, match.kind) for match in found] for found in matches]

    return work


if __name__ == "__main__":
    serve(prepare)
