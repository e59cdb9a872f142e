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
    """The workers compare what is loaded with what was saved, bit for bit; with Muon's state too, on fewer ways.

    The losses are AdamW's: Muon's iteration in bf16 makes up to 9e-5 of the last bits of a gradient in ten steps.
    """
    shared, muon, last = str(tmp_path / "shared"), str(tmp_path / "muon"), STEPS * len(CHAIN)
    groups = [(count, shared, *way, STEPS * (at + 1), "adamw") for at, (count, *way) in enumerate(CHAIN)]
    groups += [(count, muon, *way, at + 1, "muon") for at, (count, *way) in enumerate((CHAIN[0], CHAIN[1], CHAIN[3]))]
    on_ranks("elastic_worker", *groups)
    assert go_on(tmp_path / "alone", World(), "none", last) == []
    found, wanted = losses(tmp_path / "shared"), losses(tmp_path / "alone")
    assert len(found) == len(wanted) == last and len(losses(tmp_path / "muon")) == 3
    assert found == pytest.approx(wanted, abs=1e-5)
