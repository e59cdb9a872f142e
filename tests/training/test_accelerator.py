"""The step as an accelerator sees it, on torch's meta device: no CPU path, no data, and an error for every read of it.

Meta tensors have shapes and no values, so whatever would make the host wait for a GPU (`item`, `bool`, `tolist`,
`nonzero`) raises here.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import run_folder as opened

from llmforge.model.checkpointing import recompute
from llmforge.model.config import ModelConfig, ModelSettings
from llmforge.model.init import parameter_roles
from llmforge.model.transformer import Transformer
from llmforge.runtime.console import Console
from llmforge.runtime.distributed import World
from llmforge.tokens.ahead import Ahead
from llmforge.tokens.batch import Batch
from llmforge.training.assemble import Bench, Job, Recipe, Start, Trained, make_horizon, make_trainer
from llmforge.training.objective import CausalLMObjective
from llmforge.training.settings import OptimizerSettings, ParallelSettings, SchedulerSettings, TrainSettings
from llmforge.training.trainer import Trainer

META = torch.device("meta")
# beside embedding and head: layers x (q, k, v, o + gate, up, down + two norms + q and k norms) + the last norm
SHAPES = {
    "124m": (768, 12 * (4 * 768**2 + 3 * 768 * 2048 + 2 * 768 + 2 * 64) + 768),
    "350m": (1024, 24 * (4 * 1024**2 + 3 * 1024 * 2816 + 2 * 1024 + 2 * 64) + 1024),
    "1.3b": (2048, 24 * (4 * 2048**2 + 3 * 2048 * 5504 + 2 * 2048 + 2 * 128) + 2048),
    "8b": (4096, 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096 + 2 * 128) + 4096),
}
VOCAB = 50304


@pytest.fixture(autouse=True)
def fused_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused AdamW has kernels for the shapes of meta tensors, only its constructor does not know."""
    optimizer: Any = importlib.import_module("torch.optim.optimizer")
    known = optimizer._get_fused_kernels_supported_devices()
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [*known, "meta"])


def on_meta(shape: ModelConfig, dtype: torch.dtype = torch.bfloat16) -> Transformer:
    with META:
        model = Transformer(shape, dtype)
    model.reset_tables(META)
    return model


def batch(rows: int, length: int, documents: bool = False) -> Batch:
    ids = torch.arange(rows * length).view(rows, length) % 40
    numbers = (torch.arange(length) // 5).expand(rows, -1).int() if documents else None
    return Batch(ids, ids, numbers, torch.arange(length).expand(rows, -1) % 5 if documents else None)


@pytest.mark.parametrize("preset", SHAPES)
@pytest.mark.parametrize("what", ["none", "full"])
def test_the_four_shapes_of_the_bench_go_forward_and_backward(preset: str, what: Any) -> None:
    width, beside = SHAPES[preset]
    shape = ModelSettings.model_validate({"preset": preset}).resolve(VOCAB, 1024)
    model = on_meta(shape)
    recompute(model, what)
    assert sum(value.numel() for value in model.parameters()) == shape.num_parameters == beside + 2 * VOCAB * width
    rows = batch(2, 1024)
    hidden = model(rows.input_ids.to(META))
    assert hidden.shape == (2, 1024, width) and hidden.dtype == torch.bfloat16
    loss = CausalLMObjective(model)(rows.to(META))
    assert loss.shape == () and loss.dtype == torch.float32
    loss.backward()
    assert all(value.grad is not None and value.grad.dtype == torch.float32 for value in model.parameters())


def trainer(folder: Any, optimizer: str, batches: Any, what: Any = "none") -> Trainer:
    shape = ModelConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=20,
    )
    model = on_meta(shape)
    recompute(model, what)
    recipe = Recipe(
        TrainSettings(max_steps=3, micro_batch_size=2, global_batch_size=6, max_grad_norm=1.0, log_norms=True),
        OptimizerSettings.model_validate({"name": optimizer}),
        SchedulerSettings(warmup_steps=2),
        ParallelSettings(),
    )
    job = Job(folder, recipe, {}, {}, batches, make_horizon(recipe, 6, 20, 100), 20, 6)
    bench = Bench(World(), META, Console(quiet=True))
    trained = Trained(CausalLMObjective(model), parameter_roles(model), 1000.0)
    return make_trainer(job, bench, Start(None, torch.bfloat16, False), trained)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(("documents", "what"), [(False, "none"), (True, "selective")])
def test_nothing_in_the_step_reads_the_device(tmp_path: Path, optimizer: str, documents: bool, what: Any) -> None:
    with opened(tmp_path / "run") as run:
        made = trainer(run, optimizer, lambda step: batch(6, 20, documents), what)
        assert isinstance(made.batches, Ahead)
        for step in range(3):
            rows = made.batches(step)
            loss = made._backward(rows)
            norm, finite = made._clip(loss)
            with made._reporting.norms.around(step + 1):
                made.optimizer.step(made.schedule.factor(step), finite)
            made._count(rows, loss, norm, finite)
        assert norm.device == loss.device == finite.device == META
        assert made.progress.step == 3 and len(made._window.pending) == 3
        with pytest.raises((RuntimeError, NotImplementedError)):
            made._window.gather(3)  # the one place that reads: as the test must see it


def test_a_gpu_gets_pinned_batches_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmforge.training import assemble

    pinned: list[tuple[int, ...]] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(tuple(self.shape)) or self)
    fed = assemble._fed(lambda step: batch(2, 4 + step, documents=True), torch.device("cuda"))
    assert fed(0).input_ids.shape == (2, 4) and fed(1).input_ids.shape == (2, 5)
    assert pinned[:4] == [(2, 4)] * 4 and pinned[4:8] == [(2, 5)] * 4
    plain = assemble._fed(lambda step: batch(2, 4), torch.device("cpu"))
    assert not isinstance(plain, Ahead)
