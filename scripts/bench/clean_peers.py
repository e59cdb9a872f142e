"""The peers' side of the cleaning bench: datatrove's and presidio's own classes, in an environment of their own."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from clean_rounds import serve  # noqa: E402

PATTERN_KINDS = {"EMAIL_ADDRESS": "email", "IP_ADDRESS": "ip", "PHONE_NUMBER": "phone", "CREDIT_CARD": "card"}


def prepare(shape: str, data: str) -> Callable[[], object]:
    """The work of a shape on the texts of a file (JSON: a list of texts)."""
    texts: list[str] = json.loads(Path(data).read_text(encoding="utf-8"))
    return {"rules": _rules, "near": _near, "patterns": _patterns, "verdicts": _verdicts}[shape](texts)


def _documents(texts: list[str]) -> list[object]:
    from datatrove.data import Document

    return [Document(text=text, id=str(number)) for number, text in enumerate(texts)]


def fineweb_chain() -> list[object]:
    """The filters of FineWeb's chain in the order of examples/fineweb.py, without those of address and language."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    c4 = C4QualityFilter(filter_no_terminal_punct=False)
    return [GopherRepetitionFilter(), GopherQualityFilter(), c4, FineWebQualityFilter()]


def _rules(texts: list[str]) -> Callable[[], object]:
    def work() -> object:
        stream = iter(_documents(texts))
        for step in fineweb_chain():
            stream = step.run(stream)  # type: ignore[attr-defined]
        return {"kept": sum(1 for _ in stream)}

    return work


def _near(texts: list[str]) -> Callable[[], object]:
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(num_buckets=14, hashes_per_bucket=8, n_grams=5, hash_config=HashConfig(precision=64))

    def work() -> object:
        with tempfile.TemporaryDirectory() as folder:
            parts = [f"{folder}/{name}" for name in ("signatures", "buckets", "remove")]
            MinhashDedupSignature(parts[0], config=config).run(iter(_documents(texts)), 0, 1)
            for bucket in range(config.num_buckets):
                MinhashDedupBuckets(parts[0], parts[1], config=config).run(None, bucket, config.num_buckets)
            MinhashDedupCluster(parts[1], parts[2], config=config).run(None, 0, 1)
            stays = {int(document.id) for document in MinhashDedupFilter(parts[2]).run(iter(_documents(texts)), 0, 1)}
        return sorted(set(range(len(texts))) - stays)

    return work


def _patterns(texts: list[str]) -> Callable[[], object]:
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class NoModel(SpacyNlpEngine):
        """Words only: the recognisers by pattern need no model, and none is fetched."""

        def __init__(self) -> None:
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    registry.remove_recognizer("SpacyRecognizer")
    engine = AnalyzerEngine(registry=registry, nlp_engine=NoModel(), supported_languages=["en"])
    kinds = list(PATTERN_KINDS)

    def work() -> object:
        found = [engine.analyze(text, language="en", entities=kinds) for text in texts]
        return [[(match.start, match.end, PATTERN_KINDS[match.entity_type]) for match in own] for own in found]

    return work


def _verdicts(texts: list[str]) -> Callable[[], object]:
    """For each text: [kept, reason] of each filter, its C4 text, the sentences counted there, and spaCy's words."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        c4_filters,
    )
    from datatrove.utils.text import split_into_sentences, split_into_words

    filters = {
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "fineweb": FineWebQualityFilter(),
        "c4": C4QualityFilter(),
    }
    counted = [0]

    def counting(text: str, language: str) -> list[str]:
        found: list[str] = split_into_sentences(text, language)
        counted[0] += len(found)
        return found

    c4_filters.split_into_sentences = counting

    def one(text: str) -> object:
        verdicts = {}
        counted[0] = 0
        document = Document(text=text, id="")
        for name, step in filters.items():
            document.text = text
            try:
                found = step.filter(document)
            except ZeroDivisionError as error:  # texts without words or lines
                found = (False, f"error: {error}")
            verdicts[name] = [True, ""] if found is True else list(found)
        return {**verdicts, "text": document.text, "sentences": counted[0], "words": split_into_words(text)}

    return lambda: [one(text) for text in texts]


def chain_once(source: str, output: str) -> None:
    """The whole of `llmforge clean`'s default chain by datatrove's steps: from a folder of JSONL to one of JSONL."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.formatters import FTFYFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(num_buckets=14, hashes_per_bucket=8, n_grams=5, hash_config=HashConfig(precision=64))
    passed, parts = f"{output}/passed", [f"{output}/{name}" for name in ("signatures", "buckets", "remove")]
    dropped = [JsonlWriter(f"{output}/dropped/{name}", compression="zstd") for name in ("r", "q", "f", "m")]
    steps = [
        JsonlReader(source),
        FTFYFormatter(),
        GopherQualityFilter(exclusion_writer=dropped[1]),
        GopherRepetitionFilter(exclusion_writer=dropped[0]),
        FineWebQualityFilter(exclusion_writer=dropped[2]),
        JsonlWriter(passed, compression="zstd"),
    ]
    reader = JsonlReader(passed, compression="zstd")
    stages = [
        (steps, 1),
        ([reader, MinhashDedupSignature(parts[0], config=config)], 1),
        ([MinhashDedupBuckets(parts[0], parts[1], config=config)], config.num_buckets),
        ([MinhashDedupCluster(parts[1], parts[2], config=config)], 1),
        (
            [
                reader,
                MinhashDedupFilter(parts[2], exclusion_writer=dropped[3]),
                JsonlWriter(f"{output}/kept", compression="zstd"),
            ],
            1,
        ),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{output}/log{number}").run()


if __name__ == "__main__":
    if sys.argv[1] == "--chain":
        chain_once(sys.argv[2], sys.argv[3])
    else:
        serve(prepare)
