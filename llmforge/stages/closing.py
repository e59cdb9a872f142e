"""What `pretrain` and `finetune` say alike when they end: how well the machine was used, and whether it memorises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmforge.training.loop_parts import TrainResult


def closing_figures(outcome: TrainResult, folder: Path, epochs: float | None) -> dict[str, object]:
    """`mfu`, `micro_batch_size` and `overfitting` (null when all is well) of a run for its --json object."""
    from llmforge.training.overfitting import judge_run

    found = judge_run(folder, outcome.figures.get("valid_loss"), epochs, restored=outcome.best_step is not None)
    return {
        "mfu": None if outcome.mfu is None else round(outcome.mfu, 4),
        "mfu_formula": outcome.mfu_formula,
        "micro_batch_size": outcome.micro_batch_size,
        "overfitting": None if found is None else found.as_json(),
    }


def closing_lines(result: dict[str, Any]) -> list[str]:
    """The same for a person: a line each, none where there is nothing to say."""
    lines = []
    if result["mfu_formula"] is not None:
        lines.append(result["mfu_formula"])
    if result["overfitting"] is not None:
        lines.append(result["overfitting"]["note"])
    return lines
