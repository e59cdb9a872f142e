"""A process's place among all."""

from __future__ import annotations

import pytest
import torch

from llmforge.runtime.distributed import World, process_group, world_of_environment


def test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    world = world_of_environment()
    assert world == World() and world.first
    with process_group(world) as joined:
        assert joined.largest([1.0, 2.0]) == [1.0, 2.0]
        assert joined.agree({"a": 1}) == {"a": 1}
        assert torch.equal(joined.total(torch.ones(2)), torch.ones(2))
        joined.wait()


def test_as_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(key, value)
    assert world_of_environment() == World(rank=5, size=8, local_rank=1, local_size=4)
