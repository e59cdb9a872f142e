"""One process of a group of four (started by groups.py): every way to share a model in turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from shared_model import averaged_weights, gradients_norm_weights

from llmforge.runtime.distributed import process_group, world_of_environment

WAYS = [("ddp", 1, "adamw"), ("fsdp2", 1, "adamw"), ("fsdp2", 2, "adamw"), ("fsdp2", 2, "muon")]
AVERAGED = ["ddp", "fsdp2"]


def main(folder: str) -> None:
    """The first process writes what came out."""
    output = Path(folder)
    torch.set_num_threads(1)
    with process_group(world_of_environment(), 120) as world:
        for strategy, tensor, optimizer in WAYS:
            name = f"{strategy}-{tensor}-{optimizer}"
            shared = replace(world, tensor=tensor)
            found = gradients_norm_weights(output / f"{name}-{world.rank}", shared, strategy, optimizer)
            if world.first:
                save_file({key: value.contiguous() for key, value in found.items()}, output / f"{name}.safetensors")
        for strategy in AVERAGED:
            found = averaged_weights(output / f"{strategy}-averaged-{world.rank}", world, strategy)
            if world.first:
                file = output / f"{strategy}-averaged.safetensors"
                save_file({key: value.contiguous() for key, value in found.items()}, file)
