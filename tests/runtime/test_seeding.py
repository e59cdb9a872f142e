"""Generators go on where they were captured, through JSON and safetensors."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from llmforge.checkpoint.train_state import load_state, save_state
from llmforge.runtime.seeding import capture_rng, restore_rng, seed_everything


def draw() -> list[float]:
    return [random.random(), random.gauss(0, 1), float(np.random.normal()), *torch.rand(3).tolist()]


def test_the_same_seed_draws_the_same() -> None:
    seed_everything(2**40 + 1)
    first = draw()
    seed_everything(2**40 + 1)
    assert draw() == first


def test_captured_written_read_restored(tmp_path: Path) -> None:
    seed_everything(5)
    draw()
    path = save_state(tmp_path, 1, {"w": torch.zeros(1)}, {"rng": capture_rng()})
    wanted = [draw() for _ in range(3)]
    seed_everything(6)
    restore_rng(load_state(path)[1]["rng"])  # type: ignore[arg-type]
    assert [draw() for _ in range(3)] == wanted
