"""The loop on a toy model: what it reports, when it gives up, what its observers see, what it does not know."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import LENGTH, toy_batch, toy_trainer
from toy import run_folder as opened

from llmforge.errors import DataError, MachineError, UsageError
from llmforge.runtime.distributed import World
from llmforge.tokens.batch import Batch
from llmforge.training import parallel
from llmforge.training.loop_parts import StepInfo
from llmforge.training.metrics import MAX_NOT_FINITE, mfu
from llmforge.training.parallel import choose_compile, choose_strategy
from llmforge.training.settings import ParallelSettings

CPU = torch.device("cpu")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_every_line_says_the_same_things(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        result = toy_trainer(run, {"max_steps": 30, "log_every": 10}).train()
    rows = lines(tmp_path / "run")
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[2]["loss"] < 0.9 * rows[0]["loss"] and result.train_loss == rows[2]["loss"]
    keys = {"step", "tokens", "loss", "lr", "grad_norm", "tokens_per_second", "step_seconds", "memory_bytes", "mfu"}
    assert all(set(row) == keys | {"split_seconds"} for row in rows)
    assert result.tokens == rows[-1]["tokens"] == 30 * 7 * LENGTH


def test_the_logged_loss_is_the_mean_over_tokens_of_the_steps_since_the_last_line(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as run:
        trainer = toy_trainer(run, {"max_steps": 2, "log_every": 2}, optimizer={"name": "adamw", "lr": 1e-12})
        batches = [toy_batch(0), toy_batch(1)]
        with torch.no_grad():
            total = sum(float(trainer.objective(batch)) for batch in batches)
        trainer.train()
    assert lines(tmp_path / "a")[0]["loss"] == pytest.approx(total / sum(b.num_trained for b in batches), rel=1e-6)


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {"max_steps": 1, "max_grad_norm": 0.01})
        loss = trainer._backward(toy_batch(0))
        norm, finite = trainer._clip(loss)
    grads = [value.grad for value in trainer.optimizer.parameters.values() if value.grad is not None]
    assert float(norm) > 0.01 and bool(finite)
    assert float(torch.nn.utils.get_total_norm(grads)) == pytest.approx(0.01, rel=1e-3)


def poisoned(steps: set[int]) -> Any:
    """Batches that make the loss NaN at some steps, through a weight that `Batch` cannot hold: ids of a NaN row."""

    def batches(step: int) -> Batch:
        batch = toy_batch(step)
        return Batch(torch.full_like(batch.input_ids, 22), batch.labels) if step in steps else batch

    return batches


def without_22(step: int) -> Batch:
    batch = toy_batch(step)
    return Batch(batch.input_ids % 22, batch.labels % 22 + (batch.labels < 0) * (-100 - batch.labels % 22))


def poison(trainer: Any, steps: set[int]) -> None:
    with torch.no_grad():
        trainer.objective.model.embed_tokens.weight[22] = float("nan")
    bad = poisoned(steps)
    trainer.batches = lambda step: bad(step) if step in steps else without_22(step)


def test_a_step_that_is_not_finite_is_left_out_and_told(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {"max_steps": 8, "log_every": 4})
        poison(trainer, {2})
        trainer.train()
    rows = lines(tmp_path / "run")
    assert rows[0]["steps_not_applied"] == 1 and "steps_not_applied" not in rows[1]
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in rows)
    weights = dict(trainer.objective.model.named_parameters())
    assert bool(weights["lm_head.weight"].isfinite().all())


def test_three_in_a_row_end_the_run_with_the_steps_named(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {"max_steps": 20, "log_every": 5})
        poison(trainer, {3, 4, 5, 6, 7, 8, 9})
        with pytest.raises(DataError) as caught:
            trainer.train()
    assert "not finite at steps 4 to 10" in str(caught.value) and "optimizer.lr" in str(caught.value)
    assert MAX_NOT_FINITE == 3
    assert bool(trainer.objective.model.lm_head.weight.isfinite().all())


def test_observers_get_a_frozen_value(tmp_path: Path) -> None:
    seen: list[StepInfo] = []
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {"max_steps": 3})
        trainer.observers = (seen.append,)
        trainer.train()
    assert [(info.step, info.last) for info in seen] == [(1, False), (2, False), (3, True)]
    with pytest.raises(AttributeError):
        seen[0].step = 5  # type: ignore[misc]


class Rising:
    """A validation whose loss rises from the second time on."""

    whole_factor = 1.0

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, objective: object, whole: bool) -> dict[str, object]:
        self.times += 1
        return {"valid_loss": float(self.times)}


@pytest.mark.parametrize("ends_by", ["time", "early_stopping"])
def test_the_last_steps_stand_in_a_line_however_the_run_ends(tmp_path: Path, ends_by: str) -> None:
    seen: list[StepInfo] = []
    budget = {"max_minutes": 0.01} if ends_by == "time" else {"max_steps": 500}
    stopping = {} if ends_by == "time" else {"eval_every": 7, "early_stopping": {"patience": 2}}
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {"log_every": 10_000, **budget, **stopping}, validation=Rising())
        trainer.observers = (seen.append,)
        result = trainer.train()
    told = [line for line in lines(tmp_path / "run") if "loss" in line]
    assert [line["step"] for line in told] == [result.steps]
    assert result.train_loss == told[0]["loss"] and result.tokens_per_second is not None
    assert [info.step for info in seen if info.last] == [result.steps]


def test_fewer_rows_than_processes(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run, pytest.raises(UsageError, match="cannot be shared by 8"):
        toy_trainer(run, {"max_steps": 1}, world=World(0, 8))


def test_strategies() -> None:
    model, two = torch.nn.Linear(2, 2), World(0, 2)
    assert choose_strategy(ParallelSettings(), World(), model, CPU) == "none"
    assert choose_strategy(ParallelSettings(), two, model, CPU) == "ddp"
    assert choose_strategy(ParallelSettings(strategy="fsdp2"), two, model, CPU) == "fsdp2"
    with pytest.raises(UsageError, match="2 processes"):
        choose_strategy(ParallelSettings(strategy="none"), two, model, CPU)


def test_compile_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_missing_compiler", lambda: None)
    assert choose_compile("auto", CPU, 1e11)[0] is False
    assert choose_compile("auto", CPU, 1e16)[0] is True
    assert choose_compile("auto", CPU, None, seconds=30)[0] is False
    assert choose_compile("auto", CPU, None, seconds=3600)[0] is True
    assert choose_compile("auto", CPU, None, seconds=600)[0] == "layers"
    assert choose_compile("layers", CPU, 1e11)[0] == "layers"
    assert choose_compile(False, CPU, 1e16)[0] is False
    monkeypatch.setattr(parallel, "_missing_compiler", lambda: "C++ compiler")
    assert choose_compile("auto", CPU, 1e16) == (False, "there is no C++ compiler")
    with pytest.raises(MachineError, match="C\\+\\+ compiler"):
        choose_compile(True, CPU, 1e16)
    with pytest.raises(MachineError, match="C\\+\\+ compiler"):
        choose_compile("layers", CPU, 1e16)


def test_mfu_by_hand() -> None:
    assert mfu(1000, 6e9, 100e12, 2) == pytest.approx(0.03)
    assert mfu(1000, 6e9, None, 2) is None


def test_training_knows_no_model_no_inference_no_tokenizer() -> None:
    folder = Path(parallel.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            parts = name.split(".")
            wrong = parts[0] == "llmforge" and parts[1] in ("model", "inference", "tokenizer", "evaluation", "finetune")
            assert not wrong, f"{path.name} imports {name}"
