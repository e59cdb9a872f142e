"""`llmforge tokenizer audit`: any tokenizer, alone or beside others -> what it does to text, as JSON and a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from llmforge.config.schema import Config
from llmforge.runtime.console import Console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmforge.corpus.document import Document
    from llmforge.tokenizer.tokenizer import Tokenizer

JSON_NAME, PAGE_NAME = "audit.json", "report.html"
_PAGE_BYTES = 200_000
_EMBEDDING = "model.embed_tokens.weight"
_LANGUAGE_KEYS = ("language", "lang")


class TokenizerAuditConfig(Config):
    """Which tokenizers, on which text."""

    output_dir: str = Field(
        "runs/tokenizer-audit", min_length=1, description=f"a run folder that gets {JSON_NAME} and {PAGE_NAME}"
    )
    tokenizer: str = Field(
        min_length=1, description="a tokenizer, run or model folder, or any Hugging Face folder with a tokenizer.json"
    )
    corpus: str = Field(min_length=1, description="a corpus folder, or the run folder of `clean`")
    against: tuple[str, ...] = Field((), description="further tokenizer folders to stand beside it")
    model: str | None = Field(
        None, description="a model folder of this tokenizer: its embedding shows ids that training hardly moved"
    )
    sample_bytes: int = Field(
        8_000_000, ge=1, description="bytes of text to read, evenly by source; held-out text first"
    )
    fuzz_texts: int = Field(2000, ge=0, le=1_000_000, description="random texts that must come back as they were")
    seed: int = Field(0, ge=0, description="another seed, other random texts")


def run(config: TokenizerAuditConfig, console: Console) -> dict[str, object]:
    """Reads the sample with each tokenizer and writes the report.

    Raises:
        DataError: no tokenizer, no corpus, no text in it, or a model of another vocabulary.
        DamagedError: a file of one of them was cut or changed.
    """
    from llmforge.runtime.files import write_atomic
    from llmforge.runtime.manifest import find_artefact, read_manifest
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.stages.tokenizer_audit_page import audit_page
    from llmforge.tokenizer.tokenizer import Tokenizer

    corpus = find_artefact(config.corpus, "corpus")
    read_manifest(corpus, "corpus")
    loaded = {path: Tokenizer.load(path) for path in (config.tokenizer, *config.against)}
    with RunFolder.open(config.output_dir, "tokenizer audit", config.model_dump(mode="json")) as folder:
        with folder.phase("sample"):
            documents, split = _sampled(corpus, config.sample_bytes)
        found: dict[str, dict[str, object]] = {}
        for path, tokenizer in loaded.items():
            with folder.phase("read"):
                embedding = _embedding(config, tokenizer) if path == config.tokenizer else None
                found[path] = _audit(tokenizer, documents, config, embedding, console)
        facts: dict[str, object] = {"measured_on": split, "documents": len(documents), "tokenizers": found}
        write_atomic(folder.path / JSON_NAME, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
        write_atomic(folder.path / PAGE_NAME, audit_page(facts))
        first = found[config.tokenizer]
        result: dict[str, object] = {
            **{key: first[key] for key in ("vocab_size", "bytes_per_token", "lossless")},
            "output": str(folder.path / PAGE_NAME),
        }
        folder.record(result=result)
    for path, one in found.items():
        lost = "lossless" if one["lossless"] else "NOT lossless"
        console.result(f"{path}: {one['vocab_size']:,} ids, {one['bytes_per_token']} bytes per token, {lost}")
    console.result(f"report: {result['output']}")
    return result


def preview(config: TokenizerAuditConfig) -> dict[str, object]:
    """What would be read and written; raises as `run` does when an input is not there."""
    from llmforge.runtime.manifest import find_artefact
    from llmforge.tokenizer.files import find_tokenizer

    reads = [find_tokenizer(path) for path in (config.tokenizer, *config.against)]
    reads.append(find_artefact(config.corpus, "corpus"))
    if config.model is not None:
        reads.append(_model(config.model))
    writes = [str(Path(config.output_dir) / name) for name in (JSON_NAME, PAGE_NAME)]
    return {"reads": [str(path) for path in reads], "writes": writes, "bytes": _PAGE_BYTES * (1 + len(config.against))}


def inputs_fingerprint(config: TokenizerAuditConfig) -> dict[str, str]:
    """The digests of the corpus, the tokenizers and the model."""
    from llmforge.runtime.files import digest_file
    from llmforge.runtime.manifest import manifest_digest
    from llmforge.tokenizer.files import find_tokenizer, tokenizer_fingerprint

    prints = {"corpus": manifest_digest(config.corpus, "corpus")}
    for number, path in enumerate((config.tokenizer, *config.against)):
        prints[f"tokenizer {number}"] = tokenizer_fingerprint(find_tokenizer(path))
    if config.model is not None:
        prints["model"] = digest_file(_model(config.model) / "config.json")
    return prints


def _model(path: str) -> Path:
    from llmforge.checkpoint.model_folder import find_model

    return find_model(path)


def _sampled(corpus: Path, budget: int) -> tuple[list[Document], str]:
    """Documents of held-out text, evenly by source, or of training text where there is none."""
    from llmforge.corpus.document import Document
    from llmforge.corpus.folder import Split, read_corpus
    from llmforge.errors import DataError
    from llmforge.tokenizer.sample import fractions, sizes_by_source, taken_spans

    split: Split
    for split in ("valid", "train"):
        sizes = sizes_by_source(read_corpus(corpus, split))
        if sum(sizes.values()):
            taken = fractions(sizes, budget)
            rows = [
                Document(document.id, span, document.source, document.metadata)
                for document in read_corpus(corpus, split)
                for span in taken_spans(document, taken)
            ]
            if rows:
                return rows, split
    raise DataError("the corpus has no text in this sample", corpus, "set sample_bytes higher, or clean more text")


def _audit(
    tokenizer: Tokenizer,
    documents: list[Document],
    config: TokenizerAuditConfig,
    embedding: NDArray[np.float32] | None,
    console: Console,
) -> dict[str, object]:
    from llmforge.tokenizer.audit import Reading, fuzz, handling, pieces, spread, undertrained

    reading = Reading()
    with console.progress(f"reading with {tokenizer.folder.name}", len(documents), unit="documents") as bar:
        for document in documents:
            reading.add(tokenizer, document.text, document.source, _language(document))
            bar.advance(1)
    size = sum(share.bytes for share in reading.sources.values())
    tokens = sum(share.tokens for share in reading.sources.values())
    tried = fuzz(tokenizer, config.fuzz_texts, config.seed)
    facts: dict[str, object] = {
        "vocab_size": tokenizer.vocab_size,
        "trained_by_llmforge": tokenizer.foreign is None,
        "bytes_per_token": round(size / max(1, tokens), 4),
        "lossless": not (reading.lossy_texts or tried["lost"]),
        "corpus_texts_lost": {"count": reading.lossy_texts, "of": reading.texts, "examples": reading.lost[:10]},
        "fuzz": tried,
        "sources": {name: share.facts() for name, share in sorted(reading.sources.items())},
        "languages": {name: share.facts() for name, share in sorted(reading.languages.items())},
        "spread_of_sources": spread(reading.sources),
        "spread_of_languages": spread(reading.languages),
        "handling": handling(tokenizer),
        "pieces": pieces(tokenizer, reading.used),
    }
    if embedding is not None:
        facts["undertrained"] = undertrained(tokenizer, embedding, reading.used)
    return facts


def _language(document: Document) -> str | None:
    found = (document.metadata.get(key) for key in _LANGUAGE_KEYS)
    return next((value for value in found if isinstance(value, str)), None)


def _embedding(config: TokenizerAuditConfig, tokenizer: Tokenizer) -> NDArray[np.float32] | None:
    """The model's input embedding (V, C)."""
    if config.model is None:
        return None
    from llmforge.checkpoint.weights import read_tensor
    from llmforge.errors import DataError

    folder = _model(config.model)
    found: NDArray[np.float32] = read_tensor(folder, _EMBEDDING).float().numpy()
    if len(found) < tokenizer.vocab_size:
        what = f"the model's embedding has {len(found):,} rows, the tokenizer {tokenizer.vocab_size:,} ids"
        raise DataError(what, folder, "give the model of this tokenizer")
    return found
