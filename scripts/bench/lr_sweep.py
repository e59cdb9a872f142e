"""Whether one learning rate serves every width: short runs over widths and rates, and the best rate of each width.

    python scripts/bench/lr_sweep.py --tokens DIR [--optimizer muon,adamw] [--widths 128,256,384,512] [--steps 150]
                                     [--rates 0.02,0.04,0.08] [--depth 4] [--seeds 1] [--json FILE]

DIR is a tokens folder, or the run folder of `tokenize`. Each run is the trainer's own model, optimizer, schedule (WSD
over the whole of the short run) and batches; the batches and the first weights are those of the seed, the same for
every rate. What is shown is the mean training loss of the last fifth of the steps. With AdamW the rates are multiplied
with 256 / width, as `lr: auto` does: a column with one best row says that the rule holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

ROWS, LENGTH, HEAD = 16, 128, 64
RATES = {"muon": (0.01, 0.02, 0.04, 0.08, 0.16), "adamw": (1e-3, 2e-3, 4e-3, 8e-3)}
_SHOWN = 0.2  # of the steps, at the end


@dataclass(frozen=True)
class Cell:
    """One run."""

    optimizer: str
    width: int
    rate: float
    depth: int
    steps: int
    seed: int


def train(cell: Cell, split: Any, vocabulary: int) -> float:
    """The mean training loss of the last steps."""
    import torch

    from llmforge.model.config import ModelSettings
    from llmforge.model.init import initialize, parameter_roles
    from llmforge.model.transformer import Transformer
    from llmforge.runtime.device import choose_dtype
    from llmforge.runtime.malloc import keep_freed_memory
    from llmforge.tokens.loader import WindowBatches
    from llmforge.tokens.run_rows import RunSource
    from llmforge.training import schedule
    from llmforge.training.objective import CausalLMObjective
    from llmforge.training.optimizer import Optimizer
    from llmforge.training.recipe import ADAMW_WIDTH
    from llmforge.training.settings import OptimizerSettings, SchedulerSettings

    keep_freed_memory()
    shape = ModelSettings(hidden_size=cell.width, num_hidden_layers=cell.depth, head_dim=HEAD).resolve(
        vocabulary, LENGTH
    )
    model = Transformer(shape, choose_dtype("auto", torch.device("cpu"))[0])
    initialize(model, cell.seed)
    batches = WindowBatches([RunSource(split)], LENGTH, ROWS, cell.seed)
    scaled = cell.rate if cell.optimizer == "muon" else cell.rate * ADAMW_WIDTH / cell.width
    settings = OptimizerSettings.model_validate({"name": cell.optimizer, "lr": scaled})
    objective, optimizer = CausalLMObjective(model), Optimizer(model, parameter_roles(model), settings)
    plan, finite, losses = SchedulerSettings(), torch.tensor(True), []
    start = schedule.decay_start(plan, cell.steps)
    for step in range(cell.steps):
        batch = batches(step)
        loss = objective(batch)
        (loss / batch.num_trained).backward()
        optimizer.step(schedule.factor(plan, step, start, cell.steps), finite)
        optimizer.zero_grad()
        losses.append(loss.item() / batch.num_trained)
    return statistics.fmean(losses[-max(1, round(_SHOWN * cell.steps)) :])


def table(found: dict[Cell, float], optimizer: str, widths: list[int], rates: list[float]) -> list[str]:
    """Lines of Markdown: a row a rate, a column a width, the best of each column marked."""

    def mean(width: int, rate: float) -> float:
        cells = [
            loss for cell, loss in found.items() if (cell.optimizer, cell.width, cell.rate) == (optimizer, width, rate)
        ]
        return statistics.fmean(cells)

    best = {width: min(mean(width, rate) for rate in rates) for width in widths}
    name = "rate" if optimizer == "muon" else "rate x width / 256"
    lines = [f"| {optimizer}, {name} | " + " | ".join(f"width {width}" for width in widths) + " |"]
    lines.append("|---" * (len(widths) + 1) + "|")
    for rate in rates:
        values = [mean(width, rate) for width in widths]
        shown = [f"**{v:.3f}**" if v == best[w] else f"{v:.3f}" for v, w in zip(values, widths, strict=True)]
        lines.append(f"| {rate:g} | " + " | ".join(shown) + " |")
    return lines


def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    return [float(part) for part in text.split(",")]


def main() -> None:
    """Reads the options, runs every cell, and prints a table for each optimizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", required=True, help="a tokens folder, or the run folder of `tokenize`")
    parser.add_argument("--optimizer", default="muon,adamw")
    parser.add_argument("--widths", default="128,256,384,512", help="multiples of 64")
    parser.add_argument("--rates", type=numbers, help="the same for every optimizer; else each one's own")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1, help="runs a cell, whose mean is shown")
    parser.add_argument("--json", help="a file for the same numbers")
    arguments = parser.parse_args()
    from llmforge.tokens.folder import TokenFolder

    folder = TokenFolder.open(arguments.tokens)
    widths = [int(width) for width in numbers(arguments.widths)]
    found: dict[Cell, float] = {}
    for optimizer in arguments.optimizer.split(","):
        rates = arguments.rates or list(RATES[optimizer])
        for width in widths:
            for rate in rates:
                for seed in range(arguments.seeds):
                    cell = Cell(optimizer, width, rate, arguments.depth, arguments.steps, seed)
                    found[cell] = train(cell, folder.split("train"), folder.vocab_size)
                    print(f"{optimizer}, width {width}, {rate:g}: {found[cell]:.4f}", file=sys.stderr, flush=True)
        print("\n".join(table(found, optimizer, widths, rates)), flush=True)
        if arguments.json:
            rows = [{**vars(cell), "loss": loss} for cell, loss in found.items()]
            Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
