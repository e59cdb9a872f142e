"""The share of the full learning rate at each step: pure functions of the step and of where the run turns and ends.

Steps count from 0; the factor at `step` is the one that the update number step + 1 is made with, so the first update of
a warm-up of W steps has 1/W and the last one before the horizon has what is left just before zero.
"""

from __future__ import annotations

import math

from llmforge.training.settings import SchedulerSettings

# The warm-up where nothing is given, and the part of a short run that it may take: for runs of 200 steps and more, 20.
WARMUP_STEPS, WARMUP_PART = 20, 10


def warmup(step: int, steps: int) -> float:
    """1/W, 2/W, ... 1: linear over the first `steps` updates."""
    return min(1.0, (step + 1) / steps) if steps else 1.0


def linear(step: int, start: int, end: int, floor: float = 0.0) -> float:
    """1 until `start`, then straight down; `floor` at `end` and after it."""
    return 1.0 - (1.0 - floor) * _share(step, start, end)


def cosine(step: int, start: int, end: int, floor: float = 0.0) -> float:
    """1 until `start`, then half a cosine down to `floor` at `end` (https://arxiv.org/abs/1608.03983)."""
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * _share(step, start, end)))


def _share(step: int, start: int, end: int) -> float:
    return 0.0 if step < start else 1.0 if step >= end else (step - start) / (end - start)


def warmup_steps(settings: SchedulerSettings, horizon: int | None) -> int:
    """Updates of the warm-up; never more than the run has."""
    if settings.warmup_ratio is not None:
        assert horizon is not None, "a warm-up ratio needs a known number of steps"
        return round(settings.warmup_ratio * horizon)
    if settings.warmup_steps == "auto":
        return WARMUP_STEPS if horizon is None else min(WARMUP_STEPS, max(1, horizon // WARMUP_PART))
    steps = settings.warmup_steps or 0
    return steps if horizon is None else min(steps, horizon)


def settled(settings: SchedulerSettings) -> SchedulerSettings:
    """The settings of a run whose length is found out on the way: its warm-up must not become another one then."""
    if settings.warmup_steps != "auto":
        return settings
    return settings.model_copy(update={"warmup_steps": warmup_steps(settings, None)})


def notes(settings: SchedulerSettings, horizon: int | None) -> list[str]:
    """What a person should know of the warm-up of a short run before it begins."""
    if horizon is None:
        return []
    rising = warmup_steps(settings, horizon)
    if settings.warmup_steps == "auto":
        short = rising < WARMUP_STEPS
        return [f"auto: scheduler.warmup_steps={rising}, for a run of {horizon} steps"] if short else []
    if rising < max(2, horizon):
        return []
    key = "warmup_ratio" if settings.warmup_steps is None else "warmup_steps"
    return [f"the warm-up fills the whole run of {horizon} steps, which ends at the full rate: lower scheduler.{key}"]


def decay_start(settings: SchedulerSettings, horizon: int) -> int:
    """The step from which the rates fall."""
    rising = warmup_steps(settings, horizon)
    if settings.name == "wsd":
        return max(rising, horizon - round((settings.decay_ratio or 0.0) * horizon))
    return rising


def factor(settings: SchedulerSettings, step: int, start: int | None, horizon: int | None) -> float:
    """What every rate is multiplied with at `step`, when rates fall from `start` on to the run's end at `horizon`.

    Both are None while a budget in minutes has not come to the decay yet.
    """
    rising = warmup(step, warmup_steps(settings, horizon))
    if settings.name == "constant" or start is None or horizon is None:
        return rising
    shape = cosine if settings.name == "cosine" else linear
    return rising * shape(step, start, horizon, settings.min_lr_ratio)
