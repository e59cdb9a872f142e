"""Trackers get what metrics.jsonl gets; those that need a package say which extra brings it."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from toy import run_folder as opened
from toy import toy_trainer

from llmforge.errors import MachineError
from llmforge.runtime.run_folder import RunFolder
from llmforge.training.tracker_settings import TensorboardTracking, Tracking, WandbTracking
from llmforge.training.trackers import flat_numbers, tracking


def settings(**values: Any) -> Tracking:
    found: Tracking = TypeAdapter(Tracking).validate_python(values)
    return found


def test_the_numbers_of_a_line() -> None:
    line = {"step": 3, "loss": 2, "whole_split": True, "name": "x", "gradient_norm": {"head": 0.5, "step": 1.0}}
    assert flat_numbers(line) == {"loss": 2.0, "gradient_norm/head": 0.5, "gradient_norm/step": 1.0}


def test_names_are_checked() -> None:
    assert settings(name="wandb").mode == "offline"  # type: ignore[union-attr]
    with pytest.raises(ValidationError):
        settings(name="mlflow")
    with pytest.raises(ValidationError):
        settings(name="jsonl", project="x")


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with opened(tmp_path / "run") as run, pytest.raises(MachineError) as caught:
        with tracking([settings(name=package)], run, 0):
            raise AssertionError("not reached")
    assert f"needs the package {package}" in str(caught.value) and f"llmforge[{package}]" in str(caught.value)


def test_only_the_first_process_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with RunFolder.open(tmp_path / "run", "pretrain", {}, passive=True) as run:
        with tracking([TensorboardTracking(name="tensorboard")], run, 0):
            assert not run.listeners


def trained(run: RunFolder, wanted: list[Tracking], steps: int, done: int = 0) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that are not ours
        with tracking(wanted, run, done):
            toy_trainer(run, {"max_steps": steps, "log_every": 2, "log_norms": True}).train()


def test_tensorboard_holds_every_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with opened(tmp_path / "run") as run:
        trained(run, [TensorboardTracking(name="tensorboard")], 6)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for key in ("loss", "grad_norm", "tokens"):
        told = [(event.step, event.value) for event in events.Scalars(key)]
        assert told == [(line["step"], pytest.approx(line[key])) for line in lines]
    assert {"gradient_norm/head", "update_norm/matrix", "split_seconds/backward"} <= set(events.Tags()["scalars"])


def test_tensorboard_forgets_what_a_resumed_run_tells_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wanted: list[Tracking] = [TensorboardTracking(name="tensorboard", log_dir=str(tmp_path / "events"))]
    with opened(tmp_path / "run") as run:
        trained(run, wanted, 8)
        with tracking(wanted, run, 4):
            run.metrics({"step": 6, "loss": 1.0})
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6]
    assert events.Scalars("loss")[-1].value == 1.0


def test_wandb_writes_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "own"))
    with opened(tmp_path / "run") as run:
        trained(run, [WandbTracking(name="wandb", run_name="toy")], 6)
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = written.read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert content.count(b"grad_norm") >= len(lines) == 3
    assert b"update_norm/matrix" in content
