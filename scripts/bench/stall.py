"""How long a save holds the training up: a real `llmforge pretrain` of about 100M weights, its states saved behind it.

    python scripts/bench/stall.py [--layers 12] [--width 768] [--rows 8] [--length 512] [--steps 16] [--every 5]
                                  [--json FILE]

The command itself, uncompiled, with random tokens. Three figures: the seconds that the training thread spends in a save
(what a step is stalled by), the seconds of a step while a state is written behind it, and of a step with none. On a CPU
the writer needs cores that the training would have, so a step beside it takes longer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import pretrain_ours as ours  # noqa: E402
from bench_machine import machine  # noqa: E402
from pretrain_shapes import Shape  # noqa: E402

VOCABULARY = 16_384


class Watch:
    """Seconds of every step and of every save in it, and whether a state was being written at its end."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.saves: dict[int, float] = {}
        self.writing: list[bool] = []
        self._last: float | None = None

    def attach(self) -> None:
        """Puts itself around the trainer's step and save."""
        from llmforge.training.trainer import Trainer

        begin, save = Trainer._next_batch, Trainer._save

        def step_begins(trainer: Trainer) -> Any:
            now = time.monotonic()
            if self._last is not None:
                self.steps.append(now - self._last)
                thread = trainer._states._writer._thread
                self.writing.append(thread is not None and thread.is_alive())
            self._last = now
            return begin(trainer)

        def saved(trainer: Trainer, again: bool = False) -> None:
            start = time.monotonic()
            save(trainer, again)
            self.saves[trainer.progress.step] = time.monotonic() - start

        Trainer._next_batch, Trainer._save = step_begins, saved  # type: ignore[method-assign]


def measured(shape: Shape, steps: int, every: int, folder: Path) -> dict[str, Any]:
    """Runs the command and sorts its steps: the first two, and those with a save in them, are apart."""
    tokens = ours.make_tokens(folder / "made", shape)
    config = ours.settings(shape, tokens, folder / "run", "adamw", steps)
    config["train"] |= {"save_every": every, "keep_last": 1, "compile": False, "eval_every": None, "log_every": 1}
    (folder / "config.json").write_text(json.dumps(config))
    watch = Watch()
    watch.attach()
    told = ours.told_by(str(folder / "config.json"))
    stored = sum(path.stat().st_size for path in (folder / "run" / "checkpoints").glob("step-*/*"))
    plain, beside = [], []
    for step, seconds in enumerate(watch.steps, start=1):
        if step > 2 and step not in watch.saves:
            (beside if watch.writing[step - 2] else plain).append(seconds)
    inside = [seconds for step, seconds in watch.saves.items() if step < steps]
    step = statistics.median(plain)
    return {
        "parameters": told["parameters"],
        "state_bytes": stored,
        "step_seconds": round(step, 3),
        "save_seconds": [round(seconds, 3) for seconds in inside],
        "stall_of_a_step": round(statistics.median(inside) / step, 4),
        "stall_of_an_interval": round(statistics.median(inside) / step / every, 4),
        "step_seconds_while_writing": [round(seconds, 3) for seconds in beside],
        "tokens_per_step": shape.tokens,
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("layers", 12), ("width", 768), ("rows", 8), ("length", 512), ("steps", 16), ("every", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", type=Path, help="a file for the same numbers")
    asked = parser.parse_args()
    heads = max(1, asked.width // 64)
    mlp = round(asked.width * 8 / 3 / 64) * 64
    shape = Shape(asked.layers, asked.width, heads, asked.length, asked.rows, VOCABULARY, mlp)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(shape, asked.steps, asked.every, Path(folder))
    facts = machine()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    for key, value in found.items():
        print(f"{key}: {value}")
    if asked.json:
        asked.json.write_text(json.dumps({"machine": facts, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
