"""A language model of a few hundred weights with the face of the real one, its batches, and a trainer around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmforge.runtime.console import Console
from llmforge.runtime.distributed import World
from llmforge.runtime.run_folder import RunFolder
from llmforge.tokens.batch import Batch
from llmforge.training.assemble import Bench, Job, Recipe, Start, Trained, make_horizon, make_trainer
from llmforge.training.objective import CausalLMObjective
from llmforge.training.settings import OptimizerSettings, ParallelSettings, SchedulerSettings, TrainSettings
from llmforge.training.trainer import Trainer

VOCAB, WIDTH, LENGTH = 23, 16, 8


class ToyLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gain = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        past = x.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        return x + torch.tanh(self.mix(past)) * self.gain


class ToyModel(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed_tokens = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList([ToyLayer(), ToyLayer()])
        self.lm_head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(
        self, input_ids: Tensor, *, positions: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        x = F.embedding(input_ids, self.embed_tokens.weight)
        for layer in self.layers:
            x = layer(x)
        return x

    @property
    def head_weight(self) -> Tensor:
        return self.lm_head.weight


ROLES = {
    "embed_tokens.weight": "embedding",
    "lm_head.weight": "head",
    **{f"layers.{n}.mix.weight": "matrix" for n in range(2)},
    **{f"layers.{n}.gain": "vector" for n in range(2)},
}


def toy_batch(step: int, rows: int = 7) -> Batch:
    """Rows whose next id follows from the last by a rule; a different number of labels in each row is left out."""
    generator = torch.Generator().manual_seed(1000 + step)
    ids = torch.randint(0, VOCAB, (rows, 1), generator=generator)
    ids = (ids + 3 * torch.arange(LENGTH + 1)) % VOCAB
    labels = ids[:, 1:].clone()
    for row in range(rows):
        labels[row, : row % LENGTH] = -100
    return Batch(ids[:, :-1].clone(), labels)


def toy_trainer(
    folder: RunFolder,
    train: dict[str, Any],
    *,
    rows: int = 7,
    batches: Any = toy_batch,
    world: World | None = None,
    strategy: str = "auto",
    optimizer: dict[str, Any] | None = None,
    validation: Any = None,
) -> Trainer:
    recipe = Recipe(
        TrainSettings.model_validate({"compile": False, "global_batch_size": rows, **train}),
        OptimizerSettings.model_validate(optimizer or {"name": "adamw", "lr": 1e-2}),
        SchedulerSettings(warmup_steps=2),
        ParallelSettings.model_validate({"strategy": strategy}),
    )
    job = Job(folder, recipe, {}, {}, batches, make_horizon(recipe, rows, LENGTH, 100), LENGTH, rows)
    bench = Bench(world or World(), torch.device("cpu"), Console(quiet=True))
    trained = Trained(CausalLMObjective(ToyModel()), ROLES, 1000.0)
    start = Start(None, torch.float32, False)
    return make_trainer(job, bench, start, trained, (lambda: validation) if validation else None)


def run_folder(path: Path) -> Any:
    """An opened run folder."""
    return RunFolder.open(path, "pretrain", {})
