"""A trace of some steps, for chrome://tracing or https://ui.perfetto.dev: which operation takes how long, on what.

An observer of the loop; the steps that are traced run slower, the others as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from llmforge.runtime.console import Console
from llmforge.runtime.files import write_atomic
from llmforge.runtime.run_folder import RunFolder
from llmforge.training.loop_parts import StepInfo


class StepTrace:
    """Traces steps `first` to `last` (counted from 1) of this process and writes `trace-FIRST-LAST.json`."""

    def __init__(self, first: int, last: int, run: RunFolder, done: int) -> None:
        self._first, self._last, self._run = first, last, run
        self._profile: profile | None = None
        self._step = done

    def __call__(self, info: StepInfo) -> None:
        """Begins before the first step and ends after the last one."""
        self._step = info.step
        if self._profile is not None and info.step >= self._last:
            self.close()
        elif self._profile is None and self._first <= info.step + 1 <= self._last:
            self.begin()

    @property
    def path(self) -> Path:
        """Where the trace comes to lie."""
        return self._run.path / f"trace-{self._first}-{self._last}.json"

    @property
    def missed(self) -> str | None:
        """What to say of a run that ends without its trace; None where there is one."""
        if self._profile is not None or self.path.exists():
            return None
        steps = f"steps {self._first} to {self._last} (train.profile_steps)"
        return f"there is no trace of {steps}: the run ended after step {self._step}"

    def begin(self) -> None:
        """The next step is traced."""
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
        self._profile = profile(activities=activities)
        self._profile.start()

    def close(self) -> None:
        """Writes what was traced; nothing where no step was."""
        if self._profile is None:
            return
        self._profile.stop()
        path = self.path
        part = path.with_suffix(".part")
        self._profile.export_chrome_trace(str(part))
        write_atomic(path, part.read_bytes())
        part.unlink()
        self._profile = None
        self._run.log(f"the trace of steps {self._first} to {self._last} is in {path.name}")


@contextmanager
def traced(
    steps: tuple[int, int] | None, run: RunFolder, done: int, console: Console
) -> Iterator[list[Callable[[StepInfo], None]]]:
    """The observer that traces steps `steps[0]` to `steps[1]` of a run that has done `done`; none without `steps`.

    A run that comes to its end without them says so.
    """
    if steps is None or run.passive:
        yield []
        return
    trace = StepTrace(*steps, run, done)
    if steps[0] <= done + 1 <= steps[1]:
        trace.begin()
    try:
        yield [trace]
        if trace.missed is not None:
            console.warn(trace.missed)
            run.log(trace.missed)
    finally:
        trace.close()
