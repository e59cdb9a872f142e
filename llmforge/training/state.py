"""The one object that a resumed run needs, and the question whether a saved one belongs to this run.

`find_state` answers the latter before anything is built: same config (but for what changes no weight), same data.
`Progress` holds the counts; weights, optimizer, generators, schedule, early stopping and the place in metrics.jsonl
join it in `capture` and leave it in `restore`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from llmforge.checkpoint.train_state import latest_state, load_state
from llmforge.errors import DamagedError, DataError, UsageError
from llmforge.runtime.distributed import World
from llmforge.runtime.seeding import capture_rng, restore_rng
from llmforge.training.horizon import Horizon
from llmforge.training.optimizer import Optimizer, like, to_save, trainable

FORMAT = 1
CHECKPOINTS = "checkpoints"
# Keys that change no weight (how processes share the work: none but by the order of sums, as their number does).
HARMLESS = frozenset(
    {
        "output_dir",
        "train.log_every",
        "train.save_every",
        "train.keep_last",
        "train.sample_every",
        "train.eval_tokens",
        "parallel.strategy",
        "parallel.tensor_parallel",
        "parallel.timeout_seconds",
    }
)
_BUDGETS = frozenset({"train.max_steps", "train.max_tokens", "train.num_epochs", "train.max_minutes"})


@dataclass
class Progress:
    """How far a run is: steps and tokens done, its validations, and the best of them."""

    step: int = 0
    tokens: int = 0
    elapsed: float = 0.0
    # figures of the validation before the first step, and of the newest
    untrained: dict[str, Any] = field(default_factory=dict)
    newest: dict[str, Any] = field(default_factory=dict)
    train_loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    # validations in a row without a better loss
    waited: int = 0
    stopped_early: bool = False


@dataclass(frozen=True)
class Saved:
    """A loaded state: the step's folder, its tensors, and everything else."""

    path: Path
    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.meta["progress"]["step"])

    @property
    def choices(self) -> dict[str, Any]:
        """What `auto` settings were resolved to when the run began."""
        found: dict[str, Any] = self.meta["choices"]
        return found


def capture(
    model: nn.Module, optimizer: Optimizer, horizon: Horizon, progress: Progress, best: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON values of the whole state, in the first process; every process must call it."""
    tensors = {f"model.{name}": to_save(value.detach()) for name, value in trainable(model).items()}
    moments, counts = optimizer.state()
    tensors |= {f"optimizer.{name}": value for name, value in moments.items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    meta: dict[str, Any] = {
        "format": FORMAT,
        "progress": asdict(progress),
        "optimizer": counts,
        "horizon": horizon.saved(),
        "rng": capture_rng(),
    }
    return tensors, meta


@torch.no_grad()
def restore(
    saved: Saved, model: nn.Module, optimizer: Optimizer, horizon: Horizon
) -> tuple[Progress, dict[str, Tensor]]:
    """Puts a saved state back; returns the progress and the best weights so far.

    Raises:
        DataError: the state is of another architecture.
    """
    parameters, parts = trainable(model), _parts(saved.tensors)
    expected = {name: tuple(value.shape) for name, value in parameters.items()}
    found = {name: tuple(value.shape) for name, value in parts["model"].items()}
    if expected != found:
        name = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        what = f"the saved state is of another architecture: {name} is {found.get(name)}, here {expected.get(name)}"
        raise DataError(what, saved.path, "start anew: --resume never")
    for name, parameter in parameters.items():
        parameter.copy_(like(parts["model"][name], parameter))
    optimizer.load(parts["optimizer"], saved.meta["optimizer"])
    horizon.restore(saved.meta["horizon"])
    restore_rng(saved.meta["rng"])
    return Progress(**saved.meta["progress"]), parts["best"]


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}}
    for key, value in tensors.items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    return parts


def find_state(
    folder: Path, resume: str, config: Mapping[str, object], data: Mapping[str, str], horizon: Horizon, world: World
) -> tuple[Saved | None, list[str]]:
    """The state to go on from, and notes for the log; `folder` is the run folder.

    `resume` is `auto` (the newest whole state if there is one), `never` (earlier states are removed) or a folder:
    a step's, or a run's.

    Raises:
        UsageError: the state was saved under another config; the line names the keys.
        DataError: it was trained on other data, or the folder holds no state.
        DamagedError: no state is whole.
    """
    # The first process looks, since looking may put back a folder that a crash had left aside.
    found = _locate(folder, resume) if world.first else None
    place, notes = cast(tuple[str | None, list[str]], world.agree(found))
    if place is None:
        return None, notes
    path = Path(place)
    tensors, meta = load_state(path)
    if meta.get("format") != FORMAT or not isinstance(meta.get("config"), dict):
        raise DamagedError("not a state of this version of llmforge", path, "start anew: --resume never")
    saved = Saved(path, tensors, meta)
    _refuse_other_data(saved, data)
    _refuse_other_config(saved, config, horizon)
    return saved, notes


def _locate(folder: Path, resume: str) -> tuple[str | None, list[str]]:
    if resume == "never":
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        return None, []
    path, notes = latest_state(folder / CHECKPOINTS) if resume == "auto" else _named(Path(resume))
    return None if path is None else str(path), notes


def _named(given: Path) -> tuple[Path | None, list[str]]:
    if (given / "state.json").is_file():
        return given, []
    folder = given / CHECKPOINTS if (given / CHECKPOINTS).is_dir() else given
    path, notes = latest_state(folder)
    if path is None:
        raise DataError("no saved state here", given, "name a checkpoints/step-N folder or the run folder around it")
    return path, notes


def flat(config: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A nested config with dotted keys; lists are leaves."""
    found: dict[str, object] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def _refuse_other_data(saved: Saved, data: Mapping[str, str]) -> None:
    before: dict[str, str] = saved.meta["data"]
    changed = sorted(name for name in set(before) | set(data) if before.get(name) != data.get(name))
    if changed:
        raise DataError(
            f"the data has changed since the state of step {saved.step} was saved: {', '.join(changed)}",
            saved.path,
            "put the earlier data back, or start anew with --resume never",
        )


def _refuse_other_config(saved: Saved, config: Mapping[str, object], horizon: Horizon) -> None:
    before, now = flat(saved.meta["config"]), flat(config)
    changed = {key for key in set(before) | set(now) if before.get(key) != now.get(key)} - HARMLESS
    if changed & _BUDGETS and _same_rates(saved, horizon):
        changed -= _BUDGETS
    if now.get("train.early_stopping") is None and before.get("train.early_stopping") is None:
        changed -= {"train.eval_every"}
    if changed:
        shown = "; ".join(f"{key}: {before.get(key)} then, {now.get(key)} now" for key in sorted(changed)[:8])
        raise UsageError(
            f"the config differs from that of the saved state at step {saved.step}: {shown}",
            saved.path,
            "undo the change, use another output_dir, or start anew with --resume never",
        )


def _same_rates(saved: Saved, horizon: Horizon) -> bool:
    """Whether a run of the new length would have taken every step so far at the rates that were used."""
    then = saved.meta["horizon"]
    if horizon.seconds is not None or then["top"] < 1.0 or then["steps"] is None:
        return False
    earlier = Horizon(horizon.settings, steps=int(then["steps"]))
    return all(earlier.factor(step) == horizon.factor(step) for step in range(saved.step))
