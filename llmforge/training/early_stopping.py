"""When a run should end because it no longer learns, and the way back to its best weights.

Knows no file: the best weights are kept in memory and go into every saved state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from llmforge.training.optimizer import trainable
from llmforge.training.settings import EarlyStopping
from llmforge.training.shares import like
from llmforge.training.state import Progress


def judge(progress: Progress, settings: EarlyStopping, valid_loss: float) -> bool:
    """Counts a validation; True when it is the best so far. Sets `stopped_early` when patience is over.

    A loss that is not a number is never better, not even than none.
    """
    best = progress.best_loss
    if math.isfinite(valid_loss) and (best is None or valid_loss < best - settings.min_delta):
        progress.best_loss, progress.best_step, progress.waited = valid_loss, progress.step, 0
        return True
    progress.waited += 1
    progress.stopped_early = progress.waited >= settings.patience
    return False


@torch.no_grad()
def put_back(model: nn.Module, best: Mapping[str, Tensor]) -> None:
    """Gives every trained parameter its value in `best`."""
    for name, parameter in trainable(model).items():
        parameter.copy_(like(best[name], parameter))
