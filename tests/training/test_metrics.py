"""The split of a step's time, by a clock that the test moves; on a GPU by events that nobody waits for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmforge.training import metrics
from llmforge.training.metrics import StepSplit, mfu_formula


class Clockwork:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_each_part_gets_its_seconds_and_what_lies_between_steps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork()
    monkeypatch.setattr(metrics, "time", clock)
    split = StepSplit(torch.device("cpu"))
    for _ in range(2):
        split.begin()
        for part, seconds in (("data", 1), ("forward", 2), ("backward", 4), ("forward", 2), ("backward", 4)):
            clock.now += seconds
            split.mark(part)
        clock.now += 8
        split.mark("optimizer")
        clock.now += 0.5
        split.mark("logging")
        clock.now += 1000  # a validation
    assert split.close() == {"data": 1, "forward": 4, "backward": 8, "optimizer": 8, "logging": 0.5}
    split.begin()
    clock.now += 3
    split.mark("data")
    assert split.close()["data"] == 3
    assert set(split.close().values()) == {0.0}


class FakeEvent:
    """Stands for torch.cuda.Event: its time is when the device comes to it, which is later than `record`."""

    waited = 0
    made = 0

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        FakeEvent.made += 1
        self.at = 0.0

    def record(self) -> None:
        self.at = 10.0 * FakeEvent.made

    def elapsed_time(self, other: FakeEvent) -> float:
        return other.at - self.at

    def synchronize(self) -> None:
        FakeEvent.waited += 1


def test_on_a_gpu_events_are_read_at_the_end_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    split: Any = StepSplit(torch.device("cuda"))
    for _ in range(3):
        split.begin()
        for part in ("data", "forward", "backward", "optimizer", "logging"):
            split.mark(part)
    assert FakeEvent.waited == 0 and not any(split._seconds.values())
    assert split.close() == dict.fromkeys(("data", "forward", "backward", "optimizer", "logging"), pytest.approx(0.01))
    assert len(split._marks) == 1


def test_the_formula_of_mfu() -> None:
    assert mfu_formula(100_000, 8.6e8, 989e12, 1) == (
        "MFU 8.7% = 100,000 tokens/s x 860 MFLOP a token / 989 TFLOP/s of matrix products"
    )
    assert "/ 2 devices" in str(mfu_formula(100_000, 8.6e8, 989e12, 2))
    assert mfu_formula(100_000, 8.6e8, None, 1) is None


def test_a_step_of_a_gpu_takes_what_it_takes_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is done with a step as soon as it is asked for; a line waits for all of them."""
    clock = Clockwork()
    monkeypatch.setattr(metrics, "time", clock)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    run = metrics.Clock(torch.device("cuda"))
    for step in range(1, 21):
        run.step_begins()
        clock.now += 30.0 if step == 1 else 0.001
        run.step_ends()
        if step % 5 == 0:
            clock.now += 5 * 0.2  # the wait
            run.caught_up()
            with run.aside():
                clock.now += 7.0
    assert run.first_step == 30.0
    assert run.step_seconds == pytest.approx(0.2, rel=0.15)
    host = metrics.Clock(torch.device("cpu"))
    for _ in range(3):
        host.step_begins()
        clock.now += 2.0
        host.step_ends()
        host.caught_up()
    assert host.step_seconds == 2.0
