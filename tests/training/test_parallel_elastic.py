"""A run goes on with other numbers of processes and other ways to share: the same state at each load, one course."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from groups import on_ranks
from shared_model import go_on

from llmforge.runtime.distributed import World

# processes, strategy, tensor parallel
CHAIN = [(4, "fsdp2", 2), (1, "none", 1), (3, "ddp", 1), (2, "fsdp2", 1), (4, "fsdp2", 1)]
STEPS = 2


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_four_one_three_two_four(tmp_path: Path) -> None:
    shared, last = str(tmp_path / "shared"), STEPS * len(CHAIN)
    groups = [(*way, STEPS * (number + 1)) for number, way in enumerate(CHAIN)]
    on_ranks("elastic_worker", *((count, shared, *rest) for count, *rest in groups))
    assert go_on(tmp_path / "alone", World(), "none", last) == []
    found, wanted = losses(tmp_path / "shared"), losses(tmp_path / "alone")
    assert len(found) == len(wanted) == last
    assert found == pytest.approx(wanted, abs=1e-5)
