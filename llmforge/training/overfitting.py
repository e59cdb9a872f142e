"""Whether a run learnt its text by heart: the loss on what it trained on against that on what it never saw.

Reads the lines of metrics.jsonl, knows no model. The sign is the textbook's (Goodfellow, Bengio and Courville, Deep
Learning, 5.2 and 7.8): from some step on the training loss goes on falling while the validation loss rises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from llmforge.training.metric_lines import metric_lines

# Validations see a sample and wander: a rise counts from this share of the best loss on, over two validations at least.
_RISE = 0.01
_LEAST_AFTER_BEST = 2
# Without validations on the way: training loss below this share of validation loss, after two passes or more.
_LOW_SHARE = 0.6
_PASSES = 2.0


@dataclass(frozen=True)
class Look:
    """One validation within the run: the step, the mean training loss up to it, the validation loss."""

    step: int
    train_loss: float
    valid_loss: float


@dataclass(frozen=True)
class Overfitting:
    """The losses at the end, the best validation loss and its step (None: not known), and passes over the data."""

    train_loss: float
    valid_loss: float
    best_valid_loss: float | None
    rising_since: int | None
    epochs: float | None

    def note(self) -> str:
        """The line for the end of a run."""
        text = f"it memorises: training loss {self.train_loss:.2f}, validation {self.valid_loss:.2f}"
        if self.rising_since is not None:
            text += f" and rising since step {self.rising_since:,} ({self.best_valid_loss:.2f})"
        if self.epochs is not None:
            text += f", after {self.epochs:.1f} passes over the data"
        return text + "; more text, fewer steps or train.early_stopping would help"

    def as_json(self) -> dict[str, object]:
        """The same as JSON values."""
        return {**asdict(self), "note": self.note()}


def looks(lines: Iterable[Mapping[str, object]]) -> list[Look]:
    """The validations within a run, by the lines of its metrics.jsonl; that of the whole split at its end is left out.

    The training loss of a validation is that of the newest line before it.
    """
    found, train = [], None
    for line in lines:
        if isinstance(loss := line.get("loss"), float):
            train = loss
        valid, step = line.get("valid_loss"), line.get("step")
        if train is not None and isinstance(valid, float) and isinstance(step, int) and not line.get("whole_split"):
            found.append(Look(step, train, valid))
    return found


def judge_fit(
    seen: list[Look], train_loss: float | None, valid_loss: float | None, epochs: float | None, restored: bool
) -> Overfitting | None:
    """None when all is well, when nothing is held out, or when the best weights were put back (`restored`).

    `seen` are the validations within the run, `train_loss` and `valid_loss` the run's last.
    """
    if train_loss is None or valid_loss is None or restored:
        return None
    if seen:
        best = min(seen, key=lambda look: look.valid_loss)
        after = [look for look in seen if look.step > best.step]
        floor = best.valid_loss * (1 + _RISE)
        rises = len(after) >= _LEAST_AFTER_BEST and all(look.valid_loss > floor for look in after[-_LEAST_AFTER_BEST:])
        if rises and train_loss < min(best.train_loss, valid_loss):
            return Overfitting(train_loss, valid_loss, best.valid_loss, best.step, epochs)
    if len(seen) <= _LEAST_AFTER_BEST and epochs is not None and epochs >= _PASSES:
        if train_loss < _LOW_SHARE * valid_loss:
            return Overfitting(train_loss, valid_loss, None, None, epochs)
    return None


def judge_run(folder: Path, valid_loss: float | None, epochs: float | None, restored: bool) -> Overfitting | None:
    """`judge_fit` of a run folder."""
    lines = metric_lines(folder)
    losses = [loss for line in lines if isinstance(loss := line.get("loss"), float)]
    return judge_fit(looks(lines), losses[-1] if losses else None, valid_loss, epochs, restored)
