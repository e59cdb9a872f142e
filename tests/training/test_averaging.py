"""Averaged weights: by hand, in and out of the model, as what a run validates and hands on, and over a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy import run_folder as opened
from toy import toy_trainer

from llmforge.checkpoint.train_state import load_state
from llmforge.training.averaging import Average, kept_share
from llmforge.training.loop_parts import StepInfo
from llmforge.training.settings import Averaging
from llmforge.training.state import Saved

TRAIN = {"max_steps": 12, "average": {"decay": 0.6}}


def test_young_averages_look_back_less() -> None:
    assert [kept_share(0.9, step) for step in (1, 2, 8, 80, 81, 5000)] == pytest.approx(
        [2 / 11, 3 / 12, 9 / 18, 0.9, 0.9, 0.9]
    )


def one_weight() -> nn.Linear:
    return nn.Linear(1, 1, bias=False)


def set_to(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_by_hand() -> None:
    model, average = one_weight(), Average(Averaging(decay=0.28))
    seen = []
    for step, value in enumerate((1.0, 2.0, 4.0), 1):
        set_to(model, value)
        average.update(model, step)
        seen.append(float(average.values["weight"]))
    # 1; .25 x 1 + .75 x 2 = 1.75; 4/13 is above .28, so .28 x 1.75 + .72 x 4 = 3.37
    assert seen == pytest.approx([1.0, 1.75, 3.37])
    assert model.weight.item() == 4.0


def test_in_place_for_a_while_and_back_even_after_an_error() -> None:
    model, average = one_weight(), Average(Averaging(decay=0.5))
    for step, value in ((1, 1.0), (2, 2.0)):
        set_to(model, value)
        average.update(model, step)
    with pytest.raises(RuntimeError, match="on the way"), average.in_place(model):
        assert model.weight.item() == pytest.approx(1.75)
        raise RuntimeError("on the way")
    assert model.weight.item() == 2.0 and float(average.values["weight"]) == pytest.approx(1.75)
    average.settle(model)
    assert model.weight.item() == pytest.approx(1.75) and not average.values


def test_a_resumed_average_that_is_not_asked_for_any_more_is_let_go() -> None:
    model = one_weight()
    average = Average(None)
    average.restore({"weight": torch.full((1, 1), 7.0)}, model)
    before = model.weight.detach().clone()
    average.settle(model)
    assert torch.equal(model.weight, before)


def test_without_settings_nothing_happens() -> None:
    model, average = one_weight(), Average(None)
    set_to(model, 3.0)
    average.update(model, 1)
    with average.in_place(model):
        assert model.weight.item() == 3.0
    average.settle(model)
    assert average.values == {} and average.weights(model)["weight"] is model.weight


class Watched:
    """A validation that keeps the weights it was shown; its loss falls, then rises."""

    whole_factor = 1.0

    def __init__(self, losses: list[float] | None = None) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []
        self.losses = losses or []

    def __call__(self, objective: Any, whole: bool) -> dict[str, object]:
        self.seen.append({name: value.detach().clone() for name, value in objective.model.named_parameters()})
        return {"valid_loss": self.losses[min(len(self.seen), len(self.losses)) - 1] if self.losses else 1.0}


def averages(folder: Path) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """The weights after each step of a run without averaging, and their average at its end, in float64."""
    with opened(folder) as run:
        trainer = toy_trainer(run, {"max_steps": 12})
        steps: list[dict[str, torch.Tensor]] = []

        def keep(info: StepInfo) -> None:
            named = trainer.objective.model.named_parameters()
            steps.append({name: value.detach().double() for name, value in named})

        trainer.observers = (keep,)
        trainer.train()
    mean = dict(steps[0])
    for number, weights in enumerate(steps[1:], 2):
        kept = min(0.6, (1 + number) / (10 + number))
        mean = {name: kept * mean[name] + (1 - kept) * value for name, value in weights.items()}
    return steps, mean


def test_a_run_validates_and_hands_on_the_average_and_trains_on_its_own_weights(tmp_path: Path) -> None:
    steps, mean = averages(tmp_path / "plain")
    validation = Watched()
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {**TRAIN, "eval_every": 6}, validation=validation)
        trainer.train()
    for name, value in trainer.objective.model.named_parameters():
        torch.testing.assert_close(value.double(), mean[name], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(validation.seen[-1][name], value)
        assert not torch.allclose(value.double(), steps[-1][name], rtol=1e-4), name
        assert not torch.equal(validation.seen[1][name].double(), steps[5][name]), "step 6 is validated by its average"


def test_observers_see_what_the_run_would_hand_on(tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, {**TRAIN, "eval_every": 6}, validation=(validation := Watched()))

        def keep(info: StepInfo) -> None:
            with info.weights():
                named = trainer.objective.model.named_parameters()
                seen.append({name: value.detach().clone() for name, value in named})

        trainer.observers = (keep,)
        trainer.train()
    for step, number in ((6, 1), (12, -1)):
        assert all(torch.equal(value, validation.seen[number][name]) for name, value in seen[step - 1].items())


def test_early_stopping_puts_the_average_of_the_best_step_back(tmp_path: Path) -> None:
    validation = Watched([9.0, 3.0, 4.0, 5.0, 3.0])
    settings = {**TRAIN, "eval_every": 3, "early_stopping": {"patience": 2}}
    with opened(tmp_path / "run") as run:
        trainer = toy_trainer(run, settings, validation=validation)
        result = trainer.train()
    assert result.stopped_early and result.best_step == 3 and result.steps == 9
    for name, value in trainer.objective.model.named_parameters():
        assert torch.equal(value, validation.seen[1][name]), "the weights validated at step 3"


def test_a_resumed_average_is_the_same_bits(tmp_path: Path) -> None:
    def weights(folder: Path, saved: Saved | None) -> dict[str, torch.Tensor]:
        with opened(folder) as run:
            trainer = toy_trainer(run, {**TRAIN, "save_every": 5, "keep_last": 5})
            trainer.train(saved)
        return {name: value.detach() for name, value in trainer.objective.model.named_parameters()}

    straight = weights(tmp_path / "straight", None)
    path = tmp_path / "straight" / "checkpoints" / "step-5"
    resumed = weights(tmp_path / "resumed", Saved(path, *load_state(path)))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
