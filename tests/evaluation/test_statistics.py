"""Standard errors and intervals against numbers worked by hand or taken from published tables."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmforge.evaluation.statistics import (
    bootstrap_interval,
    quantile,
    ratio_standard_error,
    standard_error,
    wilson_interval,
)


def test_standard_error_by_hand() -> None:
    # mean 2.5, squares 2.25 + .25 + .25 + 2.25 = 5, variance 5/3, error sqrt(5/12)
    assert standard_error([1, 2, 3, 4]) == pytest.approx(math.sqrt(5 / 12))
    # 3 of 4 right: variance (3 * .0625 + .5625) / 3 = .25, error .25
    assert standard_error([1.0, 1.0, 1.0, 0.0]) == pytest.approx(0.25)
    assert standard_error([5.0]) is None
    assert standard_error([2.0, 2.0]) == 0.0


def test_ratio_standard_error_by_hand() -> None:
    # ratio 6 / 3 = 2, residuals (4 - 2 * 1, 2 - 2 * 2) = (2, -2), sqrt(8 * 2) / 3
    assert ratio_standard_error([4, 2], [1, 2]) == pytest.approx(4 / 3)
    values = [1.0, 2.0, 3.0, 4.0]
    assert ratio_standard_error(values, [1.0] * 4) == pytest.approx(standard_error(values))
    assert ratio_standard_error([1.0], [1.0]) is None


def test_wilson_against_published_numbers() -> None:
    # Agresti and Coull (1998): 0 of 10 gives (0, .278); Newcombe (1998), table I: 81 of 263 gives (.2553, .3662),
    # 15 of 148 gives (.0624, .1605), 1 of 29 gives (.0061, .1718)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-5)
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_is_symmetric(pair: tuple[int, int]) -> None:
    hits, count = pair
    low, high = wilson_interval(hits, count)
    assert 0 <= low <= hits / count <= high <= 1
    other = wilson_interval(count - hits, count)
    assert (1 - other[1], 1 - other[0]) == pytest.approx((low, high))


def test_quantile_lies_between_neighbours() -> None:
    assert quantile([0.0, 10.0], 0.25) == 2.5
    assert quantile([3.0], 0.9) == 3.0
    assert quantile([1.0, 2.0, 4.0], 1.0) == 4.0


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    draw = Random(3)
    values = [draw.gauss(5, 2) for _ in range(400)]

    def mean(drawn: object) -> float:
        return sum(values[at] for at in drawn) / len(values)  # type: ignore[attr-defined]

    low, high = bootstrap_interval(len(values), mean, seed=0)
    error, centre = standard_error(values), sum(values) / len(values)
    assert error is not None
    assert (low, high) == pytest.approx((centre - 1.96 * error, centre + 1.96 * error), abs=0.1 * error * 3)
    assert bootstrap_interval(len(values), mean, seed=0) == (low, high)
    assert bootstrap_interval(len(values), mean, seed=1) != (low, high)


def test_bootstrap_of_one_value_is_that_value() -> None:
    assert bootstrap_interval(1, lambda drawn: 7.0, seed=0) == (7.0, 7.0)
