"""What torch.compile is told, and where it keeps what it made. Knows no strategy and no loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
# Weights up to which Python's part of a compiled step is worth taking away. Its calls then go from C++ to C++: a
# longer first compile, which larger models get nothing for.
SMALL = 3_000_000


def keep_compiled() -> Path | None:
    """Makes the compiler keep what it made in the user's cache folder, unless the user has said where; the folder.

    Its own place is a temporary folder that the next start of the machine empties, and a run whose kernels are still
    there begins within seconds. None where there is no such folder that can be written.
    """
    if _CACHE in os.environ:
        return Path(os.environ[_CACHE])
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        home = Path(given) if given and Path(given).is_absolute() else Path.home() / ".cache"
        folder = home / "llmforge" / "inductor"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    if not os.access(folder, os.W_OK):
        return None
    os.environ[_CACHE] = str(folder)
    return folder


def recompute_elementwise() -> None:
    """Makes the backward pass compute norms' and gates' results again where it must have them as a whole.

    The compiler keeps them otherwise, since to make them again saves no time. On a CPU it costs none either and takes
    less memory (README, decisions); on GPUs it is not measured.
    """
    import torch._functorch.config as partitioner

    partitioner.ban_recompute_materialized_backward = False


def compile_options(objective: nn.Module) -> dict[str, bool] | None:
    """Options of the compiler for a model of this size on its device; None: its own."""
    parameters = list(objective.parameters())
    small = sum(value.numel() for value in parameters) <= SMALL
    return {"cpp_wrapper": True} if small and all(value.device.type == "cpu" for value in parameters) else None


def compile_layers(model: nn.Module, **options: Any) -> None:
    """Makes a model call its layers as one compiled function that all of them share, and its last norm as another.

    The compiler then works through one layer and not through all, which takes a third of its time with eight, for
    steps that are 3 % slower. Without gradients, as in samples and validation, they run as written.
    """
    holder: Any = model
    written = holder.through or _as_written
    compiled = torch.compile(written, **options)

    def through(module: nn.Module, x: Tensor, context: Any) -> Tensor:
        found: Tensor = (compiled if torch.is_grad_enabled() else written)(module, x, context)
        return found

    holder.through = through


def _as_written(module: nn.Module, x: Tensor, context: Any) -> Tensor:
    found: Tensor = module(x) if context is None else module(x, context)
    return found
