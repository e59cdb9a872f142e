"""The run's end by steps and by the clock."""

from __future__ import annotations

import pytest

from llmforge.training.assemble import Recipe, make_horizon
from llmforge.training.horizon import Horizon, HorizonState
from llmforge.training.settings import OptimizerSettings, ParallelSettings, SchedulerSettings, TrainSettings

WSD = SchedulerSettings(name="wsd", warmup_steps=0, decay_ratio=0.5)


def run(horizon: Horizon, pace_at: object, reserve: float = 0.0) -> tuple[int, float, list[float]]:
    """Steps, seconds and factors of a run whose step n takes pace_at(n) seconds."""
    step, elapsed, factors = 0, 0.0, []
    pace = None
    while not horizon.watch(step, elapsed, pace, reserve):
        factors.append(horizon.factor(step))
        pace = pace_at(step)  # type: ignore[operator]
        elapsed += pace
        step += 1
    return step, elapsed, factors


def test_steps_are_kept() -> None:
    steps, _, factors = run(Horizon(WSD, steps=10), lambda step: 100.0)
    assert steps == 10 and factors[5:] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_the_default_warmup_does_not_become_another_when_the_steps_are_known() -> None:
    parts = (OptimizerSettings(), SchedulerSettings(), ParallelSettings())
    budgets = ({"max_minutes": 1.0}, {"max_steps": 40})
    found = [make_horizon(Recipe(TrainSettings.model_validate(given), *parts), 1, 8, 1) for given in budgets]
    found[0].state = HorizonState(40, 10)
    assert [horizon.factor(9) for horizon in found] == pytest.approx([0.5, 1.0])


def test_minutes_decay_over_the_second_half_and_end_in_time() -> None:
    horizon = Horizon(WSD, seconds=100)
    steps, elapsed, factors = run(horizon, lambda step: 1.0, reserve=8)
    assert 85 <= elapsed <= 92
    assert factors[39] == 1.0 and factors[-1] < 0.05
    assert factors[65] == pytest.approx((steps - 65) / (steps - factors.count(1.0) + 1), abs=0.02)


def test_a_machine_that_slows_down_still_ends_in_time_with_small_rates() -> None:
    horizon = Horizon(WSD, seconds=100)
    _, elapsed, factors = run(horizon, lambda step: 1.0 if step < 60 else 4.0)
    assert elapsed <= 104
    assert factors[-1] < 0.15
    assert all(a >= b for a, b in zip(factors, factors[1:], strict=False))


def test_the_fixed_horizon_travels_with_the_state() -> None:
    horizon = Horizon(WSD, seconds=100)
    step, elapsed = 0, 0.0
    while horizon.steps is None:
        assert not horizon.watch(step, elapsed, 1.0, 0.0)
        step, elapsed = step + 1, elapsed + 1
    other = Horizon(WSD, seconds=100)
    other.restore(horizon.saved())
    assert other.steps == horizon.steps
    assert [other.factor(s) for s in range(step, step + 20)] == [horizon.factor(s) for s in range(step, step + 20)]


def test_a_constant_rate_only_ends() -> None:
    horizon = Horizon(SchedulerSettings(name="constant", warmup_steps=0), seconds=10)
    _, elapsed, factors = run(horizon, lambda step: 1.0)
    assert 9 <= elapsed <= 11 and set(factors) == {1.0}


def test_a_state_of_the_end_says_that_the_time_is_over() -> None:
    """Also where its own clock stood before the end, as in a state of the last step that was saved on the way."""
    horizon = Horizon(SchedulerSettings(name="constant", warmup_steps=0), seconds=10)
    steps, elapsed, _ = run(horizon, lambda step: 1.0)
    other = Horizon(SchedulerSettings(name="constant", warmup_steps=0), seconds=10)
    other.restore(horizon.saved())
    assert other.watch(steps, elapsed - 3.0, None, 0.0)


def test_one_step_is_taken_however_short_the_time() -> None:
    assert run(Horizon(WSD, seconds=0.001), lambda step: 1.0)[0] == 1


def test_a_machine_that_was_slow_for_a_while_uses_the_time_it_gets_back() -> None:
    horizon = Horizon(WSD, seconds=100)
    steps, elapsed, factors = run(horizon, lambda step: 2.0 if 20 <= step < 32 else 1.0)
    assert 94 <= elapsed <= 100 and steps >= 82
    assert factors[-1] < 0.1
    assert all(a >= b for a, b in zip(factors, factors[1:], strict=False))


@pytest.mark.parametrize(
    ("first", "reserve", "decay"), [(28.0, 0.0, 0.5), (35.0, 0.0, 0.5), (0.1, 32.0, 0.5), (0.1, 0, 1.0)]
)
def test_a_decay_that_begins_within_the_warm_up_does_not_stop_it(first: float, reserve: float, decay: float) -> None:
    """A first step that compiles, a long validation at the end: the rates still rise before they fall."""
    settings = SchedulerSettings(name="wsd", warmup_steps=20, decay_ratio=decay)
    horizon, elapsed, factors = Horizon(settings, seconds=60), 0.0, []
    # the first step tells nothing of the pace, as the trainer's clock has it
    while not horizon.watch(len(factors), elapsed, 0.1 if len(factors) > 1 else None, reserve):
        elapsed += 0.1 if factors else first
        factors.append(horizon.factor(len(factors)))
    assert len(factors) > 100 and elapsed + reserve <= 60
    assert max(factors) > 0.75 and factors[-1] < 0.05


def test_what_ate_the_time_is_said() -> None:
    horizon = Horizon(WSD, seconds=60)
    assert horizon.notes(400, 2.0) == []
    assert "40 s of 1:00 went into the first step, which compiles: 30 steps" in horizon.notes(30, 40.0)[0]
    assert "enough for 3 steps" in horizon.notes(3, 0.0)[0]
    assert Horizon(WSD, steps=2).notes(2, 50.0) == []
