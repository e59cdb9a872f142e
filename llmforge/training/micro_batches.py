"""A step's batch, shared out: each process's rows, in parts that go through the model at once."""

from __future__ import annotations

from llmforge.runtime.distributed import World
from llmforge.tokens.batch import Batch


def micro_batches(batch: Batch, world: World, size: int) -> list[Batch]:
    """This process's rows of the global batch, in as many micro-batches on every process, of `size` rows at most.

    Rows are shared out as evenly as they go; a process with nothing left takes part with rows that count for nothing.
    """
    ends = [batch.num_rows * rank // world.data_size for rank in range(world.data_size + 1)]
    most = max(b - a for a, b in zip(ends, ends[1:], strict=False))
    count = max(1, -(-most // size))
    start, rows = ends[world.data_rank], ends[world.data_rank + 1] - ends[world.data_rank]
    parts = []
    for number in range(count):
        low, high = start + rows * number // count, start + rows * (number + 1) // count
        parts.append(batch.rows(low, high) if high > low else batch.rows(0, 1).untrained())
    return parts
