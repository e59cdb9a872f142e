"""What `pretrain` and `finetune` say alike when they end: how fast it was, how well the machine was used, and whether
it memorises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmforge.training.loop_parts import TrainResult


def closing_figures(outcome: TrainResult, folder: Path, epochs: float | None) -> dict[str, object]:
    """`new_steps` (of this call), `tokens_per_second`, `mfu`, `micro_batch_size` and `overfitting` (null when all is
    well) for the --json object.

    When the run was at its end already and no step was made, its rates are those that it measured then.
    """
    from llmforge.training.metric_lines import metric_lines, steady_figure
    from llmforge.training.overfitting import judge_run

    rate, share = outcome.tokens_per_second, outcome.mfu
    if rate is None:
        lines = metric_lines(folder)
        rate, share = steady_figure(lines, "tokens_per_second"), steady_figure(lines, "mfu")
    found = judge_run(folder, outcome.figures.get("valid_loss"), epochs, restored=outcome.best_step is not None)
    return {
        "new_steps": outcome.new_steps,
        "tokens_per_second": rate,
        "mfu": None if share is None else round(share, 4),
        "mfu_formula": outcome.mfu_formula,
        "micro_batch_size": outcome.micro_batch_size,
        "overfitting": None if found is None else found.as_json(),
    }


def opening_lines(result: dict[str, Any]) -> list[str]:
    """What stands above the rest for a person: that the run was over before, when it was."""
    if result["new_steps"]:
        return []
    return ["already finished: no step was left to make; what follows is of the run as it was, published again"]


def closing_lines(result: dict[str, Any]) -> list[str]:
    """The same for a person: a line each, none where there is nothing to say."""
    lines = []
    if result["mfu_formula"] is not None:
        lines.append(result["mfu_formula"])
    if result["overfitting"] is not None:
        lines.append(result["overfitting"]["note"])
    return lines
