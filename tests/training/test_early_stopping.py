"""Which validation counts as the best, and when patience is over."""

from __future__ import annotations

import math

from llmforge.training.early_stopping import judge
from llmforge.training.settings import EarlyStopping
from llmforge.training.state import Progress


def judged(losses: list[float], **settings: float) -> tuple[list[bool], Progress]:
    progress, found = Progress(), []
    for step, loss in enumerate(losses, start=1):
        progress.step = step
        found.append(judge(progress, EarlyStopping.model_validate(settings), loss))
    return found, progress


def test_the_lowest_loss_is_the_best() -> None:
    found, progress = judged([3.0, 2.0, 2.5, 1.95, 1.0], min_delta=0.1)
    assert found == [True, True, False, False, True]
    assert (progress.best_loss, progress.best_step, progress.waited) == (1.0, 5, 0)


def test_patience_ends_the_run() -> None:
    assert judged([2.0, 2.1, 2.2], patience=2)[1].stopped_early
    assert not judged([2.0, 2.1, 1.9, 2.2], patience=2)[1].stopped_early


def test_what_is_no_number_is_never_the_best() -> None:
    found, progress = judged([math.nan, 2.0, math.nan, math.inf, 1.5], patience=9)
    assert found == [False, True, False, False, True]
    assert (progress.best_loss, progress.best_step) == (1.5, 5)
    assert judged([math.nan] * 3, patience=3)[1].stopped_early
