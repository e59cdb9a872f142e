"""`llmforge clean`: raw text to a corpus folder, with the reason for every document that is not in it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from llmforge.cleaning.bad_rows import BadRows
from llmforge.cleaning.corpus_run import CorpusRun, Places, open_run
from llmforge.cleaning.dedup.near import NearSettings
from llmforge.cleaning.language import LanguageSettings
from llmforge.cleaning.ledger import Ledger, as_text
from llmforge.cleaning.parts import Entry
from llmforge.cleaning.pii.anonymize import AnonymizeSettings
from llmforge.cleaning.pii.key_file import key_path, load_key
from llmforge.cleaning.pii.vault import write_vault
from llmforge.cleaning.pipeline import ChainSettings
from llmforge.cleaning.repair import RepairSettings
from llmforge.cleaning.rules.fineweb import FineWeb
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
from llmforge.cleaning.rules.rule_sets import RuleSet
from llmforge.cleaning.splits import SplitSettings
from llmforge.cleaning.workers import available_cpus, clean_pieces, plan_pieces
from llmforge.config.schema import Config
from llmforge.corpus.folder import CorpusWriter
from llmforge.corpus.sources import SourceConfig, check_source, source_fingerprint
from llmforge.errors import DataError, UsageError
from llmforge.runtime.console import Bar, Console
from llmforge.runtime.files import disk_errors, write_atomic
from llmforge.runtime.run_folder import RunFolder
from llmforge.runtime.stop import StopSignals

PARTS, VAULT = "parts", "pseudonyms.vault"  # the vault lies outside the corpus, which can be given away without it
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
    keep_parts: bool = Field(
        default=True, description="keep what was measured (parts/), so that other thresholds measure nothing again"
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
    size = input_bytes(config)
    writes = [str(Path(config.output_dir) / "corpus")]
    key = pseudonym_key_path(config)
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
        StopRequested: a signal came; what was measured stays in parts/, and the same command goes on from there.
    """
    size = input_bytes(config)
    started = time.monotonic()
    with StopSignals() as stop, RunFolder.open(config.output_dir, "clean", config.model_dump(mode="json")) as run:
        temporary, scratch = run.temporary("corpus"), run.temporary("survivors")
        places = Places(temporary, scratch, config.output.format, config.output.shard_bytes)
        try:
            with console.progress("clean", size, "B") as bar:
                ledger = _make(config, run, places, bar, _Call(console, stop))
            return _answer(ledger, run.path / "corpus", time.monotonic() - started, console)
        finally:
            run.discard(scratch)
            run.discard(temporary)


def _make(config: CleanConfig, run: RunFolder, places: Places, bar: Bar, call: _Call) -> Ledger:
    settings = chain_settings(config, call.console)
    parts = run.path / PARTS
    with disk_errors(parts):
        parts.mkdir(exist_ok=True)
    bad = BadRows(config.max_bad_fraction)
    used: set[Path] = set()

    def measured() -> Iterator[list[Entry]]:
        documents = 0
        pieces = plan_pieces(config.sources, call.console.say)
        for piece, path, entries in clean_pieces(pieces, settings, parts, _workers(config)):
            used.add(path)
            yield entries
            documents += len(entries)
            bar.advance(piece.bytes, f"{documents:,} documents")

    with open_run(settings, config.split, places, bad.add, call.stop.check) as work:
        with run.phase("read"):
            work.read(measured())
        bad.check(work.ledger.read.documents)
        with run.phase("duplicates"):
            work.finish()
        work.ledger.check()
        if not work.ledger.kept.documents:
            raise _nothing_left(work.ledger)
    _publish(config, work, run, places.corpus)
    _tidy(parts, used if config.keep_parts else set())
    return work.ledger


@dataclass(frozen=True)
class _Call:
    """Who asked, and what stops it."""

    console: Console
    stop: StopSignals


def _tidy(parts: Path, keep: set[Path]) -> None:
    """Removes the parts that are not to be kept, with what killed runs left."""
    for path in parts.iterdir():
        if path not in keep:
            path.unlink(missing_ok=True)
    if not keep:
        parts.rmdir()


def _publish(config: CleanConfig, work: CorpusRun, run: RunFolder, temporary: Path) -> None:
    ledger = {**work.ledger.as_json(), "splits": _split_facts(work.writer)}
    write_atomic(temporary / "ledger.json", json.dumps(ledger, indent=2) + "\n")
    if config.anonymize is not None and config.anonymize.action == "pseudonymize" and config.anonymize.reversible:
        write_vault(run.path / VAULT, work.sealed)
    write_atomic(run.path / "report.html", _page(config, ledger, temporary))
    facts = {key: ledger[key] for key in ("splits", *_SUMS)}
    run.publish(temporary, "corpus", made_from=inputs_fingerprint(config), facts=facts)


def _page(config: CleanConfig, ledger: dict[str, object], corpus: Path) -> str:
    from llmforge.cleaning.page import ledger_page
    from llmforge.cleaning.signal_store import SignalStore
    from llmforge.cleaning.sweep import Sweep

    return ledger_page(f"llmforge clean: {config.output_dir}", ledger, Sweep(SignalStore(corpus), config.rules))


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


def chain_settings(config: CleanConfig, console: Console, make_key: bool = True) -> ChainSettings:
    """What the workers need; makes the secret key of the pseudonyms on first use, or takes one for once."""
    key = None
    path = pseudonym_key_path(config)
    if path is not None and (make_key or path.exists()):
        key, made = load_key(path)
        if made:
            console.say(f"made the secret key of the pseudonyms: {path} (keep it, and keep it to yourself)")
    elif path is not None:
        key = secrets.token_bytes(32)
    return ChainSettings(
        config.repair, config.language, config.rules, config.anonymize, key, config.dedup.exact, config.dedup.near
    )


def pseudonym_key_path(config: CleanConfig) -> Path | None:
    """Where the secret of the pseudonyms is kept; None when none is needed."""
    if config.anonymize is None or config.anonymize.action != "pseudonymize":
        return None
    return key_path(config.anonymize.key_file, Path(config.output_dir))


def input_bytes(config: CleanConfig) -> int | None:
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
    size = input_bytes(config)
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
