"""`llmforge clean`: raw text to a corpus folder, with the reason for every document that is not in it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmforge.cleaning.bad_rows import BadRows, unreadable_lines
from llmforge.cleaning.corpus_run import Arrived, CorpusRun, Places, open_run
from llmforge.cleaning.ledger import Ledger, as_text
from llmforge.cleaning.pieces import PARTS, Stretch, plan_stretches
from llmforge.cleaning.pii.key_file import name_of_key
from llmforge.cleaning.pii.vault import write_vault
from llmforge.cleaning.preparation import (
    chain_settings,
    check_inputs,
    inputs_fingerprint,
    num_workers,
    pseudonym_key_path,
    require_key,
)
from llmforge.cleaning.settings import CleanConfig
from llmforge.cleaning.workers import Workers, make_parts
from llmforge.corpus.folder import CorpusWriter
from llmforge.corpus.rows import is_built_in
from llmforge.errors import DataError, StopRequested
from llmforge.runtime.console import Bar, Console
from llmforge.runtime.files import disk_errors, write_atomic
from llmforge.runtime.malloc import keep_freed_memory
from llmforge.runtime.run_folder import RunFolder
from llmforge.runtime.stop import StopSignals
from llmforge.stages.clean_classifier import trained
from llmforge.stages.clean_shards import scale_out

VAULT = "pseudonyms.vault"  # the vault lies outside the corpus, which can be given away without it
_SUMS = ("input", "kept", "dropped", "changed")


def preview(config: CleanConfig) -> dict[str, object]:
    """What would be read and written, after a look at the sources; reads and writes nothing."""
    size = check_inputs(config)
    if config.scale is not None:
        require_key(config)
    keep_freed_memory()
    writes = [str(Path(config.output_dir) / "corpus")]
    key = pseudonym_key_path(config)
    if key is not None and not key.exists():
        writes.append(str(key))
    return {"reads": [source.place for source in config.sources], "writes": writes, "bytes": size}


def run(config: CleanConfig, console: Console, merge: bool = False) -> dict[str, object]:
    """Makes the corpus and returns the ledger's sums; with `merge` only of parts that shards have made.

    Raises:
        DataError: a source cannot be read, too many rows are unreadable, or no document is left.
        UsageError: parts are made by several machines, and there is no key of the pseudonyms.
        StopRequested: a signal came; what was measured stays in parts/, and the same command goes on from there.
    """
    size = check_inputs(config)
    if merge or config.scale is not None:
        require_key(config)
    if config.anonymize is None and not all(source.path and is_built_in(source.path) for source in config.sources):
        console.say("personal data stays as it is: `anonymize` is off (anonymize={} gives it stand-ins)")
    started = time.monotonic()
    with StopSignals() as stop, RunFolder.open(config.output_dir, "clean", config.model_dump(mode="json")) as run:
        temporary, scratch = run.temporary("corpus"), run.temporary("survivors")
        workers = num_workers(config, size)
        places = Places(temporary, scratch, **config.output.model_dump(), aside=workers > 1)
        try:
            with console.progress("clean", size, "B") as bar:
                ledger = _make(config, run, places, bar, _Call(console, stop, merge, workers))
            return _answer(ledger, run.path, time.monotonic() - started, console)
        finally:
            run.discard(scratch)
            run.discard(temporary)


def _make(config: CleanConfig, run: RunFolder, places: Places, bar: Bar, call: _Call) -> Ledger:
    classify = trained(config.classify, run, call.console, call.stop.check)
    settings = chain_settings(config, classify, call.console.say)
    merge = call.merge
    if config.scale is not None and not merge:
        with run.phase("shards"):
            merge = scale_out(config, classify, run.path)
        if not merge:
            raise StopRequested(f"Slurm has taken the {config.scale.shards} shards; when they are done, add --merge")
    parts = run.path / PARTS
    with disk_errors(parts):
        parts.mkdir(exist_ok=True)
    bad = BadRows(config.max_bad_fraction)
    used: set[Path] = set()
    stretches = plan_stretches(config.sources, settings.measured(), parts, call.console.say)

    def measured() -> Iterator[Arrived]:
        documents = 0
        for part in make_parts(_noted(stretches, used, merge, settings.key), workers):
            used.add(part.path)
            entries = part.entries()
            yield part.source, part.path, entries
            documents += len(entries)
            bar.advance(part.bytes, f"{documents:,} documents")

    with (
        Workers(settings, call.workers, config.keep_parts) as workers,
        open_run(settings, config.split, places, bad.add, call.stop.check) as work,
    ):
        with run.phase("read"):
            work.read(measured(), call.console.say)
        bad.check(work.ledger.read.documents)
        with run.phase("duplicates"):
            note = work.finish(workers.runs_of)
        work.ledger.check()
        if not work.ledger.kept.documents:
            raise _nothing_left(work.ledger)
    if note is not None:
        call.console.warn(note)
        run.log(note)
    _publish(config, work, run, places.corpus)
    _tidy(parts, used if config.keep_parts else set())
    return work.ledger


@dataclass(frozen=True)
class _Call:
    """Who asked, and what stops it."""

    console: Console
    stop: StopSignals
    merge: bool  # only of parts that other processes made
    workers: int


def _noted(stretches: Iterable[Stretch], used: set[Path], merge: bool, key: bytes | None) -> Iterator[Stretch]:
    """The stretches, their records put down as used; with `merge` all must be finished."""
    missing = count = 0
    for stretch in stretches:
        used.add(stretch.record)
        count += 1
        if not merge:
            yield stretch
        elif stretch.finished() is None:
            missing += 1
        elif not missing:
            yield stretch
    if missing:
        what = f"{missing:,} of {count:,} stretches of the input have no finished parts"
        hint = "run the shards that are missing (--shard I/N), or clean without --merge"
        if key is not None:
            hint += f"; shards by another key of the pseudonyms than {name_of_key(key)} do not fit (each says which)"
        raise DataError(what, PARTS, hint)


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
    if config.decontaminate is not None:
        write_atomic(temporary / "contamination.json", json.dumps(work.contamination(), indent=2) + "\n")
    facts = {key: ledger[key] for key in ("splits", *_SUMS)}
    run.publish(temporary, "corpus", made_from=inputs_fingerprint(config), facts=facts)


def _page(config: CleanConfig, ledger: dict[str, object], corpus: Path) -> str:
    from llmforge.cleaning.page import ledger_page
    from llmforge.cleaning.signal_store import SignalStore
    from llmforge.cleaning.sweep import Sweep

    return ledger_page(f"llmforge clean: {config.output_dir}", ledger, Sweep(SignalStore(corpus), config.rules))


def _answer(ledger: Ledger, folder: Path, seconds: float, console: Console) -> dict[str, object]:
    output = folder / "corpus"
    text = as_text(ledger, str(output), seconds)
    console.result("\n".join([text, *unreadable_lines(ledger), f"why, rule by rule: {folder / 'report.html'}"]))
    sums = ledger.as_json()
    rate = round(ledger.read.bytes / max(seconds, 1e-9))
    answer = {key: sums[key] for key in _SUMS}
    return {**answer, "output": str(output), "seconds": round(seconds, 3), "bytes_per_second": rate}


def _split_facts(writer: CorpusWriter) -> dict[str, dict[str, int]]:
    return {
        split: {"documents": writer.documents[split], "bytes": writer.text_bytes[split]} for split in writer.documents
    }


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
