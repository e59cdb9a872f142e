"""The quality bench: the peers' scoring against plain sums, schedules by hand, tables, and its dry run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "scripts" / "bench"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    import quality_peers

    return quality_peers


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peers: ModuleType) -> object:
    monkeypatch.syspath_prepend(str(BENCH))
    import quality_data

    ids = {"train": list(range(2, 9)) * 9, "valid": [1, 5, 6, 7, 2, 1, 3, 4, 5, 6, 8]}
    quality_data._write_ids(tmp_path, ids, 9, 1, 20)
    pairs = [[[1, 2, 3], [1, 2, 8]], [[1, 5], [1, 4, 4, 4]], [[1, 8, 8, 8, 8], [1, 3]]]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    return peers.Text(tmp_path)


TABLE = torch.randn(9, 9, generator=torch.Generator().manual_seed(0))


def bigram(x: torch.Tensor) -> torch.Tensor:
    """Logits that depend on the last id alone."""
    return TABLE[x]


@pytest.mark.parametrize("length", [3, 4, 5, 10, 50])
def test_every_token_but_bos_is_predicted_once_whatever_the_window(
    peers: ModuleType, text: object, length: int
) -> None:
    ids = [1, 5, 6, 7, 2, 1, 3, 4, 5, 6, 8]
    losses = [-torch.log_softmax(TABLE[a], 0)[b].item() for a, b in zip(ids, ids[1:], strict=False) if b != 1]
    found = peers.held_out(bigram, text, length)
    assert found["valid_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found["valid_bits_per_byte"] == pytest.approx(sum(losses) / math.log(2) / 20, rel=1e-5)


def test_pairs_by_total_log_probability(peers: ModuleType, text: object) -> None:
    def total(ids: list[int]) -> float:
        return sum(torch.log_softmax(TABLE[a], 0)[b].item() for a, b in zip(ids, ids[1:], strict=False))

    rows = text.pairs  # type: ignore[attr-defined]
    expected = sum(total(good) > total(bad) for good, bad in rows) / 3
    assert peers.pairs_right(bigram, text) == pytest.approx(expected) and 0 < expected < 1


def test_schedule_and_pace_by_hand(peers: ModuleType) -> None:
    assert [peers.share(step, 20) for step in (0, 1, 11, 19)] == pytest.approx([0.5, 1.0, 0.55, 0.1068365], abs=1e-6)
    assert peers.share(1100, 2100) == pytest.approx(0.55)
    # five paces: the four of warming up do not count, the last is .5 s
    assert peers.steps_that_fit(60, [0, 9, 10, 11, 12, 12.5]) == 120


def test_windows_are_the_text_and_what_follows(peers: ModuleType, text: object) -> None:
    x, y = text.windows(5, 4, torch.Generator().manual_seed(1))  # type: ignore[attr-defined]
    assert x.shape == y.shape == (5, 4) and torch.equal(x[:, 1:], y[:, :-1])


def test_blimp_becomes_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import quality_data

    row = {"sentence_good": "He is.", "sentence_bad": "He are.", "UID": "x"}
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("data/x.jsonl", json.dumps(row) + "\n")
        archive.writestr("README.md", "no pairs")
    made = quality_data._pairs(tmp_path / "b.zip", tmp_path / "items.jsonl")
    assert json.loads(made.read_text()) == {"query": "", "choices": ["He is.", "He are."], "gold": 0}


def test_recipes_are_shipped_and_figures_have_spreads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import quality

    assert all((ROOT / shape.recipe).is_file() for shape in quality.SHAPES.values())
    found = quality.figures([{"valid_loss": 1.0, "steps": 3}, {"valid_loss": 2.0, "steps": 5}])
    assert found["valid_loss"] == {"mean": 1.5, "spread": pytest.approx(math.sqrt(0.5))}
    assert quality.spread([{"valid_loss": 1.5}], "valid_loss") == {"mean": 1.5, "spread": None}
    assert (
        quality._cell({"mean": 1.5, "spread": 0.25}, ".2f"),
        quality._cell({"mean": 0.5, "spread": None}, ".1%"),
    ) == (
        "1.50 ± 0.25",
        "50.0%",
    )
    assert "blimp" not in found and len(found["runs"]) == 2


def test_the_dry_run_counts_runs_and_minutes() -> None:
    program = [
        sys.executable,
        str(BENCH / "quality.py"),
        "--dry-run",
        "--shapes",
        "a60",
        "--scale",
        "2",
        "--seeds",
        "2",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([*program, "--nanogpt", "x"], env=environment, capture_output=True, text=True, check=True)
    # two seeds of ours, three rates of each of two peers
    assert "8 runs, 16 minutes" in ran.stdout and "shakespeare-char.yaml" in ran.stdout
    fewer = [*program, "--nanogpt", "x", "--peer-rates", "1e-3"]
    ran = subprocess.run(fewer, env=environment, capture_output=True, text=True, check=True)
    assert "4 runs, 8 minutes" in ran.stdout and "nanogpt at 0.001" in ran.stdout


def test_a_sweep_marks_the_best_rate_of_each_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import lr_sweep

    losses = {(128, 0.02): 3.0, (128, 0.04): 2.0, (256, 0.02): 1.5, (256, 0.04): 1.25}
    cells = {lr_sweep.Cell("muon", width, rate, 4, 10, 0): loss for (width, rate), loss in losses.items()}
    assert lr_sweep.table(cells, "muon", [128, 256], [0.02, 0.04]) == [
        "| muon, rate | width 128 | width 256 |",
        "|---|---|---|",
        "| 0.02 | 3.000 | 1.500 |",
        "| 0.04 | **2.000** | **1.250** |",
    ]
