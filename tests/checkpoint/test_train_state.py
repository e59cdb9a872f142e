"""Saved states: what goes in comes out, damage is noticed, and a kill at any moment loses no earlier state."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from llmforge.checkpoint import train_state
from llmforge.checkpoint.train_state import Retention, latest_state, load_state, save_state
from llmforge.errors import DamagedError, DataError, MachineError
from llmforge.runtime import manifest


def sample(step: int, size: int = 1000) -> dict[str, Tensor]:
    return {"model.a": torch.full((size,), float(step)), "optimizer.0.exp_avg": torch.arange(size) + step}


def test_everything_comes_back_exactly(tmp_path: Path) -> None:
    shared = torch.arange(10.0)
    tensors = {
        "whole": shared,
        "view": shared[2:5],
        "transposed": torch.randn(3, 4).t(),
        "scalar": torch.tensor(7),
        "bf16": torch.randn(5).bfloat16(),
        "empty": torch.empty(0, 3),
    }
    generator = random.Random(3)
    meta = {
        "step": 12,
        "best": float("inf"),
        "rng": {"torch": torch.get_rng_state(), "python": generator.getstate(), "raw": b"\x00\xff\x01"},
        "groups": [{"lr": 0.1, "betas": (0.9, 0.95)}, None, True, "text"],
    }
    path = save_state(tmp_path, 12, tensors, meta)
    assert path == tmp_path / "step-12"
    loaded, back = load_state(path)
    assert loaded.keys() == tensors.keys()
    for name, value in tensors.items():
        assert loaded[name].dtype == value.dtype and torch.equal(loaded[name], value)
    assert back["step"] == 12 and back["best"] == float("inf")
    assert back["groups"] == [{"lr": 0.1, "betas": [0.9, 0.95]}, None, True, "text"]
    rng = back["rng"]
    assert isinstance(rng, dict) and torch.equal(rng["torch"], meta["rng"]["torch"])  # type: ignore[index]
    assert rng["raw"] == b"\x00\xff\x01"
    version, internal, gauss = rng["python"]
    again = random.Random()
    again.setstate((version, tuple(internal), gauss))
    assert again.random() == generator.random()


def test_retention_and_latest(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save_state(tmp_path, step, sample(step), {"step": step}, Retention(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-20", "step-30", "step-40"]
    assert (tmp_path / "latest").read_text() == "step-40\n"
    assert latest_state(tmp_path) == (tmp_path / "step-40", [])
    # A run that went back to an earlier step leaves the abandoned course behind.
    save_state(tmp_path, 35, sample(35), {"step": 35}, Retention(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-30", "step-35"]


def test_no_state(tmp_path: Path) -> None:
    assert latest_state(tmp_path) == (None, [])
    assert latest_state(tmp_path / "nowhere") == (None, [])
    with pytest.raises(DataError):
        load_state(tmp_path)


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.find(b'"state.json": [') + 25 if path.name == "manifest.json" else len(data) * 2 // 3] ^= 4
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -2 if path.name == "manifest.json" else -1])


def zero_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 64] = bytes(64)
    path.write_bytes(data)


DAMAGES: list[Callable[[Path], None]] = [flip_bit, truncate, zero_page, Path.unlink]


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_passed_over(file: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    for step in (10, 20):
        save_state(tmp_path, step, sample(step), {"step": step, "history": list(range(100))})
    damage(tmp_path / "step-20" / file)
    found, notes = latest_state(tmp_path)
    assert found == tmp_path / "step-10"
    assert len(notes) == 1 and "step-20" in notes[0]
    with pytest.raises((DamagedError, DataError)):
        load_state(tmp_path / "step-20")
    assert load_state(found)[1]["step"] == 10


def test_a_state_on_a_bad_sector_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (10, 20):
        save_state(tmp_path, step, sample(step), {"step": step})
    whole = manifest.digest_file

    def failing(path: Path) -> str:
        if path == tmp_path / "step-20" / "state.safetensors":
            raise OSError(errno.EIO, "Input/output error")
        return whole(path)

    monkeypatch.setattr(manifest, "digest_file", failing)
    found, notes = latest_state(tmp_path)
    assert found == tmp_path / "step-10"
    assert len(notes) == 1 and "state.safetensors: the file cannot be read: Input/output error" in notes[0]
    with pytest.raises(DamagedError, match="cannot be read"):
        load_state(tmp_path / "step-20")


def test_swapped_files_are_noticed(tmp_path: Path) -> None:
    for step in (10, 20):
        save_state(tmp_path, step, sample(step), {"step": step})
    shutil.copyfile(tmp_path / "step-10/state.safetensors", tmp_path / "step-20/state.safetensors")
    assert latest_state(tmp_path)[0] == tmp_path / "step-10"


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = save_state(tmp_path, 1, sample(1, 20), {"step": 1}) / "state.safetensors"
    whole = path.read_bytes()
    for at in random.Random(0).sample(range(len(whole) * 8), 60):
        data = bytearray(whole)
        data[at // 8] ^= 1 << at % 8
        path.write_bytes(data)
        with pytest.raises(DamagedError):
            load_state(path.parent)


def test_all_damaged_is_refused(tmp_path: Path) -> None:
    for step in (10, 20):
        flip_bit(save_state(tmp_path, step, sample(step), {"step": step}) / "state.safetensors")
    with pytest.raises(DamagedError, match="none of the 2"):
        latest_state(tmp_path)


def test_damaged_step_is_written_anew(tmp_path: Path) -> None:
    for step in (10, 20):
        save_state(tmp_path, step, sample(step), {"step": step})
    flip_bit(tmp_path / "step-20" / "state.safetensors")
    save_state(tmp_path, 20, sample(20), {"step": 20})
    assert latest_state(tmp_path) == (tmp_path / "step-20", [])


@pytest.mark.parametrize("moment", ["write_manifest", "publish_folder", "write_atomic", "_retain"])
def test_crash_at_each_boundary(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (10, 20):
        save_state(tmp_path, step, sample(step), {"step": step})

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_state, moment, crash)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, 30, sample(30), {"step": 30})
    monkeypatch.undo()
    found, notes = latest_state(tmp_path)
    expected = 30 if moment in ("write_atomic", "_retain") else 20
    assert found == tmp_path / f"step-{expected}" and notes == []
    save_state(tmp_path, 40, sample(40), {"step": 40})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", f"step-{expected}", "step-40"]


def test_full_disk_is_said_and_leaves_what_was(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    save_state(tmp_path, 10, sample(10), {"step": 10})
    script = multiprocessing.get_context("fork").Process(target=limited_save, args=(tmp_path,))
    script.start()
    script.join()
    assert script.exitcode == 4
    assert latest_state(tmp_path) == (tmp_path / "step-10", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-10"]


def limited_save(folder: Path) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        save_state(folder, 20, sample(20, 100_000), {"step": 20})
    except MachineError as error:
        os._exit(error.exit_code)
    os._exit(0)


def save_forever(folder: Path, start: int) -> None:
    step = start
    while True:
        save_state(folder, step, sample(step, 200_000), {"step": step})
        step += 1


def test_kill_at_random_times_loses_nothing(tmp_path: Path) -> None:
    """SIGKILL into a process that saves without pause: the newest renamed state is whole, every time."""
    generator = random.Random(0)
    context = multiprocessing.get_context("fork")
    kills = last = 0
    while kills < 25 or (last < 10 and kills < 200):
        kills += 1
        process = context.Process(target=save_forever, args=(tmp_path, last + 1))
        process.start()
        deadline = time.monotonic() + 20
        while not (tmp_path / "latest").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(generator.uniform(0.0, 0.12))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found, notes = latest_state(tmp_path)
        assert found is not None and notes == []
        tensors, meta = load_state(found)
        step = int(str(meta["step"]))
        assert step >= last
        assert json.loads((found / "manifest.json").read_text())["facts"]["step"] == step
        assert torch.equal(tensors["model.a"], torch.full((200_000,), float(step)))
        last = step
    save_state(tmp_path, last + 1, sample(last + 1), {"step": last + 1})
    assert len(list(tmp_path.iterdir())) == 3  # latest and two states: nothing of the killed saves stays
    assert last >= 10
