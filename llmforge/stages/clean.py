"""`llmforge clean`: raw text to a corpus folder, with the reason for every document that is not in it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from llmforge.cleaning.corpus_run import CorpusRun, open_survivors
from llmforge.cleaning.dedup.near import NearSettings
from llmforge.cleaning.language import LanguageSettings
from llmforge.cleaning.pii.anonymize import AnonymizeSettings
from llmforge.cleaning.pii.key_file import key_path, load_key
from llmforge.cleaning.pipeline import ChainSettings
from llmforge.cleaning.repair import RepairSettings
from llmforge.cleaning.report import Ledger, as_text
from llmforge.cleaning.rules.fineweb import FineWeb
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
from llmforge.cleaning.rules.rule_sets import RuleSet
from llmforge.cleaning.splits import SplitSettings
from llmforge.cleaning.workers import available_cpus
from llmforge.config.schema import Config
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.folder import CorpusWriter
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import check_source, read_source, source_fingerprint
from llmforge.errors import DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.runtime.files import write_atomic
from llmforge.runtime.run_folder import RunFolder
from llmforge.runtime.stop import StopSignals

_SUMS = ("input", "kept", "dropped", "changed")
_BYTES_PER_WORKER = 4 << 20  # a process more pays for its start from about here


class DedupSettings(Config):
    """Which duplicates are dropped."""

    exact: bool = Field(default=True, description="documents that differ in white space only")
    near: NearSettings | None = Field(default=NearSettings(), description="documents that share most runs of words")


class OutputSettings(Config):
    """How the corpus is stored."""

    format: Literal["jsonl.zst", "parquet"] = Field(default="jsonl.zst", description="of the shards")
    shard_bytes: int = Field(
        default=256 << 20, ge=1 << 10, le=1 << 40, description="rows of so many bytes go in one shard"
    )


class CleanConfig(Config):
    """Raw text to a corpus folder."""

    output_dir: str = Field(min_length=1, description="the run folder; the corpus is its subfolder corpus/")
    sources: list[SourceConfig] = Field(min_length=1, description="where text comes from, read in this order")
    workers: Literal["auto"] | int = Field(default="auto", description="processes; the result does not depend on it")
    max_bad_fraction: float = Field(
        default=0.01, ge=0, le=1, description="unreadable rows beyond this share fail the run"
    )
    repair: RepairSettings | None = Field(default=RepairSettings(), description="mending of characters; null: none")
    language: LanguageSettings | None = Field(default=None, description="languages to keep; null: all")
    rules: list[RuleSet] = Field(
        default=[GopherQuality(), GopherRepetition(), FineWeb()], description="rule sets, applied in this order"
    )
    anonymize: AnonymizeSettings | None = Field(default=None, description="personal data; null: left as it is")
    dedup: DedupSettings = Field(default=DedupSettings(), description="duplicates")
    split: SplitSettings = Field(default=SplitSettings(), description="what is held out for validation")
    output: OutputSettings = Field(default=OutputSettings(), description="how the corpus is stored")

    @field_validator("workers")
    @classmethod
    def _some(cls, workers: str | int) -> str | int:
        if isinstance(workers, int) and not 1 <= workers <= 256:
            raise ValueError("workers is auto or a number from 1 to 256")
        return workers

    @field_validator("sources")
    @classmethod
    def _told_apart(cls, sources: list[SourceConfig]) -> list[SourceConfig]:
        labels = [source.label for source in sources]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"two sources are called {', '.join(twice)}: give each its own name")
        return sources


def preview(config: CleanConfig) -> dict[str, object]:
    """What would be read and written, after a look at the sources; reads and writes nothing."""
    size = _check_places(config)
    writes = [str(Path(config.output_dir) / "corpus")]
    key = _key_path(config)
    if key is not None and not key.exists():
        writes.append(str(key))
    return {"reads": [source.place for source in config.sources], "writes": writes, "bytes": size}


def inputs_fingerprint(config: CleanConfig) -> dict[str, str]:
    """A digest for each source of what would be read."""
    return {source.label: source_fingerprint(source) for source in config.sources}


def run(config: CleanConfig, console: Console) -> dict[str, object]:
    """Makes the corpus and returns the ledger's sums.

    Raises:
        DataError: a source cannot be read, too many rows are unreadable, or no document is left.
        StopRequested: a signal came; nothing was written.
    """
    size = _check_places(config)
    started = time.monotonic()
    with StopSignals() as stop, RunFolder.open(config.output_dir, "clean", config.model_dump(mode="json")) as run:
        settings = _chain_settings(config, console)
        temporary, scratch = run.temporary("corpus"), run.temporary("survivors")
        try:
            with (
                open_survivors(scratch, settings) as survivors,
                CorpusWriter(temporary, config.output.shard_bytes, config.output.format) as writer,
                console.progress("clean", size, "B") as bar,
            ):
                documents = 0

                def progress(done: int, count: int) -> None:
                    nonlocal documents
                    stop.check()
                    documents += count
                    if done:
                        bar.advance(done, f"{documents:,} documents")

                work = CorpusRun(settings, config.split, writer, survivors, Ledger(), progress)
                _make(config, work, console, run)
            _publish(config, work, run, temporary)
            return _answer(work.ledger, run.path / "corpus", time.monotonic() - started, console)
        finally:
            run.discard(scratch)
            run.discard(temporary)


def _make(config: CleanConfig, work: CorpusRun, console: Console, run: RunFolder) -> None:
    bad = _BadRows(config.max_bad_fraction)
    with run.phase("read"):
        work.read(_documents(config, work, bad, console), _workers(config))
    bad.check(work.ledger.read.documents)
    with run.phase("duplicates"):
        work.finish()
    work.ledger.check()
    if not work.ledger.kept.documents:
        raise _nothing_left(work.ledger)


class _BadRows:
    """The rows that could not be read: how many, and the first."""

    def __init__(self, max_fraction: float) -> None:
        self._max_fraction = max_fraction
        self._count = 0
        self._first: BadRow | None = None

    def add(self, row: BadRow) -> None:
        self._count += 1
        self._first = self._first or row

    def check(self, rows: int) -> None:
        if self._first is not None and self._count > self._max_fraction * rows:
            share = (
                f"{self._count:,} of {rows:,} rows are unreadable, more than max_bad_fraction={self._max_fraction:g}"
            )
            what = f"{self._first.reason}; {share}"
            raise DataError(what, self._first.where, "mend or remove the rows, or set text_key or max_bad_fraction")


def _documents(config: CleanConfig, work: CorpusRun, bad: _BadRows, console: Console) -> Iterator[Document]:
    for source in config.sources:

        def refuse(row: BadRow, label: str = source.label) -> None:
            bad.add(row)
            work.refuse(row, label)

        yield from read_source(source, on_bad=refuse, on_note=console.say)


def _publish(config: CleanConfig, work: CorpusRun, run: RunFolder, temporary: Path) -> None:
    ledger = work.ledger.as_json()
    splits = _split_facts(work.writer)
    write_atomic(temporary / "ledger.json", json.dumps({**ledger, "splits": splits}, indent=2) + "\n")
    facts = {"splits": splits, **{key: ledger[key] for key in _SUMS}}
    run.publish(temporary, "corpus", made_from=inputs_fingerprint(config), facts=facts)


def _answer(ledger: Ledger, output: Path, seconds: float, console: Console) -> dict[str, object]:
    console.result(as_text(ledger, str(output), seconds))
    sums = ledger.as_json()
    rate = round(ledger.read.bytes / max(seconds, 1e-9))
    answer = {key: sums[key] for key in _SUMS}
    return {**answer, "output": str(output), "seconds": round(seconds, 3), "bytes_per_second": rate}


def _split_facts(writer: CorpusWriter) -> dict[str, dict[str, int]]:
    return {
        split: {"documents": writer.documents[split], "bytes": writer.text_bytes[split]} for split in writer.documents
    }


def _chain_settings(config: CleanConfig, console: Console) -> ChainSettings:
    key = None
    path = _key_path(config)
    if path is not None:
        key, made = load_key(path)
        if made:
            console.say(f"made the secret key of the pseudonyms: {path} (keep it, and keep it to yourself)")
    return ChainSettings(
        config.repair, config.language, config.rules, config.anonymize, key, config.dedup.exact, config.dedup.near
    )


def _key_path(config: CleanConfig) -> Path | None:
    if config.anonymize is None or config.anonymize.action != "pseudonymize":
        return None
    return key_path(config.anonymize.key_file, Path(config.output_dir))


def _check_places(config: CleanConfig) -> int | None:
    """The sources' bytes on disk, None when not known.

    Raises:
        UsageError: the output lies in a source or a source in the output.
        DataError: there is nothing to read.
    """
    output = Path(config.output_dir).resolve()
    for source in config.sources:
        place = Path(source.place).expanduser().resolve()
        if place.is_relative_to(output) or (place.is_dir() and output.is_relative_to(place)):
            hint = "name another output_dir"
            raise UsageError(f"output_dir {config.output_dir} and this source lie in each other", source.place, hint)
    sizes = [check_source(source).bytes for source in config.sources]
    return sum(size for size in sizes if size is not None) if None not in sizes else None


def _workers(config: CleanConfig) -> int:
    if isinstance(config.workers, int):
        return config.workers
    size = _check_places(config)
    wanted = available_cpus() if size is None else 1 + size // _BYTES_PER_WORKER
    return max(1, min(available_cpus(), wanted))


def _nothing_left(ledger: Ledger) -> DataError:
    reason = ledger.main_reason()
    if reason is None:
        return DataError("there is nothing to clean: the sources hold no document", "sources")
    name, count = reason
    example = ledger.examples[name][0]
    what = f"no document is left: {count.documents:,} of {ledger.read.documents:,} were dropped by {name}"
    way_out = "loosen or remove that rule" if "." in name else "name a source that has text"
    place = "rules" if "." in name else "sources"
    return DataError(what, place, f"{example['id']}, for one, because {example['because']}; {way_out}")
