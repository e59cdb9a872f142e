"""Times of steps by the clock and by the processor; Python's own library only, since all sides use it."""

from __future__ import annotations

import resource
import statistics
import time
from pathlib import Path
from typing import Any

from pretrain_shapes import Shape

WARM = 3  # steps that are not counted
_LEAST = 4  # steps that are


def peak_memory_bytes() -> int:
    """The most memory this process has held. Linux's getrusage has the parent's in it, if that was more."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Watch:
    """Notes the end of every step; `done()` says when there are enough."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begin()

    def begin(self) -> None:
        """The start of the first step."""
        self.marks = [(time.perf_counter(), time.process_time())]

    def done(self) -> bool:
        """The end of a step."""
        self.marks.append((time.perf_counter(), time.process_time()))
        counted = len(self.marks) - 1 - WARM
        return counted >= _LEAST and self.marks[-1][0] - self.marks[WARM][0] >= self.seconds

    def result(self, shape: Shape, parameters: int) -> dict[str, Any]:
        """Median tokens a second and a processor second of the counted steps, peak memory, what the first step cost."""
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        wall, processor = ([after[at] - before[at] for before, after in pairs] for at in (0, 1))
        usual = statistics.median(wall[WARM:])
        return {
            "tokens_per_second": shape.tokens / usual,
            "tokens_per_processor_second": shape.tokens / statistics.median(processor[WARM:]),
            "peak_memory_bytes": peak_memory_bytes(),
            "first_step_seconds": wall[0] - usual,
            "first_step_processor_seconds": processor[0] - statistics.median(processor[WARM:]),
            "steps": len(wall),
            "parameters": parameters,
        }
