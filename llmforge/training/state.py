"""The one object that a resumed run needs, and the question whether a saved one belongs to this run.

`find_state` answers the latter before anything is built: same config (but for what changes no weight), same data.
`Progress` holds the counts; weights and their average, optimizer, generators, schedule, early stopping and the place in
metrics.jsonl join it in `capture` and leave it in `restore`.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from llmforge.checkpoint.train_state import META, check_state, latest_state, load_state
from llmforge.errors import DamagedError, DataError, UsageError
from llmforge.runtime.distributed import World
from llmforge.runtime.seeding import capture_rng, restore_rng
from llmforge.training.horizon import Horizon
from llmforge.training.optimizer import Optimizer, trainable
from llmforge.training.schedule import warmup_steps
from llmforge.training.settings import SchedulerSettings
from llmforge.training.shares import like, to_save

FORMAT = 1
CHECKPOINTS = "checkpoints"
# Keys that change no weight (how processes share the work: none but by the order of sums, as their number does).
HARMLESS = frozenset(
    {"output_dir", "tracking"}
    | {f"train.{key}" for key in ("log_every", "save_every", "keep_last", "keep_every", "sample_every")}
    | {"train.log_norms", "train.profile_steps"}
    | {f"parallel.{key}" for key in ("strategy", "tensor_parallel", "timeout_seconds", "activation_checkpointing")}
)
_WARMUP = "scheduler.warmup_steps"
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
    # rows that go through the model at once, fewer than configured once memory has run out; None: as configured
    micro_batch_size: int | None = None
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
    def run_folder(self) -> Path:
        """The folder of the run that saved it."""
        return self.path.resolve().parent.parent

    @property
    def choices(self) -> dict[str, Any]:
        """What `auto` settings were resolved to when the run began."""
        found: dict[str, Any] = self.meta["choices"]
        return found


def capture(
    model: nn.Module,
    optimizer: Optimizer,
    horizon: Horizon,
    progress: Progress,
    best: Mapping[str, Tensor],
    average: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON values of the whole state, in the first process; every process must call it."""
    tensors = {f"model.{name}": to_save(value.detach()) for name, value in trainable(model).items()}
    moments, counts = optimizer.state()
    tensors |= {f"optimizer.{name}": value for name, value in moments.items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    tensors |= {f"average.{name}": to_save(value) for name, value in average.items()}
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
) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]]:
    """Puts a saved state back; returns the progress, the best weights so far and the average of the weights.

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
    return Progress(**saved.meta["progress"]), parts["best"], parts["average"]


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}, "average": {}}
    for key, value in tensors.items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    return parts


@dataclass(frozen=True)
class Claim:
    """What the run that looks for a state is: its config, its data's digests, its length, and the keys of its config
    that may differ from the state's, each with all below it."""

    config: Mapping[str, object]
    data: Mapping[str, str]
    horizon: Horizon
    allowed: Collection[str] = ()


def find_state(folder: Path, resume: str, claim: Claim, world: World) -> tuple[Saved | None, list[str]]:
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
    saved = open_state(Path(place))
    _refuse_other_data(saved, claim.data)
    return saved, notes + _refuse_other_config(saved, claim)


def open_state(path: Path) -> Saved:
    """A state whose digests were compared already.

    Raises:
        DamagedError: it is none of this version.
    """
    tensors, meta = load_state(path, verified=True)
    if meta.get("format") != FORMAT or not isinstance(meta.get("config"), dict):
        raise DamagedError("not a state of this version of llmforge", path, "start anew: --resume never")
    return Saved(path, tensors, meta)


def _locate(folder: Path, resume: str) -> tuple[str | None, list[str]]:
    if resume == "never":
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        return None, []
    path, notes = latest_state(folder / CHECKPOINTS) if resume == "auto" else _named(Path(resume))
    return None if path is None else str(path), notes


def _named(given: Path) -> tuple[Path | None, list[str]]:
    if (given / META).is_file():
        check_state(given)
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


def _refuse_other_config(saved: Saved, claim: Claim) -> list[str]:
    """Raises UsageError unless what differs is harmless or allowed; notes on the latter."""
    before, now = flat(saved.meta["config"]), flat(claim.config)
    known = set(before) | set(now)
    unknown = sorted(key for key in claim.allowed if not any(_below(name, key) for name in known))
    if unknown:
        raise UsageError(f"no such key of the config: {', '.join(unknown)}", "--allow-changed", "name it in full")
    changed = {key for key in known if before.get(key) != now.get(key)} - HARMLESS
    named = {key for key in changed if any(_below(key, other) for other in claim.allowed)}
    changed -= named
    # A batch that is left to auto follows from the budget, and with it the data of every step.
    if now.get("train.global_batch_tokens") != "auto" and _same_rates(saved, claim.horizon):
        changed -= _BUDGETS
    if _WARMUP in changed and _same_warmup(before, now, claim.horizon.steps):
        changed.discard(_WARMUP)
    if not any(key.startswith("train.early_stopping.") for key in known):  # which the validations would decide
        changed -= {"train.eval_every", "train.eval_tokens"}
    if changed:
        keys = ",".join(sorted(changed))
        raise UsageError(
            f"the config differs from that of the saved state at step {saved.step}: {_told(changed, before, now)}",
            saved.path,
            f"undo the change, use another output_dir, go on with it by --allow-changed {keys}, or start anew with "
            "--resume never",
        )
    return [f"goes on with what was changed: {_told(named, before, now)}"] if named else []


def _below(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")


def _told(keys: Collection[str], before: Mapping[str, object], now: Mapping[str, object]) -> str:
    return "; ".join(f"{key}: {before.get(key)} then, {now.get(key)} now" for key in sorted(keys)[:8])


def _same_rates(saved: Saved, horizon: Horizon) -> bool:
    """Whether a run of the new length would have taken every step so far at the rates that were used."""
    then = saved.meta["horizon"]
    if horizon.seconds is not None or then["top"] < 1.0 or then["steps"] is None:
        return False
    earlier = Horizon(horizon.settings, steps=int(then["steps"]))
    return all(earlier.factor(step) == horizon.factor(step) for step in range(saved.step))


def _same_warmup(before: Mapping[str, object], now: Mapping[str, object], steps: int | None) -> bool:
    """Whether a number of steps and `auto` are the same warm-up of a run of so many steps."""
    given = [SchedulerSettings.model_validate({"warmup_steps": config.get(_WARMUP)}) for config in (before, now)]
    return warmup_steps(given[0], steps) == warmup_steps(given[1], steps)
