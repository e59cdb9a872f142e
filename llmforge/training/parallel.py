"""How an objective is run: compiled or not, alone, replicated (DDP) or in shares (FSDP2).

Makes of an objective a `Parallel` that the trainer calls; `objective.model` stays what is saved. Gradients of the
summed loss come out summed over all processes, whatever the strategy. Knows no optimizer and no data.
"""

from __future__ import annotations

import shutil
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from llmforge.errors import MachineError, UsageError
from llmforge.runtime.distributed import World
from llmforge.tokens.batch import Batch
from llmforge.training.compiler import compile_options, keep_compiled
from llmforge.training.optimizer import whole
from llmforge.training.settings import ParallelSettings

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Strategy = Literal["none", "ddp", "fsdp2"]

# What a parameter takes in training: fp32 weight, gradient and two averages; and what of a GPU's memory DDP may take.
_BYTES_A_PARAMETER = 16
_DDP_SHARE = 0.4
# Compiling takes 20 to 60 s with a cold cache and made steps 1.2 to 1.5 times as fast where measured: it pays when the
# run is long. Lengths are judged by arithmetic, not by a clock, so that the same run always chooses the same.
_CPU_FLOPS = 3e11
_COMPILE_FROM_SECONDS = {"cpu": 240.0, "cuda": 120.0}
_GPU_FLOPS = 3e14


def choose_strategy(settings: ParallelSettings, world: World, model: nn.Module, device: torch.device) -> Strategy:
    """The strategy of a run; `auto` replicates the model when it and its optimizer fit easily, else shares it.

    Raises:
        UsageError: several processes and `none`, or one process and a strategy of several.
    """
    if settings.strategy == "none" and world.size > 1:
        raise UsageError(
            f"parallel.strategy is none and there are {world.size} processes", hint="set it to auto, ddp or fsdp2"
        )
    if settings.strategy != "auto":
        return settings.strategy
    if world.size == 1:
        return "none"
    needed = sum(value.numel() for value in model.parameters()) * _BYTES_A_PARAMETER
    if device.type == "cuda" and needed > _DDP_SHARE * torch.cuda.get_device_properties(device).total_memory:
        return "fsdp2"
    return "ddp"


class Parallel:
    """An objective as it runs on this process."""

    def __init__(self, objective: nn.Module, strategy: Strategy, world: World, device: torch.device) -> None:
        self.objective, self.strategy, self.world = objective, strategy, world
        self.model = cast(nn.Module, objective.model)
        self._module: nn.Module = objective
        # DDP averages where a sum is wanted.
        self.gradient_factor = float(world.size) if strategy == "ddp" else 1.0
        if strategy == "ddp":
            devices = [device.index] if device.type == "cuda" else None
            with warnings.catch_warnings():
                # Its successor still sends buffers once and is not in every torch that we take.
                warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
                self._module = nn.parallel.DistributedDataParallel(
                    objective, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
                )
        elif strategy == "fsdp2":
            _shard(objective, self.model, device)

    def __call__(self, batch: Batch) -> Tensor:
        """The summed loss of a micro-batch, an fp32 scalar."""
        loss: Tensor = self._module(batch)
        return loss

    @contextmanager
    def synchronized(self, last: bool) -> Iterator[None]:
        """Around forward and backward of a micro-batch: gradients travel between processes only at the last."""
        if self.strategy == "fsdp2":
            cast(Any, self.objective).set_requires_gradient_sync(last)
        waits = self.strategy == "ddp" and not last
        with cast(Any, self._module).no_sync() if waits else nullcontext():
            yield

    def token_losses(self, batch: Batch) -> Tensor:
        """The loss of each position of this process's batch (B, T), fp32, 0 where nothing is predicted; no gradients.

        Runs as written, since compiling it too would take longer than it gains.
        """
        self.objective.eval()
        try:
            # Past DDP's own forward: nothing has to travel between processes.
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                losses: Tensor = self.objective(batch, by_token=True)
                return losses
        finally:
            self.objective.train()


def _shard(objective: nn.Module, model: nn.Module, device: torch.device) -> None:
    """Each layer, and what is left around them, becomes one group of sharded parameters."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    narrow = device.type == "cuda" and getattr(model, "compute_dtype", torch.float32) == torch.bfloat16
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if narrow else MixedPrecisionPolicy()
    for layer in getattr(model, "layers", ()):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=policy)
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def choose_compile(
    wanted: bool | Literal["auto"], device: torch.device, flops: float | None, seconds: float | None = None
) -> tuple[bool, str]:
    """Whether to compile a run of so many floating-point operations, or of a budget of seconds, and why.

    Raises:
        MachineError: it is asked for and there is no C++ compiler for the CPU.
    """
    lacking = _missing_compiler() if device.type == "cpu" else None
    if wanted is True and lacking:
        raise MachineError(f"train.compile needs {lacking}", hint="install it, or set train.compile=false")
    if wanted != "auto":
        return wanted, "as configured"
    if device.type not in _COMPILE_FROM_SECONDS:
        return False, f"not on {device.type}"
    if lacking:
        return False, f"there is no {lacking}"
    if seconds is None:
        assert flops is not None, "a run has a length"
        seconds = flops / (_CPU_FLOPS if device.type == "cpu" else _GPU_FLOPS)
    if seconds < _COMPILE_FROM_SECONDS[device.type]:
        return False, f"the run is short (about {seconds:.0f} s), compiling would cost more than it gains"
    return True, "the run is long enough to gain from it"


def _missing_compiler() -> str | None:
    import os

    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        return "C++ compiler"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python.h (the headers of this Python)"
    return None


def compile_objective(objective: nn.Module) -> None:
    """Compiles the objective's forward and backward pass at its next call, for fixed shapes."""
    keep_compiled()
    objective.compile(dynamic=False, options=compile_options(objective))


def gathered(model: ModuleT, build: Callable[[], ModuleT]) -> ModuleT:
    """The model itself, or, where processes hold shares of it, a new one from `build` with all the weights.

    Every process must call it.
    """
    if not any(isinstance(value, DTensor) for value in model.parameters()):
        return model
    weights = {name: whole(value.detach()).cpu() for name, value in model.named_parameters()}
    plain = build()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(weights[name])
    return plain
