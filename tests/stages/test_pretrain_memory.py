"""`pretrain` in a process that may not have more memory: smaller micro-batches and the same run, or exit 4."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_pretrain import config, metrics, train, write_tokens

from llmforge.training.parallel import choose_compile

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA as Linux counts it")
MB = 10**6
ROWS = 64


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("data") / "tokens")


def settings(tokens: Path, output: Path) -> dict[str, Any]:
    found = config(tokens, output, {"max_steps": 4, "micro_batch_size": ROWS, "save_every": None})
    return found | {"data": found["data"] | {"seq_len": 128}}


def limited(values: dict[str, Any], growth: int, *later: str) -> subprocess.CompletedProcess[str]:
    worker = str(Path(__file__).parent / "memory_worker.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, worker, json.dumps(values), str(growth), *later]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_with_too_little_memory_it_takes_smaller_micro_batches_to_the_same_losses(tokens: Path, tmp_path: Path) -> None:
    # What a process holds free already differs from machine to machine: the largest growth that is too little counts.
    for growth in (70, 60, 50, 40, 30, 20):
        shutil.rmtree(tmp_path / "small", ignore_errors=True)
        done = limited(settings(tokens, tmp_path / "small"), growth * MB)
        if done.returncode or json.loads(done.stdout)["micro_batch_size"] < ROWS:
            break
    assert done.returncode == 0, done.stderr
    found, wanted = json.loads(done.stdout), train(settings(tokens, tmp_path / "large"))
    assert wanted["micro_batch_size"] == ROWS and found["micro_batch_size"] < ROWS
    assert f"memory ran out with {ROWS} rows at once" in done.stderr
    assert f"from here on {ROWS // 2} at once" in (tmp_path / "small" / "log.txt").read_text()
    small, large = metrics(tmp_path / "small"), metrics(tmp_path / "large")
    assert [row["tokens"] for row in small] == [row["tokens"] for row in large]
    for key in ("loss", "valid_loss"):
        assert [row[key] for row in small if key in row] == pytest.approx([r[key] for r in large if key in r], rel=1e-4)
    assert found["valid_loss"] == pytest.approx(wanted["valid_loss"], rel=1e-4)
    state = json.loads((tmp_path / "small" / "checkpoints" / "step-4" / "state.json").read_text())
    assert state["progress"]["micro_batch_size"] == found["micro_batch_size"]


def test_when_not_even_a_row_fits_it_says_what_was_needed(tokens: Path, tmp_path: Path) -> None:
    done = limited(settings(tokens, tmp_path / "run") | {"model": {"preset": "tiny", "hidden_size": 1024}}, MB)
    assert done.returncode == 4, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(r"not enough memory.* [kMG]B was asked for", last) and "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["exit_code"] == 4


@pytest.mark.slow
@pytest.mark.skipif(choose_compile("auto", torch.device("cpu"), 1e20)[0] is False, reason="no C++ compiler")
def test_a_compiled_model_takes_smaller_micro_batches_too(tokens: Path, tmp_path: Path) -> None:
    values = settings(tokens, tmp_path / "run")
    done = limited(values | {"train": values["train"] | {"compile": True}}, 10 * MB, "later")
    assert done.returncode == 0, done.stderr
    assert f"memory ran out with {ROWS} rows at once (more was asked for" in done.stderr
    assert json.loads(done.stdout)["micro_batch_size"] == ROWS // 2
