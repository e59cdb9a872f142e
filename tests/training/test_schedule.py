"""Schedules against numbers worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmforge.training import schedule
from llmforge.training.settings import SchedulerSettings

WARM = SchedulerSettings(warmup_steps=20)


def factors(settings: SchedulerSettings, horizon: int) -> list[float]:
    start = schedule.decay_start(settings, horizon)
    return [schedule.factor(settings, step, start, horizon) for step in range(horizon)]


def test_wsd() -> None:
    settings = SchedulerSettings(name="wsd", warmup_steps=2, decay_ratio=0.4)
    assert factors(settings, 10) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_wsd_ends_at_its_floor() -> None:
    settings = SchedulerSettings(name="wsd", warmup_steps=0, decay_ratio=0.5, min_lr_ratio=0.2)
    assert factors(settings, 4) == pytest.approx([1, 1, 1, 0.6])
    assert schedule.factor(settings, 4, 2, 4) == pytest.approx(0.2)
    assert schedule.factor(settings, 99, 2, 4) == pytest.approx(0.2)


def test_linear() -> None:
    settings = SchedulerSettings(name="linear", warmup_steps=1)
    assert factors(settings, 5) == pytest.approx([1, 1, 0.75, 0.5, 0.25])


def test_cosine() -> None:
    settings = SchedulerSettings(name="cosine", warmup_steps=0, min_lr_ratio=0.1)
    # cos(pi/4) = .70711: .1 + .9 * (1 + .70711) / 2 = .86820; at the middle .1 + .45 = .55
    assert factors(settings, 4) == pytest.approx([1.0, 0.8681980515, 0.55, 0.2318019485])


def test_constant_with_warmup_ratio() -> None:
    settings = SchedulerSettings(name="constant", warmup_ratio=0.25)
    assert factors(settings, 8) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 1])


def test_warmup_longer_than_the_run_never_reaches_the_top_early() -> None:
    assert factors(SchedulerSettings(name="wsd", warmup_steps=100), 4) == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize(("horizon", "rising"), [(5, 1), (20, 2), (199, 19), (200, 20), (5000, 20), (None, 20)])
def test_the_default_warmup_takes_a_tenth_of_a_short_run(horizon: int | None, rising: int) -> None:
    assert schedule.warmup_steps(SchedulerSettings(), horizon) == rising
    assert schedule.warmup_steps(SchedulerSettings(warmup_steps=20), horizon) == min(20, horizon or 20)


def test_a_default_run_of_few_steps_falls_to_its_end() -> None:
    assert factors(SchedulerSettings(), 20)[-1] == pytest.approx(0.1)


def test_a_short_warmup_and_one_that_fills_the_run_are_told() -> None:
    assert schedule.notes(SchedulerSettings(), 20) == ["auto: scheduler.warmup_steps=2, for a run of 20 steps"]
    (full,) = schedule.notes(SchedulerSettings(warmup_steps=20), 20)
    assert "fills the whole run of 20 steps" in full and "scheduler.warmup_steps" in full
    (ratio,) = schedule.notes(SchedulerSettings(name="cosine", warmup_ratio=1.0), 20)
    assert "scheduler.warmup_ratio" in ratio
    for settings, horizon in ((SchedulerSettings(), 200), (SchedulerSettings(), None), (WARM, 21), (WARM, None)):
        assert schedule.notes(settings, horizon) == []


@given(
    name=st.sampled_from(["wsd", "cosine", "linear", "constant"]),
    warmup=st.integers(0, 50),
    horizon=st.integers(1, 200),
    floor=st.floats(0, 1),
)
def test_a_factor_is_a_share_and_falls_after_the_warmup(name: str, warmup: int, horizon: int, floor: float) -> None:
    settings = SchedulerSettings.model_validate({"name": name, "warmup_steps": warmup, "min_lr_ratio": floor})
    found = factors(settings, horizon)
    assert all(0 < value <= 1 for value in found[:1]) and all(0 <= value <= 1 for value in found)
    after = found[min(warmup, horizon) :]
    assert all(a >= b - 1e-12 for a, b in zip(after, after[1:], strict=False))
