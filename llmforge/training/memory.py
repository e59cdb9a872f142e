"""How many rows go through the model at once: as configured, and half as many whenever memory runs out.

The global batch stays the same: a step then takes twice as many micro-batches, whose gradients add up to the same sums.
All processes decide alike. Knows no model and no optimizer.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from llmforge.errors import MachineError
from llmforge.runtime.console import quantity
from llmforge.runtime.device import peak_memory_bytes
from llmforge.runtime.malloc import give_back_freed_memory
from llmforge.runtime.memory import Shortage, shortage
from llmforge.tokens.batch import Batch
from llmforge.training.loop_parts import Loop
from llmforge.training.parallel import Parallel

T = TypeVar("T")
# Steps after which a process has its optimizer's state and its buffers: what fitted then will fit from there on.
_TRIED_STEPS = 2
# Steps before which freed memory is given back: compiling, the first validation, and the state that the optimizer makes
# among the first step's blocks leave holes that no later step fills. 3 % of the peak for a tenth of a second each.
_FIRST_STEPS = 3


def attempt(work: Callable[[], T], device: torch.device) -> T | Shortage:
    """What `work` gives, or a `Shortage` when memory ran out in it; what it had made by then is let go."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        found = shortage(error)
        if found is None:
            raise
    # Only here, behind the except, has the traceback let go of the tensors of the frames that it passed through.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


class RowsAtOnce:
    """The size of a micro-batch over a run: `rows`, which only ever falls."""

    def __init__(self, loop: Loop, strategy: str, tell: Callable[[str], None]) -> None:
        self.rows = loop.train.micro_batch_size
        self._world, self._device, self._hint = loop.world, loop.device, loop.when_memory_lacks
        self._strategy, self._tell, self._runs = strategy, tell, 0

    def run(self, work: Callable[[int, bool], T], batch_rows: int) -> T:
        """`work(rows, False)`, over again with half as many rows until it fits into memory.

        Where several processes add up their gradients none can try again alone: there the first steps of each process
        are preceded by `work(rows, True)`, which must wait for no other, and all take the fewest rows that fit.

        Raises:
            MachineError: not even one row fits, or memory ran out where processes wait for each other.
        """
        self._runs += 1
        if self._runs <= _FIRST_STEPS:
            give_back_freed_memory()
        if self._world.size == 1:
            return self._settle(lambda: work(self.rows, False), batch_rows)
        if self._strategy == "ddp" and self._runs <= _TRIED_STEPS:
            # a try must not change what the step draws
            with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
                self._settle(lambda: work(self.rows, True), batch_rows)
        found = attempt(lambda: work(self.rows, False), self._device)
        if isinstance(found, Shortage):
            rows = largest_part(batch_rows, self._world.size, self.rows)
            raise MachineError(self._lack(rows, found.asked_bytes or 0), hint=self._hint)
        return found

    def end(self) -> None:
        """There are no more steps: what they used is given back, for a last state and the whole held-out split."""
        give_back_freed_memory()

    def _settle(self, work: Callable[[], T], batch_rows: int) -> T:
        while True:
            found = attempt(work, self._device)
            asked = (found.asked_bytes or 1) if isinstance(found, Shortage) else 0
            (most,) = self._world.largest([float(asked)])
            if not most and not isinstance(found, Shortage):
                return found
            self._halve(batch_rows, int(most))

    def _halve(self, batch_rows: int, asked_bytes: int) -> None:
        most = largest_part(batch_rows, self._world.data_size, self.rows)
        if most <= 1:
            raise MachineError(self._lack(1, asked_bytes), hint=self._hint)
        self.rows = -(-most // 2)
        self._tell(
            f"memory ran out with {most} rows at once ({self._need(asked_bytes)}): from here on {self.rows} at once,"
            f" in twice as many micro-batches; a step still takes {batch_rows} rows"
        )

    def _lack(self, rows: int, asked_bytes: int) -> str:
        return f"not enough memory for {'one row' if rows == 1 else f'{rows} rows'} at once: {self._need(asked_bytes)}"

    def _need(self, asked_bytes: int) -> str:
        asked = quantity(asked_bytes, "B") if asked_bytes > 1 else "more"
        return f"{asked} was asked for beside what was in use, {quantity(peak_memory_bytes(self._device), 'B')} at most"


def largest_part(batch_rows: int, processes: int, size: int) -> int:
    """Rows of the largest micro-batch when no more than `size` of a process's share go through at once."""
    share = -(-batch_rows // processes)
    return -(-share // max(1, -(-share // size)))


def token_losses(objective: Parallel, batch: Batch, device: torch.device) -> Tensor:
    """The loss of each position (B, T) as `Parallel.token_losses`, in two halves of the rows when memory runs out.

    Raises:
        MachineError: not even one row fits, or the processes hold shares of the model and wait for each other.
    """
    found = attempt(lambda: objective.token_losses(batch.to(device)), device)
    if not isinstance(found, Shortage):
        return found
    rows = batch.num_rows
    if rows == 1 or objective.strategy == "fsdp2":
        need = quantity(found.asked_bytes, "B") if found.asked_bytes else "more"
        raise MachineError(f"not enough memory to validate on {rows} rows at once: {need} was asked for")
    halves = (batch.rows(0, rows // 2), batch.rows(rows // 2, rows))
    # Once a batch is asked of all processes, and another may have had the memory for it.
    asked, objective.before_pass = objective.before_pass, lambda: None
    try:
        return torch.cat([token_losses(objective, half, device) for half in halves])
    finally:
        objective.before_pass = asked
