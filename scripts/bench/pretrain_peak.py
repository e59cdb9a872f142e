"""How fast this machine multiplies matrices right now: the best of many products of 1,024² and 2,048², by dtype."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch

SECONDS = 0.7


def rate(dtype: torch.dtype, size: int, clock: Callable[[], float]) -> float:
    """FLOP/s of the best of the products that fit into the time; at least three are tried."""
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    out = torch.empty(size, size, dtype=dtype)
    best, end, count = float("inf"), clock() + SECONDS, 0
    while clock() < end or count < 3:
        start = clock()
        torch.mm(left, right, out=out)
        best, count = min(best, clock() - start), count + 1
    return 2 * size**3 / best


if __name__ == "__main__":
    found = {
        f"{name}_{what}": max(rate(dtype, size, clock) for size in (1024, 2048))
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
        for what, clock in (("second", time.perf_counter), ("processor_second", time.process_time))
    }
    print(json.dumps(found))
