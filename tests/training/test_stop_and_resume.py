"""A stop signal in the middle of anything: the state is saved whole, and the rest is the same bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import run_folder as opened
from toy import toy_batch, toy_trainer

from llmforge.checkpoint import state_writer
from llmforge.checkpoint.train_state import latest_state
from llmforge.errors import MachineError, StopRequested
from llmforge.runtime.run_folder import CLOCKED
from llmforge.training.state import open_state
from llmforge.training.trainer import Trainer

TRAIN = {"max_steps": 20, "log_every": 4, "save_every": 5, "eval_every": 6, "early_stopping": {"patience": 50}}


class Measured:
    """A validation over two batches; `at` is called in the middle of one: (how many before, whether it is the last)."""

    whole_factor = 1.0

    def __init__(self, at: Any = None) -> None:
        self.at, self.calls = at or (lambda number, whole: None), 0

    def __call__(self, objective: Any, whole: bool) -> dict[str, object]:
        first = objective.token_losses(toy_batch(900)).sum()
        self.at(self.calls, whole)
        self.calls += 1
        return {"valid_loss": float(first + objective.token_losses(toy_batch(901)).sum()) / 80}


def made(run: Any, batches: Any = toy_batch, validation: Measured | None = None) -> Trainer:
    settings = {"name": "muon", "lr": 0.02}
    return toy_trainer(run, TRAIN, batches=batches, optimizer=settings, validation=validation or Measured())


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.objective.model.named_parameters()}


def lines(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCKED} for row in rows]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    path = tmp_path_factory.mktemp("straight") / "run"
    with opened(path) as run:
        trainer = made(run)
        trainer.train()
    return path, weights(trainer)


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def stopped_in(moment: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    if moment == "batch":
        return made(run, lambda step: (send(signal.SIGHUP) if step == 7 else None) or toy_batch(step))  # type: ignore[func-returns-value]
    if moment == "validation":
        return made(run, validation=Measured(lambda number, whole: send(signal.SIGINT) if number == 1 else None))
    if moment == "first validation":
        return made(run, validation=Measured(lambda number, whole: send() if number == 0 else None))
    if moment == "last validation":
        return made(run, validation=Measured(lambda number, whole: send() if whole else None))
    real, sent = state_writer.save_state, []

    def save(folder: Path, step: int, *rest: Any) -> Path:
        if step == 10 and not sent:
            sent.append(step)
            send(signal.SIGUSR1)
        return real(folder, step, *rest)

    monkeypatch.setattr(state_writer, "save_state", save)
    return made(run)


@pytest.mark.parametrize("moment", ["batch", "save", "validation", "first validation", "last validation"])
def test_a_signal_in_the_middle(
    moment: str, straight: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    with pytest.raises(StopRequested, match="state saved") as caught, opened(path) as run:
        stopped_in(moment, run, monkeypatch).train()
    assert caught.value.exit_code == 75
    state, notes = latest_state(path / "checkpoints")
    assert state is not None and notes == []
    steps = {"batch": [8], "validation": [6], "first validation": [0], "last validation": [20]}
    assert int(state.name.removeprefix("step-")) in steps.get(moment, range(10, 20))
    with opened(path) as run:
        trainer = made(run)
        trainer.train(open_state(state))
    assert all(torch.equal(value, straight[1][name]) for name, value in weights(trainer).items())
    assert lines(path) == lines(straight[0])


def test_a_save_that_fails_behind_ends_the_run_and_leaves_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = state_writer.save_state

    def save(folder: Path, step: int, *rest: Any) -> Path:
        if step == 10:
            raise MachineError("no space", folder)
        return real(folder, step, *rest)

    monkeypatch.setattr(state_writer, "save_state", save)
    with pytest.raises(MachineError, match="no space"), opened(tmp_path / "run") as run:
        made(run).train()
    state, notes = latest_state(tmp_path / "run" / "checkpoints")
    assert state is not None and state.name == "step-5" and notes == []
    assert json.loads((tmp_path / "run" / "run.json").read_text())["exit_code"] == 4


TWICE = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from toy import run_folder, toy_trainer
from llmforge.checkpoint import train_state
from llmforge.runtime.exits import guarded

real = train_state.publish_folder

def publish(temp, final):
    if final.name == "step-10":  # in the thread that writes: everything is there but the rename
        os.kill(os.getpid(), signal.SIGTERM)
        while True:  # one that comes before the first was looked at counts for nothing
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGTERM)
    real(temp, final)

train_state.publish_folder = publish

def work():
    with run_folder(Path(sys.argv[2])) as run:
        toy_trainer(run, {"max_steps": 20, "save_every": 5}, batches=batches).train()

from toy import toy_batch

def batches(step):
    time.sleep(0.02)
    return toy_batch(step)

sys.exit(guarded(work))
"""


def test_a_second_signal_within_a_save_ends_at_once_with_the_one_before_whole(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", TWICE, here, str(tmp_path / "run")], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 130 and "stopped at once" in done.stderr, done.stderr
    state, notes = latest_state(tmp_path / "run" / "checkpoints")
    assert state is not None and state.name == "step-5" and notes == []
