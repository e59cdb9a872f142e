"""Where a run ends: after so many steps, or when its minutes are over.

A budget in steps (or tokens, or epochs, which are turned into steps) is known from the start. A budget in minutes runs
at the full rate until the share of time that belongs to the decay begins; then the steps that still fit are counted
from the pace so far, and that horizon is fixed and saved with the state. Only if the machine's pace changes so
much that the horizon would miss the budget is it moved: the rates then fall faster, or slower, from where they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from llmforge.runtime.console import duration
from llmforge.training import schedule
from llmforge.training.settings import SchedulerSettings

# part of the time that is kept back against the machine's changing pace
_SPARE = 0.02
# the horizon is moved only when the rest would take this much longer, or shorter, than there is time
_LATE = 1.03
_MOST_OF_IT = 0.3  # of a budget in minutes: compiling that takes more of it is worth a word
_FEW_STEPS = 10  # a budget in minutes that gave no more was eaten by something else


@dataclass
class HorizonState:
    """What a resumed run must know: the end, and where and from which factor the rates fall."""

    steps: int | None = None
    start: int | None = None
    # factor at `start` but for the warm-up, below 1 when the horizon was moved during the decay
    top: float = 1.0


class Horizon:
    """Answers two questions at every step: which share of the rates, and is it over?"""

    def __init__(self, settings: SchedulerSettings, steps: int | None = None, seconds: float | None = None) -> None:
        assert (steps is None) != (seconds is None), "a run has one budget"
        self.settings, self.seconds = settings, seconds
        self.state = HorizonState(steps, None if steps is None else schedule.decay_start(settings, steps))

    @property
    def steps(self) -> int | None:
        """The number of steps, once it is known."""
        return self.state.steps

    def factor(self, step: int) -> float:
        """The share of the full rates at `step`."""
        # A time budget may come to its decay within the warm-up, which then goes on beside it.
        return schedule.warmup(step, schedule.warmup_steps(self.settings, self.state.steps)) * self._shape(step)

    def _shape(self, step: int) -> float:
        """The factor without the warm-up."""
        state = self.state
        if state.top < 1.0 and state.start is not None and state.steps is not None:
            floor = min(state.top, self.settings.min_lr_ratio)
            return floor + (state.top - floor) * schedule.linear(step, state.start, state.steps)
        return schedule.shape(self.settings, step, state.start, state.steps)

    def watch(self, step: int, elapsed: float, pace: float | None, reserve: float) -> bool:
        """Looks at the clock before step number `step`; True when the run is over.

        `elapsed` seconds are gone, a step takes `pace` seconds with what belongs to it (None: not known yet), and
        `reserve` seconds are needed after the last step.
        """
        if self.seconds is None:
            assert self.state.steps is not None
            return step >= self.state.steps
        left = self.seconds * (1 - _SPARE) - reserve - elapsed
        if step > 0 and left <= 0:
            self.state = replace(self.state, steps=step)  # so that a state saved now says that the run is over
        if left <= 0 or (self.state.steps is not None and step >= self.state.steps):
            return step > 0
        if pace:
            self._adjust(step, left, pace)
        return False

    def _adjust(self, step: int, left: float, pace: float) -> None:
        state, fitting = self.state, max(1, int(left / pace))
        assert self.seconds is not None
        if self.settings.name != "wsd":
            return
        if state.steps is None:
            if left <= self.seconds * (self.settings.decay_ratio or 0.0):
                self.state = HorizonState(step + fitting, step, self._shape(step))
        elif not left / _LATE <= (state.steps - step) * pace <= _LATE * left:
            self.state = HorizonState(step + fitting, step, self._shape(step))

    def seconds_left(self, step: int, elapsed: float, pace: float | None) -> float | None:
        """Seconds to the end, as far as one can tell."""
        if self.seconds is not None:
            return max(0.0, self.seconds - elapsed)
        return None if pace is None or self.state.steps is None else max(0.0, (self.state.steps - step) * pace)

    def notes(self, steps: int, warm_up: float) -> list[str]:
        """What a person should know when the run is over after so many steps; the first took `warm_up` seconds more."""
        if self.seconds is None:
            return []
        if warm_up > _MOST_OF_IT * self.seconds:
            eaten = f"{duration(warm_up)} of {duration(self.seconds)} went into the first step, which compiles"
            return [f"{eaten}: {steps} steps were left; give train.max_minutes more, or set train.compile=false"]
        if steps >= _FEW_STEPS:
            return []
        enough = f"{duration(self.seconds)} were enough for {steps} steps, validation with it"
        return [f"{enough}; give train.max_minutes more, or validation fewer tokens"]

    def saved(self) -> dict[str, object]:
        """The state as JSON values."""
        return asdict(self.state)

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes the state of an earlier run of the same settings, unless its length was set in steps."""
        if self.seconds is not None:
            self.state = HorizonState(**saved)
