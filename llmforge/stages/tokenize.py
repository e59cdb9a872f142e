"""`llmforge tokenize`: a corpus and a tokenizer -> memory-mapped token shards, each document still to be found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from llmforge.config.schema import Config
from llmforge.runtime.console import Console

if TYPE_CHECKING:
    from llmforge.tokens.write import TokenWriter

_UNPACKED = 4  # a compressed corpus holds about this many bytes of text a byte
_TEXT_PER_ID_BYTE = 2  # and text becomes about half as many bytes of ids
_PARTIAL = ".tokens.partial"  # in the run folder: the shards of a run that is not through


class TokenizeConfig(Config):
    """Which corpus with which tokenizer."""

    output_dir: str = Field(min_length=1, description="a run folder that gets tokens/")
    corpus: str = Field(min_length=1, description="a corpus folder, or the run folder of `clean`")
    tokenizer: str = Field(
        min_length=1, description="a tokenizer folder, a run folder, or any Hugging Face folder with a tokenizer.json"
    )
    label_key: str = Field(
        "label", min_length=1, description="the metadata field whose text is kept as a document's label, for mixtures"
    )
    workers: int = Field(
        0,
        ge=0,
        le=1024,
        description="threads, or processes for some tokenizers; 0: one a core; the output does not depend on it",
    )


def run(config: TokenizeConfig, console: Console) -> dict[str, object]:
    """Encodes the splits train and valid and publishes `tokens/`; goes on behind the whole shards of a killed run.

    Raises:
        DataError: no corpus, no tokenizer, or no text.
        DamagedError: a file of either was cut or changed.
        StopRequested: a signal came; whole shards are kept, and the same command goes on behind them.
    """
    from llmforge.errors import MachineError, StopRequested
    from llmforge.runtime.code import code_digest
    from llmforge.runtime.malloc import keep_freed_memory
    from llmforge.runtime.manifest import find_artefact, read_manifest
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.tokenizer.files import find_tokenizer
    from llmforge.tokens.write import TokenWriter

    corpus, tokenizer = find_artefact(config.corpus, "corpus"), find_tokenizer(config.tokenizer)
    keep_freed_memory()
    made_from = {"corpus": read_manifest(corpus, "corpus").digest, "tokenizer": _fingerprint(tokenizer)}
    with RunFolder.open(config.output_dir, "tokenize", config.model_dump(mode="json")) as folder:
        partial = folder.path / _PARTIAL
        try:
            with folder.phase("encode"):
                makings = {**made_from, "code": code_digest("corpus", "tokenizer", "tokens"), "label": config.label_key}
                writer = TokenWriter(partial, tokenizer, label_key=config.label_key, makings=makings)
                _write(writer, corpus, config.workers, console)
            totals = _totals(writer)
            folder.publish(partial, "tokens", made_from=made_from, facts=totals)
        except (StopRequested, MachineError, KeyboardInterrupt):
            raise  # the same command goes on behind what is whole
        except BaseException:
            folder.discard(partial)
            raise
        result: dict[str, object] = {**totals, "output": str(folder.path / "tokens")}
        folder.record(result=result)
    console.result(
        f"tokens: {result['output']} ({totals['documents']:,} documents, {totals['tokens']:,} tokens, "
        f"{totals['bytes_per_token']} bytes per token)"
    )
    return result


def preview(config: TokenizeConfig) -> dict[str, object]:
    """What would be read and written; raises as `run` does when an input is not there."""
    from llmforge.runtime.manifest import find_artefact
    from llmforge.tokenizer.files import find_tokenizer

    corpus, tokenizer = find_artefact(config.corpus, "corpus"), find_tokenizer(config.tokenizer)
    size = _stored_bytes(corpus) * _UNPACKED // _TEXT_PER_ID_BYTE
    writes = [str(Path(config.output_dir) / "tokens")]
    return {"reads": [str(corpus), str(tokenizer)], "writes": writes, "bytes": size}


def inputs_fingerprint(config: TokenizeConfig) -> dict[str, str]:
    """The digests of the corpus and of the tokenizer."""
    from llmforge.runtime.manifest import manifest_digest
    from llmforge.tokenizer.files import find_tokenizer

    tokenizer = _fingerprint(find_tokenizer(config.tokenizer))
    return {"corpus": manifest_digest(config.corpus, "corpus"), "tokenizer": tokenizer}


def _fingerprint(folder: Path) -> str:
    """The digest of the files that are copied along: the vocabulary's and the chat template's."""
    from llmforge.tokenizer.files import tokenizer_fingerprint

    return tokenizer_fingerprint(folder)


def _stored_bytes(corpus: Path) -> int:
    return sum(
        path.stat().st_size for path in corpus.iterdir() if path.is_file() and path.name.startswith(("train", "valid"))
    )


def _write(writer: TokenWriter, corpus: Path, workers: int, console: Console) -> None:
    from llmforge.corpus.folder import read_corpus
    from llmforge.errors import DataError
    from llmforge.runtime.stop import StopSignals
    from llmforge.tokens.encoding import number_of_workers

    processes = number_of_workers(workers, _stored_bytes(corpus) * _UNPACKED)
    console.detail(f"{processes} workers")
    before = writer.done_before
    if before.documents:
        console.say(f"going on behind {before.documents:,} documents ({before.tokens:,} tokens) of an earlier run")
    with StopSignals() as stop, console.progress("tokenizing", unit="B") as bar:

        def after_batch(done: int) -> None:
            bar.advance(done)
            stop.check()

        writer.write_split("train", read_corpus(corpus, "train"), processes, after_batch)
        writer.write_split("valid", read_corpus(corpus, "valid"), writer.workers_for_little(processes), after_batch)
    if not writer.counts["train"].documents:
        raise DataError("the corpus has no training text", corpus, "clean more text, or loosen the rules")
    writer.close()


def _totals(writer: TokenWriter) -> dict[str, object]:
    counts = writer.counts.values()
    size, tokens = sum(count.bytes for count in counts), sum(count.tokens for count in counts)
    return {
        "documents": sum(count.documents for count in counts),
        "tokens": tokens,
        "bytes": size,
        "bytes_per_token": round(size / max(1, tokens), 4),
        "splits": {split: dict(vars(count)) for split, count in writer.counts.items()},
    }
