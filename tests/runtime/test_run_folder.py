"""One owner a run folder, a true record of how it ended, metrics that can be cut."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmforge.errors import BusyError, DataError, MachineError, StopRequested, UsageError
from llmforge.runtime.files import temporary_sibling
from llmforge.runtime.manifest import read_manifest
from llmforge.runtime.run_folder import RunFolder


def record(path: Path) -> dict[str, object]:
    body: dict[str, object] = json.loads((path / "run.json").read_text())
    return body


def test_a_run_that_ends_well(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "r", "clean", {"output_dir": "r", "seed": 1}) as run:
        assert record(run.path)["status"] == "running"
        temp = run.temporary("corpus")
        (temp / "x.txt").write_text("x")
        digest = run.publish(temp, "corpus", facts={"documents": 1})
        run.log("made it")
        with run.phase("write"):
            pass
    body = record(tmp_path / "r")
    assert (body["status"], body["exit_code"], body["command"]) == ("finished", 0, "clean")
    assert {"total", "write"} <= set(body["seconds"])  # type: ignore[call-overload]
    assert read_manifest(tmp_path / "r" / "corpus", "corpus", verify="digests").digest == digest
    assert "seed: 1" in (tmp_path / "r" / "config.yaml").read_text()
    assert "made it" in (tmp_path / "r" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(StopRequested("s"), "stopped", 75), (DataError("d"), "failed", 3), (ValueError("v"), "failed", 1)],
)
def test_how_a_run_ended_is_recorded(tmp_path: Path, error: Exception, status: str, code: int) -> None:
    with pytest.raises(type(error)), RunFolder.open(tmp_path, "clean", {}):
        raise error
    assert (record(tmp_path)["status"], record(tmp_path)["exit_code"]) == (status, code)
    assert record(tmp_path).get("error") == {3: "d", 1: "ValueError: v"}.get(code)


def test_a_run_that_an_interrupt_ends_was_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RunFolder.open(tmp_path, "generate", {}):
        raise KeyboardInterrupt
    assert (record(tmp_path)["status"], record(tmp_path)["exit_code"]) == ("stopped", 130)


def test_a_second_owner_is_refused_and_a_killed_one_is_not_in_the_way(tmp_path: Path) -> None:
    code = (
        "import sys, time; from llmforge.runtime.run_folder import RunFolder\n"
        "with RunFolder.open(sys.argv[1], 'clean', {}): print('own', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "own\n"
    with pytest.raises(BusyError, match=f"pid {child.pid}"), RunFolder.open(tmp_path, "clean", {}):
        raise AssertionError("the folder was taken twice")
    child.kill()
    child.communicate()
    with RunFolder.open(tmp_path, "clean", {}):
        assert record(tmp_path)["status"] == "running"


def test_a_file_system_without_locks_is_not_a_second_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(number: int) -> Callable[..., None]:
        def flock(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return flock

    for number in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
        monkeypatch.setattr(fcntl, "flock", without(number))
        with pytest.raises(MachineError, match="cannot lock a file"), RunFolder.open(tmp_path, "clean", {}):
            raise AssertionError("the folder was taken without a lock")
    monkeypatch.setattr(fcntl, "flock", without(errno.EWOULDBLOCK))
    with pytest.raises(BusyError, match="in use by another process"), RunFolder.open(tmp_path, "clean", {}):
        raise AssertionError("the folder was taken twice")


@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
def test_a_full_disk_at_the_start_names_the_path_and_frees_the_folder(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(MachineError, match="No space left") as caught, RunFolder.open(tmp_path, "clean", {}):
            raise AssertionError("opened")
    assert caught.value.where == str(tmp_path / ".lock")
    with RunFolder.open(tmp_path, "clean", {}):
        assert record(tmp_path)["status"] == "running"


def test_the_names_of_a_run_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, whole = [], os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        whole(handle)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    run_folder = tmp_path.resolve() / "a" / "b"
    with RunFolder.open(run_folder, "pretrain", {}) as run:
        assert synced[:2] == [tmp_path.resolve(), run_folder.parent]
        synced.clear()
        run.metrics({"step": 1})
        assert synced == [run_folder]
        run.metrics({"step": 2})
        assert synced == [run_folder]
        synced.clear()
        temporary_sibling(run.path / "checkpoints" / "step-1")
        assert synced == [run_folder]


def test_another_commands_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "r", "clean", {}):
        pass
    with pytest.raises(UsageError, match="a run of `clean`, not of `pretrain`"):
        with RunFolder.open(tmp_path / "r", "pretrain", {}):
            raise AssertionError("opened")
    (tmp_path / "f").write_text("")
    with pytest.raises(UsageError, match="is a file"), RunFolder.open(tmp_path / "f", "clean", {}):
        raise AssertionError("opened")


@pytest.mark.parametrize("name", ["corpus/mine.txt", "model/mine.txt", "config.yaml", "run.json", "metrics.jsonl"])
def test_what_no_run_made_is_not_replaced(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UsageError, match=f"there is a {name.partition('/')[0]} here that no run"):
        with RunFolder.open(tmp_path / "mine", "clean", {}):
            raise AssertionError("opened")
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_every_artefact_is_guarded(tmp_path: Path) -> None:
    from llmforge.cleaning.classify.classifier import KIND
    from llmforge.runtime.foreign import foreign_entry
    from llmforge.stages.clean import VAULT
    from llmforge.stages.doctor_files import ARTEFACTS
    from llmforge.stages.tokenizer_audit import JSON_NAME, PAGE_NAME

    for number, name in enumerate((*ARTEFACTS, KIND, VAULT, JSON_NAME, PAGE_NAME)):
        folder = tmp_path / str(number)
        (folder / name).mkdir(parents=True)
        (folder / name / "mine.txt").write_text("mine")
        assert foreign_entry(folder) == name


def test_a_run_may_lie_beside_other_files_and_among_other_runs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with RunFolder.open(tmp_path / "tokenizer", "tokenizer train", {}):
        pass
    with RunFolder.open(tmp_path, "run", {}):
        pass
    (tmp_path / "run.json").write_text("damaged")
    with RunFolder.open(tmp_path, "run", {}) as run:
        assert record(run.path)["command"] == "run"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_metrics_can_be_cut_to_a_position(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "pretrain", {}) as run:
        run.metrics({"step": 1})
        position = run.metrics_position()
        run.metrics({"step": 2})
        run.take_metrics(run.path, position)
        run.metrics({"step": 2, "again": True})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1}, {"step": 2, "again": True}]


def test_a_passive_rank_writes_nothing(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "r", "pretrain", {}, passive=True) as run:
        run.log("x")
        run.metrics({"step": 1})
        run.record(a=1)
    assert not (tmp_path / "r").exists()
