"""Figures of a run for other eyes than ours: TensorBoard and Weights & Biases, behind one small interface.

A tracker gets every line of metrics.jsonl as it is written, by the process that writes it. A resumed run goes on in the
same place: what an earlier process had told beyond the saved state is overwritten or left behind. Knows no loop.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from llmforge.errors import MachineError
from llmforge.runtime.run_folder import RunFolder
from llmforge.training.tracker_settings import TensorboardTracking, Tracking, WandbTracking


class Tracker(Protocol):
    """Takes the figures of a step, and is told when there are no more."""

    def log(self, figures: Mapping[str, object]) -> None:
        """One line of metrics.jsonl; `step` is among its keys."""

    def close(self) -> None:
        """Everything that was told is on disk afterwards."""


def flat_numbers(figures: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """The numbers of a line by name, those of inner objects as `outer/inner`; `step` and what is no number are left."""
    found: dict[str, float] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            found |= flat_numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and (prefix or key != "step"):
            found[f"{prefix}{key}"] = float(value)
    return found


class TensorboardTracker:
    """Scalars in an event file (https://www.tensorflow.org/tensorboard); an earlier run's beyond `step` are void."""

    def __init__(self, folder: Path, step: int) -> None:
        _need("tensorboard", "tensorboard")
        writer: Any = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(folder), purge_step=step + 1 if step else None)

    def log(self, figures: Mapping[str, object]) -> None:
        """One point a number, at the line's step."""
        for name, value in flat_numbers(figures).items():
            self._writer.add_scalar(name, value, figures["step"])

    def close(self) -> None:
        """Flushes the event file."""
        self._writer.close()


class WandbTracker:
    """A run of Weights & Biases (https://docs.wandb.ai/ref/python); its id follows from the run folder's path."""

    def __init__(self, settings: WandbTracking, run: RunFolder) -> None:
        wandb = _need("wandb", "wandb")
        place = str(run.path.resolve())
        self._run = wandb.init(
            project=settings.project,
            name=settings.run_name or run.path.name,
            id=sha256(place.encode()).hexdigest()[:12],
            resume="allow" if settings.mode == "online" else None,
            dir=place,
            mode=settings.mode,
            config=run.config,
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )
        # A resumed run tells some steps again, which wandb's own counter would refuse.
        self._run.define_metric("*", step_metric="step")

    def log(self, figures: Mapping[str, object]) -> None:
        """The line's numbers, with its step as the axis."""
        self._run.log(flat_numbers(figures) | {"step": figures["step"]})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def check_trackers(wanted: Sequence[Tracking]) -> None:
    """Raises MachineError when a tracker's package is not installed, before a run changes anything."""
    for settings in wanted:
        if isinstance(settings, TensorboardTracking | WandbTracking):
            _need(settings.name, settings.name)


@contextmanager
def tracking(wanted: Sequence[Tracking], run: RunFolder, step: int) -> Iterator[None]:
    """Shows every line of metrics.jsonl to the trackers for the time of a `with`; `step` steps are done already.

    Raises:
        MachineError: a tracker's package is not installed; the line names the extra that brings it.
    """
    trackers: list[Tracker] = []
    try:
        for settings in () if run.passive else wanted:
            if isinstance(settings, TensorboardTracking):
                folder = Path(settings.log_dir) if settings.log_dir else run.path / "tensorboard"
                trackers.append(TensorboardTracker(folder, step))
            elif isinstance(settings, WandbTracking):
                trackers.append(WandbTracker(settings, run))
        run.listeners.extend(tracker.log for tracker in trackers)
        yield
    finally:
        run.listeners.clear()
        for tracker in trackers:
            tracker.close()


def _need(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        hint = f"install it with: pip install 'llmforge[{extra}]', or leave it out of tracking"
        raise MachineError(f"the tracker {package} needs the package {package}", "tracking", hint) from None
