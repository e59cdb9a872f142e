"""`pretrain` in a process whose data may grow by so many bytes while it makes gradients; exits as the command does.

python memory_worker.py CONFIG_JSON BYTES [later]

`later`: only the second try to make gradients is limited, so that what compiles at the first has the memory it needs.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from llmforge.runtime.console import Console
from llmforge.runtime.exits import guarded
from llmforge.stages.pretrain import PretrainConfig, run
from llmforge.training import assemble
from llmforge.training.trainer import Trainer


def data_bytes() -> int:
    """What counts against RLIMIT_DATA now: the heap and other private memory that can be written."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmData")


def limit_gradients(growth: int, later: bool) -> None:
    """Forward and backward passes may take so much more than what there was before the first; the rest is free to.

    A limit for all that a process does is met anywhere: in a thread that starts, in a library that aborts.
    """
    original, most, calls = Trainer._gradients, [0], itertools.count(1)
    if later:  # what the first step had would be enough for the second
        assemble.keep_freed_memory = lambda: False

    def limited(self: Trainer, *arguments: Any) -> Any:
        if later and next(calls) != 2:
            return original(self, *arguments)
        most[0] = most[0] or data_bytes() + growth
        resource.setrlimit(resource.RLIMIT_DATA, (most[0], resource.RLIM_INFINITY))
        try:
            return original(self, *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    Trainer._gradients = limited  # type: ignore[method-assign]


if __name__ == "__main__":
    torch.set_num_threads(1)
    limit_gradients(int(sys.argv[2]), later="later" in sys.argv[3:])
    config = PretrainConfig.model_validate(json.loads(sys.argv[1]))
    sys.exit(guarded(lambda: print(json.dumps(run(config, Console(quiet=True, json=True))))))
