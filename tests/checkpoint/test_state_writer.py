"""States written behind the training: what is on the disk is what was there at the moment of the save."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from llmforge.checkpoint import state_writer
from llmforge.checkpoint.state_writer import StateWriter, free_host_memory
from llmforge.checkpoint.train_state import Retention, latest_state, load_state
from llmforge.errors import DataError, MachineError

KEEP = Retention()


class Gate:
    """Holds `save_state` back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.calls, real = threading.Event(), 0, state_writer.save_state

        def held(*arguments: Any) -> Path:
            self.calls += 1
            assert self.open.wait(20)
            return real(*arguments)

        monkeypatch.setattr(state_writer, "save_state", held)


def test_what_changes_while_it_is_written_does_not_get_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    weight, generator, recent = torch.arange(1000.0), torch.get_rng_state(), [1.0, 2.0]
    with StateWriter(tmp_path, lambda: 1 << 40) as writer:
        writer.save(1, {"model.w": weight}, {"recent": recent, "rng": {"torch": generator}}, KEEP)
        writer.settle()
        weight += 5
        generator.zero_()
        recent.append(9.0)
        assert not (tmp_path / "step-1").exists()
        gate.open.set()
    tensors, meta = load_state(tmp_path / "step-1")
    assert torch.equal(tensors["model.w"], torch.arange(1000.0)) and meta["recent"] == [1.0, 2.0]
    assert meta["rng"]["torch"].any()  # type: ignore[index,call-overload]


def test_a_save_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    with StateWriter(tmp_path, lambda: 1 << 40) as writer:
        writer.save(1, {"model.w": torch.ones(3)}, {}, KEEP)
        threading.Timer(0.05, gate.open.set).start()
        writer.save(2, {"model.w": torch.ones(3)}, {}, KEEP)
        assert (tmp_path / "step-1" / "manifest.json").is_file()
    assert latest_state(tmp_path) == (tmp_path / "step-2", []) and gate.calls == 2


def failing(*_: object) -> Path:
    raise MachineError("cannot write a state of 12 bytes", "there")


@pytest.mark.parametrize("how", ["look", "wait", "save", "end"])
def test_an_error_behind_the_training_is_told_once(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_writer, "save_state", failing)
    writer = StateWriter(tmp_path, lambda: 1 << 40)
    with pytest.raises(MachineError, match="12 bytes"), writer:
        writer.save(1, {"model.w": torch.ones(3)}, {}, KEEP)
        if how == "save":
            writer.save(2, {"model.w": torch.ones(3)}, {}, KEEP)
        if how == "look":
            assert writer._thread is not None
            writer._thread.join()
        if how != "end":
            getattr(writer, how)()
    writer.look()


def test_the_error_that_ends_the_training_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_writer, "save_state", failing)
    with pytest.raises(DataError, match="the first"), StateWriter(tmp_path, lambda: 1 << 40) as writer:
        writer.save(1, {"model.w": torch.ones(3)}, {}, KEEP)
        raise DataError("the first")


def test_without_memory_for_a_copy_it_is_written_at_once(tmp_path: Path) -> None:
    with StateWriter(tmp_path, lambda: 1) as writer:
        writer.save(1, {"model.w": torch.ones(3)}, {}, KEEP)
        assert latest_state(tmp_path)[0] == tmp_path / "step-1"


def test_free_memory_is_less_than_the_machine_has() -> None:
    found = free_host_memory()
    if found is None:
        pytest.skip("no /proc/meminfo")
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < found < total


def test_retention_by_hand() -> None:
    steps = list(range(0, 110, 10))
    assert Retention(3).kept(steps, 100) == {100, 90, 80}
    assert Retention(1).kept(steps, 100) == {100, 90}
    assert Retention(2, every=40).kept(steps, 100) == {100, 90, 80, 40}
    assert Retention(2, steps=[30, 55]).kept(steps, 100) == {100, 90, 30}
    assert Retention(2, reach=67).kept(steps, 100) == {100, 90, 60}
    assert Retention(2, reach=95).kept(steps, 100) == {100, 90}
    assert Retention(3).kept(steps, 50) == {50, 40, 30}
    assert Retention(2, every=10).kept([100, 60, 50, 40], 50) == {50, 40}
