"""Memory that runs out: how it is recognised, and that a step is made again from smaller micro-batches, or told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import ToyModel, toy_batch, toy_trainer
from toy import run_folder as opened

from llmforge.errors import MachineError
from llmforge.runtime.distributed import World
from llmforge.runtime.memory import Shortage, shortage
from llmforge.tokens.batch import Batch
from llmforge.training.memory import attempt, largest_part, token_losses
from llmforge.training.micro_batches import micro_batches
from llmforge.training.objective import CausalLMObjective
from llmforge.training.parallel import Parallel
from llmforge.training.state import Saved, capture

CPU = torch.device("cpu")
TOO_MUCH = 2**46


def exhaust() -> None:
    """Asks torch's own allocator for more than there is."""
    torch.empty(TOO_MUCH, dtype=torch.uint8)


def raised(work: Callable[[], object]) -> BaseException:
    try:
        work()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_what_running_out_of_memory_looks_like() -> None:
    assert shortage(raised(exhaust)) == Shortage(TOO_MUCH)
    found = shortage(raised(lambda: np.empty(TOO_MUCH, dtype=np.uint8)))
    assert found == Shortage(TOO_MUCH)
    assert shortage(MemoryError()) == Shortage(None)
    gpu = (
        "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1 GiB is free"
    )
    assert shortage(torch.OutOfMemoryError(gpu)) == Shortage(3 * 2**29)
    assert shortage(RuntimeError("std::bad_alloc")) == Shortage(None)
    compiled = "aoti_torch_{}(2, int_array_0, 0, &buf9_handle) API call failed at /tmp/x.main.cpp, line 24"
    for call in ("empty_strided", "cpu_mm_out", "cpu_bmm_out", "cpu__scaled_dot_product_flash_attention_for_cpu"):
        assert shortage(RuntimeError(compiled.format(call))) == Shortage(None)
    assert shortage(RuntimeError(compiled.format("index_put_out"))) is None
    assert shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert shortage(OSError(12, "Cannot allocate memory")) is None


def test_another_error_goes_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        attempt(lambda: torch.zeros(2, 3) @ torch.zeros(2, 3), CPU)


def test_what_was_made_before_the_failure_is_let_go() -> None:
    class Witness:
        alive = 0

        def __init__(self) -> None:
            Witness.alive += 1

        def __del__(self) -> None:
            Witness.alive -= 1

    def work() -> None:
        kept = Witness()
        exhaust()
        del kept

    assert isinstance(attempt(work, CPU), Shortage) and Witness.alive == 0


class Limited:
    """Stands before an objective: more rows than `fits` ask for too much memory, forward or backward."""

    def __init__(self, trainer: Any, fits: int, at: str = "forward") -> None:
        self.inner, self.fits, self.at, self.seen = trainer.objective, fits, at, []
        trainer.objective = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, batch: Batch) -> torch.Tensor:
        self.seen.append(batch.num_rows)
        if batch.num_rows <= self.fits:
            return self.inner(batch)
        if self.at == "forward":
            exhaust()
        loss = self.inner(batch)
        loss.register_hook(lambda _: exhaust())
        return loss


@pytest.mark.parametrize("at", ["forward", "backward"])
def test_the_step_is_made_again_from_half_the_rows_and_nothing_counts_twice(tmp_path: Path, at: str) -> None:
    limits = {"max_steps": 5, "micro_batch_size": 16, "log_every": 1}
    with opened(tmp_path / "whole") as run:
        toy_trainer(run, limits).train()
        whole = [line for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    with opened(tmp_path / "small") as run:
        trainer = toy_trainer(run, limits)
        limited = Limited(trainer, fits=2, at=at)
        result = trainer.train()
        log = (run.path / "log.txt").read_text()
    assert limited.seen[:6] == [7, 3, 1, 2, 2, 2] and len(limited.seen) == 2 + 5 * 4
    assert result.micro_batch_size == 2
    assert "memory ran out with 7 rows at once (70368.7 GB was asked for" in log and "still takes 7 rows" in log
    for one, other in zip((tmp_path / "small" / "metrics.jsonl").read_text().splitlines(), whole, strict=True):
        assert json.loads(one)["loss"] == pytest.approx(json.loads(other)["loss"], rel=1e-5)
        assert json.loads(one)["tokens"] == json.loads(other)["tokens"]


def test_when_no_row_fits_the_line_says_what_was_asked_for_and_what_helps(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {"max_steps": 2})
        Limited(trainer, fits=0)
        with pytest.raises(MachineError) as caught:
            trainer.train()
    text = str(caught.value)
    assert "one row at once" in text and "70368.7 GB was asked for" in text, text
    assert "activation_checkpointing=full" in text and caught.value.exit_code == 4


def test_a_resumed_run_keeps_the_smaller_micro_batches(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {"max_steps": 4, "save_every": 2, "micro_batch_size": 16})
        Limited(trainer, fits=4)
        trainer.train()
        tensors, meta = capture(trainer.objective.model, trainer.optimizer, trainer.schedule, trainer.progress, {}, {})
        meta |= {"window": {"read": [], "not_finite": 0}, "metrics_position": 0, "reserve": 0.0, "choices": {}}
        again = toy_trainer(run, {"max_steps": 6, "micro_batch_size": 16})
        limited = Limited(again, fits=99)
        again.train(Saved(run.path, tensors, meta))
    assert set(limited.seen) == {3, 4}


@pytest.mark.parametrize(
    ("batch_rows", "processes", "size", "largest"),
    [(7, 1, 16, 7), (7, 1, 4, 4), (7, 1, 3, 3), (9, 2, 4, 3), (1, 1, 1, 1)],
)
def test_the_largest_micro_batch_is_that_of_the_split(batch_rows: int, processes: int, size: int, largest: int) -> None:
    batch = toy_batch(0, batch_rows)
    parts = [part.num_rows for rank in range(processes) for part in micro_batches(batch, World(rank, processes), size)]
    assert max(parts) == largest_part(batch_rows, processes, size) == largest


def test_validation_takes_half_the_rows_too() -> None:
    objective = Parallel(CausalLMObjective(ToyModel()), "none", World(), CPU)
    batch = toy_batch(0)
    wanted = objective.token_losses(batch)
    plain = objective.token_losses
    objective.token_losses = lambda part: plain(part) if part.num_rows < 3 else exhaust()  # type: ignore[assignment,method-assign,return-value]
    torch.testing.assert_close(token_losses(objective, batch, CPU), wanted)
    objective.token_losses = lambda part: exhaust()  # type: ignore[assignment,method-assign,return-value]
    with pytest.raises(MachineError, match="validate on 1 rows"):
        token_losses(objective, batch, CPU)
