"""Norms by group against sums by hand; none where nobody asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from toy import ROLES, toy_batch, toy_trainer
from toy import run_folder as opened


def test_norms_by_group_are_those_of_the_step(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {"max_steps": 1, "log_every": 1, "log_norms": True})
        before = {name: value.detach().clone() for name, value in trainer.optimizer.parameters.items()}
        trainer._backward(toy_batch(0))
        grads = {
            name: value.grad.clone() for name, value in trainer.optimizer.parameters.items() if value.grad is not None
        }
        trainer.train()
    (line,) = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    after = dict(trainer.optimizer.parameters.items())
    for group in set(ROLES.values()):
        members = [name for name, role in ROLES.items() if role == group]
        gradient = sum(float(grads[name].double().square().sum()) for name in members) ** 0.5
        update = sum(float((after[name].detach() - before[name]).double().square().sum()) for name in members) ** 0.5
        weight = sum(float(after[name].detach().double().square().sum()) for name in members) ** 0.5
        assert line["gradient_norm"][group] == pytest.approx(gradient, rel=1e-4)
        assert line["update_norm"][group] == pytest.approx(update, rel=1e-3) and update > 0
        assert line["weight_norm"][group] == pytest.approx(weight, rel=1e-4)
    total = torch.tensor(list(line["gradient_norm"].values())).square().sum().sqrt()
    assert float(total) == pytest.approx(line["grad_norm"], rel=1e-4)


def test_they_change_no_weight_and_come_with_their_line_only(tmp_path: Path) -> None:
    weights = []
    for wanted in (False, True):
        with opened(tmp_path / str(wanted)) as run:
            trainer = toy_trainer(run, {"max_steps": 5, "log_every": 2, "log_norms": wanted})
            trainer.train()
            weights.append({name: value.detach().clone() for name, value in trainer.optimizer.parameters.items()})
        lines = [json.loads(text) for text in (tmp_path / str(wanted) / "metrics.jsonl").read_text().splitlines()]
        with_norms = [line["step"] for line in lines if "update_norm" in line]
        assert with_norms == ([2, 4] if wanted else [])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_they_are_those_before_the_cut_as_grad_norm_is(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as run:
        toy_trainer(run, {"max_steps": 1, "log_every": 1, "log_norms": True, "max_grad_norm": 1e-3}).train()
    (line,) = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    total = torch.tensor(list(line["gradient_norm"].values())).square().sum().sqrt()
    assert line["grad_norm"] > 0.01 and float(total) == pytest.approx(line["grad_norm"], rel=1e-4)
