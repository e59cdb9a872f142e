"""Two processes, one of which runs out of memory: both take fewer rows, or the one that lacks it says so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy import run_folder, toy_batch, toy_trainer

pytestmark = pytest.mark.slow


def on_two_ranks(folder: Path, first_bad: int) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).parent / "memory_ranks_worker.py")
    return [
        subprocess.Popen(
            [sys.executable, script, str(folder), str(first_bad)],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]


def answer(folder: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{rank}.json").read_text())
    return found


def test_both_take_as_few_rows_as_the_one_that_lacks_memory(tmp_path: Path) -> None:
    """From the second step on, when the optimizer's averages have come to be."""
    ranks = on_two_ranks(tmp_path, first_bad=1)
    try:
        errors = [rank.communicate(timeout=240)[1].decode() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(errors)
    with run_folder(tmp_path / "alone") as run:
        wanted = toy_trainer(run, {"max_steps": 5}, rows=8, batches=lambda step: toy_batch(step, 8)).train()
    for rank in range(2):
        assert answer(tmp_path, rank)["rows"] == 1
        assert answer(tmp_path, rank)["loss"] == pytest.approx(wanted.train_loss, rel=1e-5)
    assert "memory ran out with 4 rows at once" in errors[0] and "memory ran out with 2 rows at once" in errors[0]


def test_later_the_one_that_lacks_memory_ends_with_what_it_needed(tmp_path: Path) -> None:
    ranks = on_two_ranks(tmp_path, first_bad=3)
    try:
        ranks[1].communicate(timeout=240)
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    assert ranks[1].returncode == 4
    assert "not enough memory for 4 rows at once: 70368.7 GB was asked for" in answer(tmp_path, 1)["error"]
