"""From settings to a trainer: what pre-training and fine-tuning do alike before the loop begins.

`Recipe` is the part of their configs that they share; `Bench` the machine as this process sees it. Knows no model: the
stage builds it and says each parameter's role.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from llmforge.errors import UsageError
from llmforge.runtime.console import Console
from llmforge.runtime.device import (
    DTYPES,
    DeviceName,
    PrecisionName,
    be_deterministic,
    choose_device,
    choose_dtype,
    peak_rate,
    share_cores,
)
from llmforge.runtime.distributed import World, process_group, world_of_environment
from llmforge.runtime.malloc import keep_freed_memory
from llmforge.runtime.run_folder import RunFolder
from llmforge.tokens.ahead import Ahead
from llmforge.tokens.batch import Batch
from llmforge.training import schedule
from llmforge.training.horizon import Horizon
from llmforge.training.loop_parts import Loop, StepInfo, Validation
from llmforge.training.optimizer import Optimizer
from llmforge.training.parallel import Parallel, choose_compile, choose_strategy, compile_objective
from llmforge.training.settings import OptimizerSettings, ParallelSettings, SchedulerSettings, TrainSettings
from llmforge.training.state import Claim, Saved, find_state
from llmforge.training.trainer import Trainer

STACKS = "stacks"


@dataclass(frozen=True)
class Recipe:
    """How to train, whatever is trained."""

    train: TrainSettings
    optimizer: OptimizerSettings
    scheduler: SchedulerSettings
    parallel: ParallelSettings


@dataclass(frozen=True)
class Bench:
    """The machine as this process sees it."""

    world: World
    device: torch.device
    console: Console


@contextmanager
def open_bench(
    name: DeviceName,
    deterministic: bool | Literal["auto"],
    console: Console,
    parallel: ParallelSettings | None = None,
    output_dir: str = ".",
) -> Iterator[Bench]:
    """Chooses the device, joins the other processes and sets what holds for the whole process.

    `deterministic: auto` is true on a CPU, where it costs nothing. What the processes were doing when one did not
    answer is written into `output_dir`/stacks.

    Raises:
        MachineError: the machine has no such device.
        UsageError: the number of processes does not go with the settings.
        PeerLost: another process is gone or hangs.
    """
    shared = parallel or ParallelSettings()
    world = world_of_environment(shared.tensor_parallel)
    device = choose_device(name, world.local_rank)
    keep_freed_memory()
    share_cores(world.local_size)
    be_deterministic(device.type == "cpu" if deterministic == "auto" else deterministic)
    with process_group(world, shared.timeout_seconds, Path(output_dir) / STACKS) as joined:
        yield Bench(joined, device, console)


def make_horizon(recipe: Recipe, batch_rows: int, row_tokens: int, epoch_rows: int) -> Horizon:
    """The run's end: a number of steps, counted from tokens or epochs where they are given, or a time."""
    train = recipe.train
    if train.max_minutes is not None:
        return Horizon(schedule.settled(recipe.scheduler), seconds=train.max_minutes * 60)
    if train.max_steps is not None:
        return Horizon(recipe.scheduler, steps=train.max_steps)
    if train.max_tokens is not None:
        assert train.max_tokens != "auto", "a recipe is completed before it is used"
        return Horizon(recipe.scheduler, steps=max(1, math.ceil(train.max_tokens / (batch_rows * row_tokens))))
    assert train.num_epochs is not None
    return Horizon(recipe.scheduler, steps=max(1, math.ceil(train.num_epochs * epoch_rows / batch_rows)))


@dataclass(frozen=True)
class Job:
    """What is trained on what: the run's folder, its resolved config, digests of its data, batches, length."""

    run: RunFolder
    recipe: Recipe
    config: dict[str, object]
    data: dict[str, str]
    batches: Callable[[int], Batch]
    horizon: Horizon
    row_tokens: int
    batch_rows: int
    # names of the documents in the data of a step (from 0)
    documents: Callable[[int], Sequence[str]] | None = None
    # tokens of one pass over the data; None: not known
    epoch_tokens: int | None = None


@dataclass(frozen=True)
class Resume:
    """From where to go on (`auto`, `never` or a folder), and the keys of the config that may have changed since."""

    place: str = "auto"
    allowed: Collection[str] = ()


