"""A run goes on with other numbers of processes and other ways to share: the same state at each load, one course."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from groups import on_ranks
from shared_model import go_on

from llmforge.runtime.distributed import World

# processes, strategy, tensor parallel; the one process in between is the test's own
CHAIN = [(4, "fsdp2", 2), (1, "none", 1), (3, "ddp", 1), (2, "fsdp2", 1), (4, "fsdp2", 1)]
STEPS = 2


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_four_one_three_two_four(tmp_path: Path) -> None:
    assert go_on(tmp_path / "alone", World(), "none", STEPS * len(CHAIN)) == []
    for number, (count, strategy, tensor) in enumerate(CHAIN):
        until = STEPS * (number + 1)
        if count == 1:
            assert go_on(tmp_path / "shared", World(), strategy, until) == []
        else:
            on_ranks(count, "elastic_worker.py", str(tmp_path / "shared"), strategy, str(tensor), str(until))
    found, wanted = losses(tmp_path / "shared"), losses(tmp_path / "alone")
    assert len(found) == len(wanted) == STEPS * len(CHAIN)
    assert found == pytest.approx(wanted, abs=1e-5)
