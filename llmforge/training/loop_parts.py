"""What the loop takes and gives: settings and surroundings, a validation, what observers learn, and the result.

Knows no model and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from llmforge.runtime.console import Console
from llmforge.runtime.distributed import World
from llmforge.training.parallel import Parallel
from llmforge.training.settings import TrainSettings


@dataclass(frozen=True)
class StepInfo:
    """What an observer learns after a step; `last`: when the run is over, and has the weights that it ends with.

    Inside `with weights():` the model has those that the run would hand on now (the average, where there is one).
    """

    step: int
    tokens: int
    last: bool
    weights: Callable[[], AbstractContextManager[None]]


class Validation(Protocol):
    """Figures on held-out data, `valid_loss` among them; `whole` is asked for at the end of the run."""

    whole_factor: float

    def __call__(self, objective: Parallel, whole: bool) -> dict[str, object]:
        """Every process calls it and gets the same figures."""


@dataclass(frozen=True)
class Loop:
    """What the loop needs beside its parts: settings, machine, and what is written into every state."""

    train: TrainSettings
    world: World
    device: torch.device
    console: Console
    # the run's resolved config, digests of its data, and what its `auto` settings were resolved to
    config: dict[str, object]
    data: dict[str, str]
    choices: dict[str, object]
    flops_per_token: float
    peak: float | None = None
    # names of the documents in the data of a step (from 0)
    documents: Callable[[int], Sequence[str]] | None = None
    # each parameter's group, for norms
    roles: Mapping[str, str] = field(default_factory=dict)
    # tokens of one pass over the data; None: not known
    epoch_tokens: int | None = None

    @property
    def when_memory_lacks(self) -> str:
        """What a person can do when not even one row fits."""
        parallel = self.config.get("parallel")
        anew = isinstance(parallel, Mapping) and parallel.get("activation_checkpointing") == "full"
        first = "" if anew else "set parallel.activation_checkpointing=full, or "
        return f"{first}take shorter rows or a smaller model"


@dataclass(frozen=True)
class TrainResult:
    """What came out: `figures` of the last validation, `untrained` of the one before the first step."""

    steps: int
    tokens: int
    train_loss: float | None
    figures: Mapping[str, Any]
    untrained: Mapping[str, Any]
    tokens_per_second: float | None
    compile_seconds: float
    peak_memory_bytes: int
    best_step: int | None
    stopped_early: bool
    seconds: float
    # rows that went through the model at once at the end
    micro_batch_size: int
    # steps that this call made: 0 when the run was at its end already
    new_steps: int = 0
    # data steps (from 0) below the last one's that no step saw
    left_out: Sequence[int] = ()
    # passes over the data
    epochs: float | None = None
    # share of what the devices can do, and how it was reckoned; None where that is unknown
    mfu: float | None = None
    mfu_formula: str | None = None
