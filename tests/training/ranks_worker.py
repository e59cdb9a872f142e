"""One process of a group: gradients of one batch, then weights after three steps; the first one writes them.

python ranks_worker.py STRATEGY OUTPUT_FOLDER      (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT in the environment)
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from toy import run_folder, toy_batch, toy_trainer

from llmforge.runtime.distributed import process_group, world_of_environment
from llmforge.training.optimizer import trainable
from llmforge.training.shares import whole


def gradients_and_weights(folder: Path, strategy: str, optimizer: str, micro: int) -> dict[str, torch.Tensor]:
    """Gradients of the first batch and weights after three steps, whole, by name."""
    world = world_of_environment()
    settings = {"name": optimizer, "lr": 0.02}
    with run_folder(folder) as run:
        run.passive = not world.first
        limits = {"max_steps": 3, "micro_batch_size": micro, "max_grad_norm": 0.5}
        trainer = toy_trainer(run, limits, world=world, strategy=strategy, optimizer=settings)
        trainer._backward(toy_batch(0))
        parameters = trainable(trainer.objective.model)
        found = {f"gradient.{name}": whole(p.grad).clone() for name, p in parameters.items() if p.grad is not None}
        # DDP's own averaging is undone by the factor that the trainer put in.
        trainer.optimizer.zero_grad()
        trainer.train()
        return found | {f"weight.{name}": whole(p.detach()).clone() for name, p in parameters.items()}


if __name__ == "__main__":
    strategy, output = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    with process_group(world_of_environment()) as world:
        for optimizer in ("adamw", "muon"):
            place = output / f"{optimizer}-{world.rank}"
            tensors = gradients_and_weights(place, strategy, optimizer, micro=2)
            if world.first:
                save_file(tensors, output / f"{optimizer}.safetensors")
