"""When a run is said to memorise, and when not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmforge.training.overfitting import Look, judge_fit, judge_run, looks

HEALTHY = [Look(100, 3.0, 3.1), Look(200, 2.5, 2.7), Look(300, 2.2, 2.5), Look(400, 2.0, 2.4)]
RISING = [Look(200, 2.0, 2.1), Look(400, 1.4, 1.52), Look(600, 1.0, 1.7), Look(800, 0.7, 1.9)]


def test_the_line_of_a_run_that_memorises() -> None:
    found = judge_fit(RISING, 0.6, 1.9, 12.3, restored=False)
    assert found is not None and found.rising_since == 400 and found.best_valid_loss == 1.52
    assert found.note().startswith(
        "it memorises: training loss 0.60, validation 1.90 and rising since step 400 (1.52), after 12.3 passes"
    )
    assert found.as_json()["note"] == found.note()


def test_nothing_is_said_when_all_is_well() -> None:
    assert judge_fit(HEALTHY, 2.0, 2.4, 0.8, restored=False) is None
    assert judge_fit(RISING, 0.6, 1.52, 12.3, restored=True) is None
    assert judge_fit([], 1.0, None, 9.0, restored=False) is None
    assert judge_fit([], None, 1.0, 9.0, restored=False) is None


@pytest.mark.parametrize(
    "tail",
    [
        [Look(500, 1.9, 2.42)],  # one validation a little above the best
        [Look(500, 1.9, 2.41), Look(600, 1.8, 2.405)],  # within a hundredth: the sample wanders
        [Look(500, 1.9, 2.6), Look(600, 1.8, 2.41)],  # down again
        [Look(500, 2.3, 2.6), Look(600, 2.4, 2.7)],  # both rise: it diverges, which is something else
    ],
)
def test_wandering_is_not_memorising(tail: list[Look]) -> None:
    last = tail[-1]
    assert judge_fit([*HEALTHY, *tail], last.train_loss, last.valid_loss, 0.9, restored=False) is None


def test_without_validations_on_the_way_the_gap_after_some_passes_tells() -> None:
    found = judge_fit([], 0.6, 1.9, 5.0, restored=False)
    assert found is not None and found.rising_since is None and "rising" not in found.note()
    assert judge_fit([], 0.6, 1.9, 1.0, restored=False) is None  # one pass: nothing was seen twice
    assert judge_fit([], 1.5, 1.9, 5.0, restored=False) is None


def test_what_is_read_from_metrics(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [{"step": 0, "valid_loss": 5.0}]
    for look in RISING:
        lines += [{"step": look.step, "loss": look.train_loss}, {"step": look.step, "valid_loss": look.valid_loss}]
    lines += [{"step": 900, "loss": 0.6}, {"step": 900, "valid_loss": 1.95, "whole_split": True}]
    assert looks(lines) == RISING
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n3\n{cut")
    found = judge_run(tmp_path, 1.95, 12.0, restored=False)
    assert found is not None and found.rising_since == 400 and found.train_loss == 0.6
    assert found.valid_loss == 1.95  # of the whole split, as the run's last line has it
    assert judge_run(tmp_path / "nothing", 1.0, 1.0, restored=False) is None
