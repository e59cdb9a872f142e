"""The fault matrix: breaks llmforge on purpose in 13 ways and compares what comes out bit for bit.

    python scripts/chaos.py                 about ten minutes: every fault, few times
    python scripts/chaos.py --tenth         about an hour: a tenth of the counts
    python scripts/chaos.py --full          all of it: 200 kills, 1,000 flipped bits, every boundary of a save, ...
    python scripts/chaos.py --only F4,F6 --json chaos.json

Prints a table (fault, tried, survived, note) and every failure in words; exit code 0 when all was survived, 5 when not.
A run that failed stays in the temporary folder that is named at the end.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

# One thread in every process: children are forked, and threads are not.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A shell that runs this in the background has these ignored, which the runs that are sent them would inherit.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

import chaos_damage  # noqa: E402
import chaos_disk  # noqa: E402
import chaos_kills  # noqa: E402
import chaos_signals  # noqa: E402
from chaos_lab import ROOT, Budget, Lab, Outcome  # noqa: E402

# Each with its share of a budget in minutes.
CASES: dict[str, tuple[float, Sequence[Callable[[Lab, Budget], Outcome]]]] = {
    "F1": (0.15, [chaos_kills.random_kills]),
    "F2": (0.12, [chaos_kills.rank_kills]),
    "F3": (0.06, [chaos_kills.elastic]),
    "F4": (0.10, [chaos_kills.save_boundaries]),
    "F5": (0.15, [chaos_disk.disk]),
    "F6": (0.12, [chaos_damage.damage, chaos_damage.damaged_resume]),
    "F7": (0.12, [chaos_signals.signals]),
    "F8": (0.05, [chaos_signals.stopped_rank]),
    "F9": (0.05, [chaos_signals.not_finite]),
    "F10": (0.03, [chaos_signals.owners]),
    "F11": (0.03, [chaos_damage.changed_config]),
    "F12": (0.03, [chaos_damage.changed_data]),
    "F13": (0.10, [chaos_kills.goodput]),
}
SUBSET, TENTH, FULL = 0.015, 0.1, 1.0
NOT_SURVIVED = 5
# What a command loads when it needs it: loaded once here, the children have it.
PRELOADED = (
    "torch numpy pydantic yaml sentencepiece tokenizers safetensors.torch zstandard orjson "
    "torch.utils.deterministic torch.nn.attention "
    "llmforge.cli llmforge.stages.run llmforge.stages.clean_views llmforge.stages.tokenizer "
    "llmforge.stages.tokenize llmforge.stages.pretrain llmforge.stages.pretrain_data llmforge.training.trainer "
    "llmforge.training.assemble llmforge.training.validation llmforge.training.objective llmforge.inference.generate "
    "llmforge.checkpoint.model_folder llmforge.checkpoint.train_state llmforge.tokens.loader llmforge.tokens.write "
    "llmforge.tokenizer.tokenizer llmforge.tokenizer.train llmforge.tokenizer.sentencepiece_backend"
).split()


def main() -> int:
    """Runs what was asked for; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--minutes", type=float, default=None, help="a subset within about this time (default: 10)")
    size.add_argument("--tenth", action="store_true", help="a tenth of the counts")
    size.add_argument("--full", action="store_true", help="all counts")
    parser.add_argument("--only", default=None, metavar="F1,F6", help="these faults only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    asked = parser.parse_args()
    chosen = list(CASES) if asked.only is None else [name.strip().upper() for name in asked.only.split(",")]
    if unknown := sorted(set(chosen) - set(CASES)):
        parser.error(f"no such fault: {', '.join(unknown)}")
    minutes = None if asked.tenth or asked.full else asked.minutes or 10.0
    scale = FULL if asked.full else TENTH if asked.tenth else SUBSET * (minutes or 10.0) / 10
    outcomes, seconds, place = run(chosen, scale, minutes, asked.seed)
    report(outcomes, seconds, asked.json, scale)
    if all(outcome.tried == outcome.survived for outcome in outcomes):
        shutil.rmtree(place, ignore_errors=True)
        return 0
    print(f"\nwhat failed lies in {place}")
    return NOT_SURVIVED


def run(chosen: Sequence[str], scale: float, minutes: float | None, seed: int) -> tuple[list[Outcome], float, Path]:
    """The outcomes of the chosen faults; with `minutes` each has its share of them, beginning with two tries."""
    began = time.monotonic()
    preload()
    place = Path(tempfile.mkdtemp(prefix="llmforge-chaos-"))
    outcomes = []
    shares = sum(CASES[name][0] for name in chosen)
    lab = Lab(place, random.Random(seed))
    for name in chosen:
        share, functions = CASES[name]
        for function in functions:
            lab.rng = random.Random(f"{seed} {function.__name__}")  # the same faults whichever others were chosen
            start = time.monotonic()
            end = start + (1e9 if minutes is None else 60 * minutes * share / shares / len(functions))
            outcome = guarded(function, lab, Budget(scale, end))
            outcome.seconds = time.monotonic() - start
            outcomes.append(outcome)
            print(line(outcome), file=sys.stderr, flush=True)
    return outcomes, time.monotonic() - began, place


def guarded(function: Callable[[Lab, Budget], Outcome], lab: Lab, budget: Budget) -> Outcome:
    """An experiment that breaks down itself counts as not survived."""
    Outcome.begun.clear()
    try:
        return function(lab, budget)
    except Exception as error:
        traceback.print_exc()
        outcome = Outcome.begun[-1] if Outcome.begun else Outcome(function.__name__, "the experiment itself")
        outcome.check(False, f"the experiment itself: {type(error).__name__}: {error}")
        return outcome


def preload() -> None:
    """Imports what the children need; one that is not there any more costs time only."""
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"not preloaded: {error}", file=sys.stderr)


def line(outcome: Outcome) -> str:
    """A row of the table."""
    verdict = "all" if outcome.tried == outcome.survived else f"{outcome.survived:,}"
    note = "; ".join(outcome.notes)
    return f"{outcome.fault:<4} {outcome.tried:>6,} {verdict:>9} {outcome.seconds:>6.0f} s  {outcome.what}: {note}"


def report(outcomes: Sequence[Outcome], seconds: float, path: Path | None, scale: float) -> None:
    """The table, every failure, and the same as JSON."""
    print(f"{'':<4} {'tried':>6} {'survived':>9} {'time':>8}  fault: note")
    for outcome in outcomes:
        print(line(outcome))
    failures = [(outcome.fault, text) for outcome in outcomes for text in outcome.failures]
    for fault, text in failures:
        print(f"FAILED {fault}: {text}")
    tried, survived = sum(o.tried for o in outcomes), sum(o.survived for o in outcomes)
    print(f"{survived:,} of {tried:,} survived in {seconds / 60:.1f} minutes")
    if path is not None:
        body = {
            "scale": scale,
            "seconds": round(seconds, 1),
            "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
            "faults": [vars(outcome) for outcome in outcomes],
        }
        path.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    assert (ROOT / "llmforge").is_dir()
    sys.exit(main())
