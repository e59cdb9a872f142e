"""Spikes: what counts as one, that the run goes back past its data and nothing else changes, kills and limits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import LENGTH, VOCAB, toy_batch, toy_trainer
from toy import run_folder as opened

from llmforge.checkpoint.train_state import latest_state
from llmforge.errors import DataError
from llmforge.runtime.run_folder import CLOCKED
from llmforge.tokens.batch import Batch
from llmforge.training.loop_parts import StepInfo
from llmforge.training.settings import Spikes
from llmforge.training.spikes import Found, SpikeWatch, data_step, run_step
from llmforge.training.state import open_state
from llmforge.training.trainer import Trainer

SPIKES = {"window": 8, "threshold": 12.0}


def test_data_of_a_step_by_hand() -> None:
    assert [data_step(step, []) for step in range(3)] == [0, 1, 2]
    assert [data_step(step, [2, 3, 6]) for step in range(6)] == [0, 1, 4, 5, 7, 8]
    assert [run_step(data, [2, 3, 6]) for data in range(9)] == [0, 1, None, None, 2, 3, None, 4, 5]
    gone = [0, 5, 6, 11]
    assert all(run_step(data_step(step, gone), gone) == step for step in range(50))


def rows(losses: list[float]) -> list[tuple[float, float, bool, int]]:
    return [(loss * 10, 1.0, bool(np.isfinite(loss)), 10) for loss in losses]


def test_a_spike_is_measured_in_robust_deviations() -> None:
    """Against the same figure by numpy, at both sides of the threshold, on losses that fall."""
    losses = np.random.default_rng(0).normal(0.0, 0.1, 68) + np.linspace(9.0, 3.0, 68)
    leaps = np.array([losses[n] - np.median(losses[n - 4 : n]) for n in range(4, 68)])
    spread = 1.4826 * np.median(np.abs(leaps - np.median(leaps)))
    expected = float(np.median(losses[-4:]) + np.median(leaps))
    for deviations, guilty in ((11.9, False), (12.1, True)):
        watch = SpikeWatch(Spikes())
        assert watch.look(rows(losses.tolist()), 68) is None
        found = watch.look(rows([expected + deviations * float(spread)]), 69)
        assert (found is not None) == guilty
        if found is not None:
            assert found.index == 68 and found.deviations == pytest.approx(12.1, abs=0.01)
            assert found.expected == pytest.approx(expected) and "step 69" in found.text


def test_before_the_window_is_full_and_below_the_median_nothing_is_a_spike() -> None:
    watch = SpikeWatch(Spikes())
    assert watch.look(rows([3.0 + 0.01 * (n % 7) for n in range(67)] + [9.0]), 68) is None
    assert watch.look(rows([0.1]), 69) is None
    assert watch.look(rows([float("nan")]), 70) == Found(69)


def test_losses_that_hardly_differ_make_no_spike_of_a_ripple() -> None:
    watch = SpikeWatch(Spikes())
    assert watch.look(rows([2.0] * 68 + [2.05]), 69) is None
    assert watch.look(rows([2.2]), 70) is not None


def test_the_window_doubles_where_it_spikes_again_at_once() -> None:
    watch = SpikeWatch(Spikes(skip_steps=1, max_rewinds=4))
    skips = [watch.leave_out(Found(20), lambda step: [f"d{step}"]) for _ in range(4)]
    assert [skip.at for skip in skips] == [20, 19, 17, 13]
    assert [skip.data for skip in skips[:3]] == [(20,), (19, 21), (17, 18, 22, 23)]
    assert skips[1].documents == ("d19", "d21")
    assert watch.reach == 8 and len(watch.left_out) == len({step for skip in skips for step in skip.data})
    with pytest.raises(DataError, match=r"4 times already; its documents: d\d+"):
        watch.leave_out(Found(30), lambda step: [f"d{step}"])
    again = SpikeWatch(watch.settings)
    again.restore(json.loads(json.dumps(watch.saved())))
    assert again.skips == watch.skips


def wrong_labels(step: int) -> Batch:
    """A batch against the rule that all others teach."""
    batch = toy_batch(step)
    labels = torch.where(batch.labels >= 0, (batch.labels + 11) % VOCAB, -100)
    return Batch(batch.input_ids, labels)


def batches_with(poisoned: set[int]) -> Any:
    return lambda step: wrong_labels(step) if step in poisoned else toy_batch(step)


def trainer_of(run: Any, batches: Any, **changes: Any) -> Trainer:
    train = {"max_steps": 60, "log_every": 5, "save_every": 15, "spikes": SPIKES, **changes}
    trainer = toy_trainer(run, train, batches=batches, optimizer={"name": "muon", "lr": 0.02})
    trainer.config = dataclasses.replace(trainer.config, documents=lambda step: [f"document {step}"])
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.objective.model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lines(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKED} for line in found]


@pytest.mark.parametrize("poisoned", [{41}, {33, 50}], ids=str)
def test_the_run_is_as_if_the_poisoned_data_had_never_been_there(poisoned: set[int], tmp_path: Path) -> None:
    with opened(tmp_path / "a") as run:
        trainer = trainer_of(run, batches_with(poisoned))
        result = trainer.train()
    with opened(tmp_path / "b") as run:
        clean = trainer_of(run, lambda step: toy_batch(data_step(step, poisoned)))
        clean.train()
    assert same(weights(trainer), weights(clean))
    assert list(result.left_out) == sorted(poisoned) and result.steps == 60
    told = [line["rewind"] for line in lines(tmp_path / "a") if "rewind" in line]
    assert [entry["data"] for entry in told] == [[step] for step in sorted(poisoned)]
    assert [line for line in lines(tmp_path / "a") if "rewind" not in line] == lines(tmp_path / "b")
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["rewinds"] == told and told[0]["documents"] == [f"document {min(poisoned)}"]
    assert told[0]["reason"] == "loss" and told[0]["deviations"] > 12


def test_without_the_setting_a_spike_is_trained_on(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as run:
        result = trainer_of(run, batches_with({41}), spikes=None).train()
    assert not result.left_out and all("rewind" not in line for line in lines(tmp_path / "a"))


class Killed(Exception):
    pass


@pytest.mark.parametrize("moment", [40, 44, 46, 58])
def test_killed_before_or_after_the_spike_the_same_comes_out(moment: int, tmp_path: Path) -> None:
    """Left in the middle by an exception, and taken up from the newest state: same weights, same metrics."""
    with opened(tmp_path / "a") as run:
        straight = trainer_of(run, batches_with({41}))
        straight.train()

    def kill(info: StepInfo) -> None:
        if info.step == moment:
            raise Killed

    with pytest.raises(Killed), opened(tmp_path / "b") as run:
        first = trainer_of(run, batches_with({41}))
        first.observers = (kill,)
        first.train()
    with opened(tmp_path / "b") as run:
        path, _ = latest_state(tmp_path / "b" / "checkpoints")
        assert path is not None and path.name != "step-0"
        second = trainer_of(run, batches_with({41}))
        second.train(open_state(path))
    assert same(weights(straight), weights(second))
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "run.json").read_text())["rewinds"][0]["data"] == [41]


def test_back_to_the_very_beginning(tmp_path: Path) -> None:
    """The only state is that of step 0, in which the optimizer has no averages yet."""
    with opened(tmp_path / "a") as run:
        trainer = trainer_of(run, batches_with({30}), max_steps=40, save_every=None)
        trainer.train()
    with opened(tmp_path / "b") as run:
        clean = trainer_of(run, lambda step: toy_batch(data_step(step, [30])), max_steps=40)
        clean.train()
    assert same(weights(trainer), weights(clean))


def test_too_many_spikes_end_the_run_with_the_documents(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as run:
        trainer = trainer_of(run, batches_with(set(range(30, 60))), spikes={**SPIKES, "max_rewinds": 2})
        with pytest.raises(DataError) as caught:
            trainer.train()
    assert "2 times already" in str(caught.value) and "document 28, document 32" in str(caught.value)
    assert caught.value.exit_code == 3
    assert latest_state(tmp_path / "a" / "checkpoints")[1] == []


def test_not_finite(tmp_path: Path) -> None:
    """An id whose embedding is NaN, in one batch: gone back from at once, though its step changed no weight."""

    def batches(step: int) -> Batch:
        batch = toy_batch(step)
        if step == 20:
            return Batch(torch.full_like(batch.input_ids, VOCAB - 1), batch.labels)
        return Batch(batch.input_ids % (VOCAB - 1), torch.where(batch.labels >= 0, batch.labels % (VOCAB - 1), -100))

    with opened(tmp_path / "a") as run:
        trainer = trainer_of(run, batches, max_steps=30)
        with torch.no_grad():
            trainer.objective.model.embed_tokens.weight[VOCAB - 1] = float("nan")  # type: ignore[union-attr,index,operator]
        result = trainer.train()
    (told,) = [line for line in lines(tmp_path / "a") if "rewind" in line]
    assert told["rewind"]["reason"] == "not_finite" and told["rewind"]["loss"] is None and told["step"] == 21
    assert list(result.left_out) == [20] and result.tokens == 30 * 7 * LENGTH
