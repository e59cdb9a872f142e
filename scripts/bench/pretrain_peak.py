"""How fast this machine multiplies matrices right now: the best of many products of 1,024² and 2,048², by dtype."""

from __future__ import annotations

import json
import time

import torch

SECONDS = 1.0


def rate(dtype: torch.dtype, size: int) -> float:
    """FLOP/s of the best of the products that fit into a second."""
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    out = torch.empty(size, size, dtype=dtype)
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


if __name__ == "__main__":
    kinds = {"bf16": torch.bfloat16, "fp32": torch.float32}
    print(json.dumps({name: max(rate(dtype, size) for size in (1024, 2048)) for name, dtype in kinds.items()}))
