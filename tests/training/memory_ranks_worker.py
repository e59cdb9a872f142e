"""One process of two under DDP, of which the second runs out of memory with more than one row, from some step on.

python memory_ranks_worker.py OUTPUT_FOLDER FIRST_BAD_STEP
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from toy import run_folder, toy_batch, toy_trainer

from llmforge.errors import MachineError
from llmforge.runtime.distributed import process_group, world_of_environment
from llmforge.tokens.batch import Batch

if __name__ == "__main__":
    output, first_bad = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    with process_group(world_of_environment()) as world, run_folder(output / str(world.rank)) as run:
        trainer = toy_trainer(run, {"max_steps": 5, "micro_batch_size": 8}, rows=8, world=world, strategy="auto")
        objective, step = trainer.objective.objective, 0
        forward = objective.forward

        def batches(number: int) -> Batch:
            global step
            step = number
            return toy_batch(number, 8)

        def limited(batch: Batch) -> Any:
            if world.rank == 1 and step >= first_bad and batch.num_rows > 1:
                torch.empty(2**46, dtype=torch.uint8)
            return forward(batch)

        trainer.batches = batches
        objective.forward = limited  # type: ignore[method-assign]
        try:
            result = trainer.train()
            answer = {"rows": result.micro_batch_size, "loss": result.train_loss}
        except MachineError as error:
            answer = {"error": str(error)}
        (output / f"{world.rank}.json").write_text(json.dumps(answer))
        if "error" in answer:
            os._exit(4)  # as the launcher sees it: the other process still waits for this one
