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
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from llmforge.errors import MachineError, UsageError
from llmforge.runtime.distributed import World
from llmforge.runtime.stop import sheltered
from llmforge.tokens.batch import Batch
from llmforge.training.compiler import compile_options, keep_compiled, recompute_elementwise
from llmforge.training.settings import Compile, ParallelSettings
from llmforge.training.shares import is_shared, whole

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Strategy = Literal["none", "ddp", "fsdp2"]

# What a parameter takes in training: fp32 weight, gradient and two averages; and what of a GPU's memory DDP may take.
_BYTES_A_PARAMETER = 16
_DDP_SHARE = 0.4
# Compiling takes 20 to 60 s with a cold cache and made steps 1.2 to 1.5 times as fast where measured: it pays when the
# run is long. Lengths are judged by arithmetic, not by a clock, so that the same run always chooses the same.
_CPU_FLOPS = 3e11
_COMPILE_FROM_SECONDS = {"cpu": 240.0, "cuda": 120.0}
# From here on the 3 % that steps of a graph through all layers are faster by outweigh the half minute that it takes
# longer to compile.
_WHOLE_FROM_SECONDS = {"cpu": 1200.0, "cuda": 0.0}
_GPU_FLOPS = 3e14


def choose_strategy(settings: ParallelSettings, world: World, model: nn.Module, device: torch.device) -> Strategy:
    """The strategy of a run; `auto` replicates the model when it and its optimizer fit easily, else shares it.

    One process needs none, so that a run may go on with fewer processes than it began with.

    Raises:
        UsageError: several processes and `none`, or tensor parallelism with anything but fsdp2.
    """
    if world.size == 1:
        return "none"
    if settings.tensor_parallel > 1:
        if settings.strategy not in ("auto", "fsdp2"):
            what = f"parallel.tensor_parallel goes with strategy fsdp2, not with {settings.strategy}"
            raise UsageError(what, hint="set parallel.strategy=fsdp2")
        return "fsdp2"
    if settings.strategy == "none":
        raise UsageError(
            f"parallel.strategy is none and there are {world.size} processes", hint="set it to auto, ddp or fsdp2"
        )
    if settings.strategy != "auto":
        return settings.strategy
    needed = sum(value.numel() for value in model.parameters()) * _BYTES_A_PARAMETER
    if device.type == "cuda" and needed > _DDP_SHARE * torch.cuda.get_device_properties(device).total_memory:
        return "fsdp2"
    return "ddp"


class Parallel:
    """An objective as it runs on this process."""

    def __init__(self, objective: nn.Module, strategy: Strategy, world: World, device: torch.device) -> None:
        self.objective, self.strategy, self.world = objective, strategy, world
        self.model = cast(nn.Module, objective.model)
        # called before each pass of `token_losses`, on every process; ends it by an exception
        self.before_pass: Callable[[], None] = lambda: None
        self._module: nn.Module = objective
        # Where neighbours share the layers: who they are, and what each has only a part of the gradient of.
        self._tensor_mesh: DeviceMesh | None = None
        self._partial: list[nn.Parameter] = []
        # DDP averages where a sum is wanted.
        self.gradient_factor = float(world.size) if strategy == "ddp" else 1.0
        if strategy == "ddp":
            devices = [device.index] if device.type == "cuda" else None
            with warnings.catch_warnings():
                # Its successor still sends buffers once and is not in every torch that we take.
                warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
                self._module = nn.parallel.DistributedDataParallel(
                    objective,
                    device_ids=devices,
                    broadcast_buffers=False,
                    gradient_as_bucket_view=True,
                    # Else its buckets are laid out anew after the first step of a process, and three or more ranks then
                    # add up gradients in another order: the first step after a resume would differ in its last bits.
                    find_unused_parameters=world.size > 2 and torch.are_deterministic_algorithms_enabled(),
                )
        elif strategy == "fsdp2":
            self._tensor_mesh, names = _shard(objective, self.model, world, device)
            self._partial = [value for name, value in self.model.named_parameters() if name in names]

    def __call__(self, batch: Batch) -> Tensor:
        """The summed loss of a micro-batch, an fp32 scalar."""
        loss: Tensor = self._module(batch)
        return loss

    @contextmanager
    def synchronized(self, last: bool) -> Iterator[None]:
        """Around forward and backward of a micro-batch: gradients travel between processes only at the last.

        Whatever compiles for a new shape meanwhile is kept from signals to the whole group of processes.
        """
        if self.strategy == "fsdp2":
            cast(Any, self.objective).set_requires_gradient_sync(last)
        waits = self.strategy == "ddp" and not last
        with (
            sheltered() if self._compiled else nullcontext(),
            cast(Any, self._module).no_sync() if waits else nullcontext(),
        ):
            yield
        if last and self._tensor_mesh is not None:
            from llmforge.training.tensor_parallel import sum_over

            sum_over(self._tensor_mesh, self._partial)

    @property
    def _compiled(self) -> bool:
        return bool(getattr(self.objective, "compiled", False))

    def token_losses(self, batch: Batch) -> Tensor:
        """The loss of each position of this process's batch (B, T), fp32, 0 where nothing is predicted; no gradients.

        Runs as written, since compiling it too would take longer than it gains.
        """
        self.before_pass()
        self.objective.eval()
        try:
            # Past DDP's own forward: nothing has to travel between processes.
            eager = torch.compiler.set_stance("force_eager") if self._compiled else nullcontext()
            with torch.no_grad(), eager:
                losses: Tensor = self.objective(batch, by_token=True)
                return losses
        finally:
            if self.strategy == "fsdp2":  # what is around the layers stays whole, and narrow, until a backward pass
                cast(Any, self.objective).reshard()
            self.objective.train()


