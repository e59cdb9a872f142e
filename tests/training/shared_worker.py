"""One process of a group of four: every way to share a model in turn; the first process writes what came out.

python shared_worker.py OUTPUT_FOLDER      (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT in the environment)
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from shared_model import gradients_norm_weights

from llmforge.runtime.distributed import process_group, world_of_environment

WAYS = [("ddp", 1, "adamw"), ("fsdp2", 1, "adamw"), ("fsdp2", 2, "adamw"), ("fsdp2", 2, "muon")]

if __name__ == "__main__":
    output = Path(sys.argv[1])
    torch.set_num_threads(1)
    with process_group(world_of_environment(), 120) as world:
        for strategy, tensor, optimizer in WAYS:
            name = f"{strategy}-{tensor}-{optimizer}"
            shared = replace(world, tensor=tensor)
            found = gradients_norm_weights(output / f"{name}-{world.rank}", shared, strategy, optimizer)
            if world.first:
                save_file({key: value.contiguous() for key, value in found.items()}, output / f"{name}.safetensors")
