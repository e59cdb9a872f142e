"""A trace of the steps that were asked for, wherever the run begins and ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy import run_folder as opened
from toy import toy_trainer

from llmforge.runtime.console import Console
from llmforge.training.profiling import traced
from llmforge.training.settings import TrainSettings

GROUPS = 4  # of parameters: matrix, embedding, head, vector; the optimizer takes one after the other


def names(path: Path) -> list[str]:
    return [str(event.get("name")) for event in json.loads(path.read_text())["traceEvents"]]


def traced_run(folder: Path, steps: tuple[int, int], length: int) -> Any:
    with opened(folder) as run, traced(steps, run, 0, Console()) as observers:
        trainer = toy_trainer(run, {"max_steps": length, "profile_steps": steps})
        trainer.observers = observers
        trainer.train()
    return folder / f"trace-{steps[0]}-{steps[1]}.json"


@pytest.mark.parametrize(("steps", "count"), [((1, 1), 1), ((2, 3), 2), ((3, 99), 2)])
def test_the_trace_holds_those_steps(tmp_path: Path, steps: tuple[int, int], count: int) -> None:
    path = traced_run(tmp_path / "run", steps, length=4)
    assert names(path).count("aten::_fused_adamw_") == GROUPS * count
    assert path.name in (tmp_path / "run" / "log.txt").read_text()
    assert not list(path.parent.glob("*.part"))


def test_a_step_that_never_comes_leaves_no_trace_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not traced_run(tmp_path / "run", (9, 10), length=2).exists()
    said = "there is no trace of steps 9 to 10 (train.profile_steps): the run ended after step 2"
    assert said in capsys.readouterr().err and said in (tmp_path / "run" / "log.txt").read_text()
    traced_run(tmp_path / "other", (2, 9), length=2)
    assert "no trace" not in capsys.readouterr().err


def test_the_first_step_comes_first() -> None:
    with pytest.raises(ValueError, match="profile_steps"):
        TrainSettings(max_steps=5, profile_steps=(4, 2))
