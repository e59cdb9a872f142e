"""How much of a score is noise: standard errors, intervals of proportions, the bootstrap. Plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from statistics import NormalDist

CONFIDENCE = 0.95
REPEATS = 1000
# Draws in all, above which fewer repeats are made (but no fewer than 100): many values need fewer.
_DRAWS = 5_000_000


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of independent values: s / sqrt(n) with s over n - 1; None for fewer than two."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return math.sqrt(variance / count)


def ratio_standard_error(tops: Sequence[float], bottoms: Sequence[float]) -> float | None:
    """Of sum(tops) / sum(bottoms) over independent pairs, by linearisation; None for fewer than two.

    The residuals top - ratio * bottom have mean zero, and their spread over the mean bottom is the ratio's
    (Cochran, Sampling Techniques, 1977, 6.4).
    """
    count, whole = len(tops), math.fsum(bottoms)
    if count < 2 or whole == 0:
        return None
    ratio = math.fsum(tops) / whole
    squares = math.fsum((top - ratio * bottom) ** 2 for top, bottom in zip(tops, bottoms, strict=True))
    return math.sqrt(squares * count / (count - 1)) / whole


def wilson_interval(successes: int, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Where the true share lies that gave `successes` of `count` (Wilson, 1927): right also near 0 and 1."""
    assert 0 <= successes <= count and count > 0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = successes / count, z * z / count
    centre = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return (0.0 if successes == 0 else low), (1.0 if successes == count else high)


def bootstrap_interval(count: int, statistic: Callable[[Sequence[int]], float], seed: int) -> tuple[float, float]:
    """The middle 95 % of `statistic` over samples drawn anew with replacement (Efron, 1979).

    `statistic` gets the drawn indexes (0 to count - 1, some several times); the same seed draws the same.
    """
    assert count > 0
    draw = Random(seed)
    everyone = range(count)
    repeats = max(100, min(REPEATS, _DRAWS // count))
    found = sorted(statistic(draw.choices(everyone, k=count)) for _ in range(repeats))
    return quantile(found, (1 - CONFIDENCE) / 2), quantile(found, (1 + CONFIDENCE) / 2)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of an ascending sequence lies, between neighbours in proportion."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
