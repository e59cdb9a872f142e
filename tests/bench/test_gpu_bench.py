"""The GPU bench: its shapes are the presets, it needs a GPU, halves rows, and says what it did not measure."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    import gpu

    return gpu


def bench(gpu: ModuleType, **changes: Any) -> Any:
    values = {"device": "cuda", "peak": 1e15, "memory": 80 * 10**9, "seconds": 1.0, "peers": Path("none")}
    return gpu.Bench(**(values | {"end": time.monotonic() + 1000} | changes))


@pytest.mark.parametrize("name", ["124m", "350m", "1.3b", "8b", "tiny"])
def test_the_shapes_are_those_of_the_presets(gpu: ModuleType, name: str) -> None:
    from llmforge.model.config import ModelSettings

    shape = gpu.SHAPES[name]
    ours = ModelSettings.model_validate({"preset": name}).resolve(shape.vocabulary, shape.length)
    assert shape.matmul_parameters == ours.matmul_parameters
    assert shape.flops_per_token == ours.flops_per_token(shape.length)
    assert 0 <= ours.num_parameters - shape.parameters < 3e-3 * shape.parameters  # norms
    assert shape.state_bytes == 16 * shape.parameters


def test_an_8b_fits_an_h200_and_no_h100(gpu: ModuleType) -> None:
    assert not bench(gpu).fits(gpu.SHAPES["8b"]) and bench(gpu).fits(gpu.SHAPES["1.3b"])
    assert bench(gpu, memory=150 * 10**9).fits(gpu.SHAPES["8b"])


def test_without_a_gpu_it_says_so_and_measures_nothing(gpu: ModuleType, monkeypatch: Any, capsys: Any) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 4
    assert "no GPU" in capsys.readouterr().err


def answers(found: list[Any], seen: list[list[str]]) -> Any:
    def run(command: list[str], **_: Any) -> Any:
        seen.append(command)
        answer = found.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(returncode=0, stdout=json.dumps(answer), stderr="")

    return run


def test_rows_are_halved_until_they_fit_and_the_share_is_reckoned(gpu: ModuleType, monkeypatch: Any) -> None:
    good = {"tokens_per_second": 5e5, "rows": 16, "peak_memory_bytes": 7e10}
    seen: list[list[str]] = []
    monkeypatch.setattr(gpu.subprocess, "run", answers([{"out_of_memory": True}, {"out_of_memory": True}, good], seen))
    found = bench(gpu).run("llmforge", "124m")
    assert [command[-1] for command in seen] == ["64", "32", "16"]
    assert found["mfu"] == pytest.approx(5e5 * gpu.SHAPES["124m"].flops_per_token / 1e15)


def test_what_was_not_measured_says_why(gpu: ModuleType, monkeypatch: Any) -> None:
    late = subprocess.TimeoutExpired("x", 1)
    good = {"tokens_per_second": 4e5, "rows": 64, "peak_memory_bytes": 7e10}
    monkeypatch.setattr(gpu.subprocess, "run", answers([good, {**good, "tokens_per_second": 2e5}, late], []))
    made = bench(gpu)
    made.interpreter = lambda side: sys.executable
    shapes = gpu.measure(made, ["124m", "8b"])
    assert shapes["124m"]["ratio_to_best_peer"] == 2.0
    text = gpu.table(shapes)
    assert "124m   litgpt         not measured: the minutes were over" in text
    assert "8b     llmforge       not measured: 118 GB" in text and "2.00" in text


@pytest.mark.slow
def test_our_side_runs_on_a_cpu() -> None:
    command = [sys.executable, str(BENCH / "gpu_sides.py"), "llmforge", "tiny", "0.1", "cpu", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tokens_per_second"] > 0 and found["rows"] == 4 and found["steps"] >= 5