@dataclass(frozen=True)
class Start:
    """Where a run begins: a saved state or nothing, and what its `auto` settings mean."""

    saved: Saved | None
    dtype: torch.dtype
    compiled: bool | Literal["layers"]


def find_start(job: Job, bench: Bench, precision: PrecisionName, resume: Resume, flops_per_token: float) -> Start:
    """Looks for a state to go on from, and resolves `precision: auto` and `compile: auto` once for the whole run.

    Raises:
        UsageError, DataError, DamagedError: as `find_state`.
        MachineError: the machine cannot compute so.
    """
    claim = Claim(job.config, job.data, job.horizon, resume.allowed)
    with job.run.refusing():
        saved, notes = find_state(job.run.path, resume.place, claim, bench.world)
    for note in notes:
        bench.console.warn(note)
        job.run.log(note)
    for note in schedule.notes(job.recipe.scheduler, job.horizon.steps):
        _say(job, bench, note)
    if saved is not None:
        dtype, compiled = DTYPES[str(saved.choices["precision"])], saved.choices["compile"]
        _say(job, bench, f"going on from step {saved.step} ({saved.path})")
        return Start(saved, dtype, compiled)
    dtype, why = choose_dtype(precision, bench.device)
    name = str(bench.world.agree(_precision_name(dtype)))
    _say(job, bench, f"{name} on {bench.device.type} ({why})")
    flops = None if job.horizon.steps is None else flops_per_token * job.horizon.steps * job.batch_rows * job.row_tokens
    compiled, why = choose_compile(job.recipe.train.compile, bench.device, flops, job.horizon.seconds)
    _say(job, bench, ("compiling, which takes about half a minute: " if compiled else "not compiled: ") + why)
    return Start(None, DTYPES[name], compiled)


def _say(job: Job, bench: Bench, text: str) -> None:
    bench.console.say(text)
    job.run.log(text)


def _precision_name(dtype: torch.dtype) -> str:
    return next(name for name, value in DTYPES.items() if value == dtype)


@dataclass(frozen=True)
class Trained:
    """What is trained: the objective, each parameter's role, and FLOP a token (forward and backward)."""

    objective: nn.Module
    roles: Mapping[str, str]
    flops_per_token: float


def make_trainer(
    job: Job,
    bench: Bench,
    start: Start,
    trained: Trained,
    validation: Callable[[], Validation] | None = None,
    observers: Sequence[Callable[[StepInfo], None]] = (),
) -> Trainer:
    """Wraps the objective for this machine and puts the loop's parts together.

    Raises:
        UsageError: fewer rows in a batch than processes, or a strategy that does not go with their number.
    """
    world, device, recipe = bench.world, bench.device, job.recipe
    if job.batch_rows < world.data_size:
        raise UsageError(
            f"a batch of {job.batch_rows} rows cannot be shared by {world.data_size} processes",
            hint="raise train.global_batch_size",
        )
    objective = trained.objective.to(device)
    if recipe.train.dropout:
        for layer in getattr(objective.model, "layers"):  # noqa: B009
            layer.dropout.p = recipe.train.dropout
    strategy = choose_strategy(recipe.parallel, world, objective, device)
    if start.compiled:
        # What is shared out is gathered around each layer, which a layer's own graph has not been tried with.
        compile_objective(objective, start.compiled == "layers" and strategy != "fsdp2")
    parallel = Parallel(objective, strategy, world, device)
    loop = Loop(
        train=recipe.train,
        world=world,
        device=device,
        console=bench.console,
        config=job.config,
        data=job.data,
        choices={"precision": _precision_name(start.dtype), "compile": start.compiled, "strategy": strategy},
        flops_per_token=trained.flops_per_token,
        peak=peak_rate(device, start.dtype),
        documents=job.documents,
        roles=trained.roles,
        epoch_tokens=job.epoch_tokens,
    )
    optimizer = Optimizer(parallel.model, trained.roles, recipe.optimizer)
    made = validation() if validation is not None else None
    return Trainer(parallel, _fed(job.batches, device), optimizer, job.horizon, loop, job.run, made, observers)


def _fed(batches: Callable[[int], Batch], device: torch.device) -> Callable[[int], Batch]:
    """Batches as the device takes them: ahead of an accelerator, and where a GPU can fetch them without the host."""
    if device.type == "cpu":
        return batches
    return Ahead(batches, Batch.pinned if device.type == "cuda" else None)
