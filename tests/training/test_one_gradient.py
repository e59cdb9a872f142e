"""Contract 2: one batch, four uneven micro-batches, two DDP ranks and two FSDP2 ranks give the same gradients."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks_worker import gradients_and_weights
from safetensors.torch import load_file
from toy import ToyModel, toy_batch

from llmforge.runtime.distributed import World
from llmforge.training.trainer import micro_batches


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def on_two_ranks(strategy: str, folder: Path) -> None:
    port = str(free_port())
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).parent / "ranks_worker.py")
    ranks = [
        subprocess.Popen(
            [sys.executable, script, strategy, str(folder)],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=240)[0].decode() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)


def reference_gradients() -> dict[str, torch.Tensor]:
    """The mean loss of all trained tokens of the batch, in float64, by torch's own cross-entropy."""
    model, batch = ToyModel().double(), toy_batch(0)
    logits = model(batch.input_ids) @ model.head_weight.t()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100).backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def check(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name].to(found[name].dtype), rtol=0, atol=tolerance, msg=name)


def gradients(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("gradient."): value for name, value in found.items() if name.startswith("gradient.")}


def test_the_whole_batch_is_the_reference(tmp_path: Path) -> None:
    whole = gradients_and_weights(tmp_path / "run", "none", "adamw", micro=7)
    check(gradients(whole), reference_gradients(), 1e-7)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_four_uneven_micro_batches(tmp_path: Path, optimizer: str) -> None:
    sizes = [part.num_rows for part in micro_batches(toy_batch(0), World(), 2)]
    assert len(sizes) == 4 and len(set(sizes)) > 1 and sum(sizes) == 7
    whole = gradients_and_weights(tmp_path / "whole", "none", optimizer, micro=7)
    parts = gradients_and_weights(tmp_path / "parts", "none", optimizer, micro=2)
    check(gradients(parts), gradients(whole), 5e-8)
    # Muon's bf16 iteration and Adam's division make more of the last bit of a gradient.
    check(parts, whole, 2e-3 if optimizer == "muon" else 1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_ranks(tmp_path: Path, strategy: str) -> None:
    on_two_ranks(strategy, tmp_path)
    for optimizer in ("adamw", "muon"):
        found = load_file(tmp_path / f"{optimizer}.safetensors")
        whole = gradients_and_weights(tmp_path / f"whole-{optimizer}", "none", optimizer, micro=7)
        check(gradients(found), reference_gradients(), 1e-7)
        check(found, whole, 2e-3 if optimizer == "muon" else 1e-5)


@pytest.mark.parametrize(("rows", "ranks", "size"), [(7, 2, 2), (5, 3, 1), (4, 4, 3), (9, 2, 100), (3, 2, 1)])
def test_every_row_is_taken_once_and_all_ranks_take_as_many_parts(rows: int, ranks: int, size: int) -> None:
    batch = toy_batch(0, rows)
    parts = [micro_batches(batch, World(rank, ranks), size) for rank in range(ranks)]
    assert len({len(found) for found in parts}) == 1
    assert all(part.num_rows <= size for found in parts for part in found)
    trained = [part for found in parts for part in found if part.num_trained]
    assert sum(part.num_trained for part in trained) == batch.num_trained
    joined = torch.cat([part.input_ids for part in trained])
    assert torch.equal(joined, batch.input_ids)
