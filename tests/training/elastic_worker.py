"""One process of a group that goes on with a run of other processes' making.

python elastic_worker.py RUN_FOLDER STRATEGY TENSOR_PARALLEL UNTIL_STEP
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from shared_model import go_on

from llmforge.runtime.distributed import process_group, world_of_environment

if __name__ == "__main__":
    folder, strategy, tensor, until = sys.argv[1:]
    torch.set_num_threads(1)
    with process_group(world_of_environment(int(tensor)), 120) as world:
        wrong = go_on(Path(folder), world, strategy, int(until))
        assert not wrong, f"not loaded as saved: {wrong}"
