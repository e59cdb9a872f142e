"""One process of a group that goes on with a run of other processes' making (started by groups.py)."""

from __future__ import annotations

from pathlib import Path

import torch
from shared_model import go_on

from llmforge.runtime.distributed import process_group, world_of_environment


def main(folder: str, strategy: str, tensor: int, until: int, optimizer: str) -> None:
    """Loads the newest state, checks that it is what was saved, trains to a step."""
    torch.set_num_threads(1)
    with process_group(world_of_environment(tensor), 120) as world:
        wrong = go_on(Path(folder), world, strategy, until, optimizer)
        assert not wrong, f"not loaded as saved: {wrong}"