def _shard(
    objective: nn.Module, model: nn.Module, world: World, device: torch.device
) -> tuple[DeviceMesh | None, frozenset[str]]:
    """Each layer, and what is left around them, becomes one group of sharded parameters.

    Where neighbours share the layers' matrices, these are split first; returns their mesh and what `share_layers` says.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    neighbours, partial = None, frozenset[str]()
    if world.tensor > 1:
        both = init_device_mesh(device.type, (world.data_size, world.tensor), mesh_dim_names=("data", "tensor"))
        mesh, neighbours = both["data"], both["tensor"]
        from llmforge.training.tensor_parallel import share_layers

        partial = frozenset(share_layers(model, neighbours))
    else:
        mesh = init_device_mesh(device.type, (world.size,))
    narrow = device.type == "cuda" and getattr(model, "compute_dtype", torch.float32) == torch.bfloat16
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if narrow else MixedPrecisionPolicy()
    for layer in getattr(model, "layers", ()):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=policy)
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return neighbours, partial


def choose_compile(
    wanted: Compile, device: torch.device, flops: float | None, seconds: float | None = None
) -> tuple[bool | Literal["layers"], str]:
    """Whether to compile a run of so many floating-point operations, or of a budget of seconds, and why.

    `layers`: one layer for all of them.

    Raises:
        MachineError: it is asked for and there is no C++ compiler for the CPU.
    """
    lacking = _missing_compiler() if device.type == "cpu" else None
    if wanted in (True, "layers") and lacking:
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
    if seconds < _WHOLE_FROM_SECONDS[device.type]:
        return "layers", "the run is long enough to gain from it"
    return True, "the run is long enough to gain from it"


def _missing_compiler() -> str | None:
    import os

    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        return "C++ compiler"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python.h (the headers of this Python)"
    return None


def compile_objective(objective: nn.Module, by_layer: bool = False) -> None:
    """Compiles the objective's forward and backward pass at its next call, for fixed shapes.

    `by_layer`: one layer for all, as `compile_layers` has it, where the model is not small: small ones gain from calls
    that never come back to Python.
    """
    keep_compiled()
    if all(value.device.type == "cpu" for value in objective.parameters()):
        recompute_elementwise()
    # Said once more for the compiler, which `be_deterministic` has not loaded.
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    options = compile_options(objective)
    if by_layer and options is None and hasattr(objective.model, "through"):
        cast(Any, objective).compile_by_layer(dynamic=False)
    else:
        objective.compile(dynamic=False, options=options)


def gathered(model: ModuleT, build: Callable[[], ModuleT]) -> ModuleT:
    """The model itself, or, where processes hold shares of it, a new one from `build` with all the weights.

    Every process must call it.
    """
    if not any(is_shared(value) for value in model.parameters()):
        return model
    weights = {name: whole(value.detach()).cpu() for name, value in model.named_parameters()}
    plain = build()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(weights[name])
    return plain
