"""A real transformer of a few thousand weights, a trainer around it, and what its processes must agree on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from toy import LENGTH, VOCAB, toy_batch

from llmforge.model.config import ModelConfig
from llmforge.model.init import initialize, parameter_roles
from llmforge.model.transformer import Transformer
from llmforge.runtime.console import Console
from llmforge.runtime.distributed import World
from llmforge.runtime.run_folder import RunFolder
from llmforge.training.assemble import Bench, Job, Recipe, Start, Trained, make_horizon, make_trainer
from llmforge.training.objective import CausalLMObjective
from llmforge.training.optimizer import trainable
from llmforge.training.parallel import Parallel
from llmforge.training.settings import OptimizerSettings, ParallelSettings, SchedulerSettings, TrainSettings
from llmforge.training.shares import is_shared, whole
from llmforge.training.state import Claim, Saved, capture, find_state, restore
from llmforge.training.trainer import Trainer

ROWS = 7
Made = tuple[Trainer, Saved | None]
SHAPE = ModelConfig(
    vocab_size=VOCAB,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=24,
    max_position_embeddings=LENGTH,
    tie_word_embeddings=False,
    qk_norm=True,
    attention_bias=True,
    attention_output_bias=True,
)


def small_transformer() -> Transformer:
    model = Transformer(SHAPE)
    initialize(model, seed=3)
    # Projections that begin at zero would hide every gradient behind them.
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return model


def shared_trainer(folder: Any, world: World, strategy: str, optimizer: str = "adamw", **train: Any) -> Made:
    made = small_transformer()
    settings = {
        "compile": False,
        "global_batch_size": ROWS,
        "micro_batch_size": 2,
        "max_grad_norm": 0.5,
        "max_steps": 3,
    }
    recipe = Recipe(
        TrainSettings.model_validate({"max_steps": 3, **settings, **train}),
        # A large eps: Adam would make much of the last bit of a gradient that is next to nothing.
        OptimizerSettings.model_validate({"name": optimizer, "lr": 0.01, "eps": 1e-3}),
        SchedulerSettings(warmup_steps=2, name="constant"),
        ParallelSettings.model_validate({"strategy": strategy, "tensor_parallel": world.tensor}),
    )
    job = Job(folder, recipe, {}, {}, toy_batch, make_horizon(recipe, ROWS, LENGTH, 100), LENGTH, ROWS)
    bench = Bench(world, torch.device("cpu"), Console(quiet=True))
    trained = Trained(CausalLMObjective(made), parameter_roles(made), 1000.0)
    saved, _ = find_state(folder.path, "auto", Claim({}, {}, job.horizon), world)
    return make_trainer(job, bench, Start(saved, torch.float32, False), trained), saved


def gradients_norm_weights(folder: Path, world: World, strategy: str, optimizer: str = "adamw") -> dict[str, Tensor]:
    """Gradients of the first batch and their norm, then the weights after three steps; whole, by name."""
    with RunFolder.open(folder, "pretrain", {}, passive=not world.first) as run:
        trainer, _ = shared_trainer(run, world, strategy, optimizer)
        loss = trainer._backward(toy_batch(0))
        parameters = trainable(trainer.objective.model)
        found = {f"gradient.{name}": whole(p.grad).clone() for name, p in parameters.items() if p.grad is not None}
        found["norm"], _ = trainer._clip(loss)
        found["loss"] = loss.clone()
        trainer.optimizer.zero_grad()
        trainer.train()
        return found | {f"weight.{name}": whole(p.detach()).clone() for name, p in parameters.items()}


class TokenLosses:
    """A validation by the real pass, of this process's batch alone; every loss of it is summed for all."""

    whole_factor = 1.0

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, objective: Parallel, whole: bool) -> dict[str, object]:
        before = [value.dtype for value in objective.model.parameters()]
        loss = objective.token_losses(toy_batch(9)).sum()
        shared = [is_shared(value) for value in objective.model.parameters()]
        assert all(shared) if objective.strategy == "fsdp2" else not any(shared), "whole parameters left behind"
        assert before == [value.dtype for value in objective.model.parameters()]
        return {"valid_loss": float(self.world.total(loss)) / self.world.size}


def averaged_weights(folder: Path, world: World, strategy: str) -> dict[str, Tensor]:
    """The averaged weights of a run that validates at every step, whole, by name."""
    with RunFolder.open(folder, "pretrain", {}, passive=not world.first) as run:
        changes = {"average": {"decay": 0.5}, "eval_every": 1, "save_every": 2}
        trainer, _ = shared_trainer(run, world, strategy, **changes)
        trainer.validation = TokenLosses(world)
        trainer.train()
        parameters = trainable(trainer.objective.model)
        return {f"weight.{name}": whole(p.detach()).clone() for name, p in parameters.items()}


def go_on(folder: Path, world: World, strategy: str, until: int, optimizer: str = "adamw") -> list[str]:
    """Goes on from the newest state to step `until`; returns the names of tensors that are not loaded as saved."""
    with RunFolder.open(folder, "pretrain", {}, passive=not world.first) as run:
        trainer, saved = shared_trainer(run, world, strategy, optimizer, max_steps=until, log_every=1, keep_last=9)
        wrong = []
        if saved is not None:
            parts = trainer.objective.model, trainer.optimizer, trainer.schedule
            progress, best, average = restore(saved, *parts)
            again, _ = capture(*parts, progress, best, average)
            assert again.keys() == saved.tensors.keys()
            if world.first:  # which alone has them whole
                wrong = [name for name, value in again.items() if not torch.equal(value, saved.tensors[name])]
        trainer.train(saved)
        return wrong
