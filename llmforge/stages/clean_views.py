"""What `llmforge clean` is asked: to make a corpus, or one document's story, other thresholds, a try on a sample.

Story and thresholds read a finished run, a try writes nothing.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from llmforge.cleaning.bad_rows import BadRows, unreadable_lines
from llmforge.cleaning.corpus_run import Arrived, Places, open_run
from llmforge.cleaning.ledger import Ledger, as_text
from llmforge.cleaning.parts import read_part
from llmforge.cleaning.pieces import Piece, Stretch, plan_stretches
from llmforge.cleaning.pii.key_file import load_key
from llmforge.cleaning.pii.vault import Vault
from llmforge.cleaning.preparation import chain_settings, check_inputs, pseudonym_key_path
from llmforge.cleaning.rules.rule_sets import RuleSet
from llmforge.cleaning.settings import CleanConfig
from llmforge.cleaning.signal_store import SignalStore
from llmforge.cleaning.story import as_lines, story
from llmforge.cleaning.sweep import Sweep, parse_sweeps
from llmforge.cleaning.workers import PieceCleaner
from llmforge.corpus.files import find_files
from llmforge.corpus.rows import is_built_in
from llmforge.corpus.units import SKIPPED, counted
from llmforge.errors import DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import read_manifest
from llmforge.runtime.run_folder import RunFolder
from llmforge.runtime.stop import StopSignals
from llmforge.stages.clean import VAULT, run
from llmforge.stages.clean_classifier import trained
from llmforge.stages.clean_shards import make_shard

_BYTES_PER_DOCUMENT = 8192  # a guess, to spread the sample over the input


def answer(
    config: CleanConfig,
    console: Console,
    why: str | None = None,
    sweep: Sequence[str] = (),
    sample: int | None = None,
    reveal: str | None = None,
    shard: str | None = None,
    merge: bool = False,
) -> dict[str, object]:
    """What the flags ask for; without any, the corpus is made.

    Raises:
        UsageError: they ask for more than one thing.
    """
    asked = {"--shard": shard, "--reveal": reveal, "--why": why, "--sweep": sweep, "--sample": sample, "--merge": merge}
    given = [name for name, value in asked.items() if value is not None and value not in ((), False)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} ask for different things", given[1], "give one of them at a time")
    if shard is not None:
        return make_shard(config, *_shard(shard), console)
    if reveal is not None:
        return put_back(config, reveal, console)
    if why is not None:
        return tell_story(config, why, console)
    if sweep:
        return show_sweep(config, sweep, console)
    return run(config, console, merge) if sample is None else try_sample(config, sample, console)


def _shard(text: str) -> tuple[int, int]:
    """`2/4` -> (1, 4): the place from 0, and how many there are."""
    place, _, count = text.partition("/")
    if not (place.isdecimal() and count.isdecimal() and 1 <= int(place) <= int(count) <= 100_000):
        raise UsageError("a shard is I/N, with I from 1 to N", text, "as in --shard 2/4")
    return int(place) - 1, int(count)


def tell_story(config: CleanConfig, identity: str, console: Console) -> dict[str, object]:
    """Prints what became of a document and why; the same as an object."""
    corpus = _corpus(config)
    told = story(corpus, identity, _rules_of(corpus, config, console))
    console.result("\n".join(as_lines(told)))
    return told


def show_sweep(config: CleanConfig, wanted: Sequence[str], console: Console) -> dict[str, object]:
    """Prints what the rules would drop at other thresholds (`RULE.THRESHOLD=VALUE,VALUE`)."""
    from llmforge.report.page import number
    from llmforge.report.table import table

    sweeps = parse_sweeps(wanted)
    corpus = _corpus(config)
    sweep = Sweep(SignalStore(corpus), _rules_of(corpus, config, console))
    rows = [row for name, values in sweeps.items() for row in sweep.at(name, values)]
    lines = [
        [
            row.threshold,
            number(row.value) + (" (in use)" if row.in_use else ""),
            f"{row.failing:,}",
            f"{row.failing_only_this:,}",
            f"{row.kept:,}",
            f"{row.kept_bytes / 1e6:,.2f}",
        ]
        for row in rows
    ]
    header = ["threshold", "value", "fail it", "fail only it", "kept by the rules", "MB kept"]
    console.result("\n".join(table(lines, header, right=(2, 3, 4, 5))))
    return {"sweep": [row.as_json() for row in rows]}


def put_back(config: CleanConfig, text: str, console: Console) -> dict[str, object]:
    """Prints a text with the originals of its stand-ins; `-` reads it from stdin.

    Raises:
        UsageError: the config keeps no originals, or the key file is not there.
        DataError: the key is not the one that the corpus was made with.
    """
    path, vault = pseudonym_key_path(config), Path(config.output_dir) / VAULT
    if path is None or not vault.is_file():
        hint = "originals are kept by anonymize: {action: pseudonymize, reversible: true}"
        raise UsageError("no originals are kept with this run", vault, hint)
    if not path.is_file():
        raise UsageError("the key of the pseudonyms is not here", path, "name it in anonymize.key_file")
    given = sys.stdin.read() if text == "-" else text
    found = Vault(vault, load_key(path)[0]).reveal(given)
    if not console.json:
        sys.stdout.write(found if found.endswith("\n") else f"{found}\n")
    return {"text": found}


def try_sample(config: CleanConfig, count: int, console: Console) -> dict[str, object]:
    """What would become of about `count` documents spread over the input; writes nothing that stays.

    Duplicates are looked for within the sample only. `would_fail` tells why a run of it would fail, if it would, and
    `skipped` which files are passed over.
    """
    started = time.monotonic()
    stride = max(1, (check_inputs(config) or 0) // max(1, count * _BYTES_PER_DOCUMENT))
    bad, notes = BadRows(config.max_bad_fraction), _skipped(config)
    with StopSignals() as stop, tempfile.TemporaryDirectory(prefix="llmforge-sample-") as name:
        folders = [Path(name) / kind for kind in ("corpus", "scratch", "parts")]
        for folder in folders:
            folder.mkdir()
        with RunFolder.open(Path(name) / "run", "clean", config.model_dump(mode="json")) as run_folder:
            classify = trained(config.classify, run_folder, console, stop.check)
        settings = chain_settings(config, classify, console.say, make_key=False)
        places = Places(folders[0], folders[1], **config.output.model_dump())
        stretches = plan_stretches(config.sources, settings.measured(), folders[2], notes.append)
        pieces = islice(_singly(stretches), 0, None, stride)
        with open_run(settings, config.split, places, bad.add, stop.check) as work:
            work.read(_first(count, pieces, PieceCleaner(settings, pack=False)), notes.append)
            work.finish()
        ledger = work.ledger
    ledger.check()
    fault, skipped = bad.fault(ledger.read.documents), list(dict.fromkeys(notes))
    page = as_text(ledger, "a sample; nothing was written", time.monotonic() - started)
    console.result("\n".join([page, *_warnings(ledger, fault, skipped)]))
    would_fail = None if fault is None else str(fault)
    return {**ledger.as_json(), "sample": ledger.read.documents, "would_fail": would_fail, "skipped": skipped}


def _skipped(config: CleanConfig) -> list[str]:
    """Notes on the files of all sources that are passed over, whether the sample comes to them or not."""
    paths = [source for source in config.sources if source.path is not None and not is_built_in(source.path)]
    found = [(source, find_files(source.place, source.format).skipped) for source in paths]
    return [counted(source, SKIPPED, skipped) for source, skipped in found if skipped]


def _warnings(ledger: Ledger, fault: DataError | None, skipped: Sequence[str]) -> list[str]:
    """What a person should mend before the run."""
    lines = [*unreadable_lines(ledger), *(f"note: {note}" for note in skipped)]
    if fault is not None:
        lines.append(f"a run of this would fail: {fault}")
    return lines


def _singly(stretches: Iterable[Stretch]) -> Iterator[Piece]:
    """A piece for each unit, so that a sample is spread over the input."""
    for stretch in stretches:
        for unit in stretch.slot.units:
            yield stretch.piece([unit])


def _first(count: int, pieces: Iterator[Piece], cleaner: PieceCleaner) -> Iterator[Arrived]:
    for piece in pieces:
        cleaner.make(piece)
        entries = (read_part(piece.path) or [])[:count]
        yield piece.source, piece.path, entries
        count -= len(entries)
        if count <= 0:
            return


def _corpus(config: CleanConfig) -> Path:
    corpus = Path(config.output_dir) / "corpus"
    if not corpus.is_dir():
        raise UsageError("there is no corpus of this config yet", corpus, "run llmforge clean with it first")
    return corpus


def _rules_of(corpus: Path, config: CleanConfig, console: Console) -> Sequence[RuleSet]:
    """The rules that the corpus was made with, which its verdicts follow from; says so when the config has others."""
    try:
        made = CleanConfig.model_validate(read_manifest(corpus, "corpus").config)
    except ValidationError:
        console.say("the corpus is of another version of llmforge: the thresholds shown are this config's, not its own")
        return config.rules
    if made.rules != config.rules:
        console.say("the thresholds shown are those that the corpus was made with; this config has other rules")
    return made.rules
