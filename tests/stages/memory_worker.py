"""`pretrain` in a process whose data may grow by so many bytes from the first step on; exits as the command does.

python memory_worker.py CONFIG_JSON BYTES
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from llmforge.runtime.console import Console
from llmforge.runtime.exits import guarded
from llmforge.stages.pretrain import PretrainConfig, run
from llmforge.training.trainer import Trainer


def data_bytes() -> int:
    """What counts against RLIMIT_DATA now: the heap and other private memory that can be written."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmData")


def limit_from_now(growth: int) -> None:
    original = Trainer.train

    def limited(self: Trainer, saved: Any = None) -> Any:
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes() + growth, resource.RLIM_INFINITY))
        return original(self, saved)

    Trainer.train = limited  # type: ignore[method-assign]


if __name__ == "__main__":
    torch.set_num_threads(1)
    limit_from_now(int(sys.argv[2]))
    config = PretrainConfig.model_validate(json.loads(sys.argv[1]))
    sys.exit(guarded(lambda: print(json.dumps(run(config, Console(quiet=True, json=True))))))
