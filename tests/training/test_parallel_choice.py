"""Which strategy a run takes, what tensor parallelism refuses, and how the rows are shared then."""

from __future__ import annotations

import pytest
import torch
from toy import ToyModel, toy_batch

from llmforge.errors import UsageError
from llmforge.runtime.distributed import World, world_of_environment
from llmforge.training.parallel import choose_strategy
from llmforge.training.settings import ParallelSettings
from llmforge.training.shares import by_mesh, total_norm
from llmforge.training.tensor_parallel import _refuse_uneven
from llmforge.training.trainer import micro_batches

CPU = torch.device("cpu")


def chosen(world: World, **settings: object) -> str:
    return choose_strategy(ParallelSettings.model_validate(settings), world, ToyModel(), CPU)


def test_one_process_needs_no_strategy_whatever_is_configured() -> None:
    assert [chosen(World(), strategy=name) for name in ("auto", "none", "ddp", "fsdp2")] == ["none"] * 4


def test_tensor_parallelism_goes_with_fsdp2() -> None:
    four = World(0, 4, tensor=2)
    assert chosen(four, tensor_parallel=2) == "fsdp2" == chosen(four, tensor_parallel=2, strategy="fsdp2")
    with pytest.raises(UsageError, match="not with ddp"):
        chosen(four, tensor_parallel=2, strategy="ddp")
    with pytest.raises(UsageError, match=r"3 does not divide the model's heads \(4\)"):
        _refuse_uneven(3, heads=4)


def test_processes_must_go_into_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"RANK": "1", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match="3 processes do not go into groups"):
        world_of_environment(2)


def test_neighbours_take_the_same_rows() -> None:
    batch = toy_batch(0, 7)
    parts = [micro_batches(batch, World(rank, 4, tensor=2), 2) for rank in range(4)]
    ids = [torch.cat([part.input_ids for part in found if part.num_trained]) for found in parts]
    assert torch.equal(ids[0], ids[1]) and torch.equal(ids[2], ids[3])
    assert torch.equal(torch.cat([ids[0], ids[2]]), batch.input_ids)


def test_plain_tensors_are_one_group_and_one_norm() -> None:
    values = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    assert [len(group) for group in by_mesh(values)] == [2]
    assert float(total_norm(values)) == 5.0
