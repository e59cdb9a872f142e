"""Rule sets that judge: which signal each `min_...` and `max_...` of a config looks at, and the drop that it gives.

What equals a threshold is kept. A threshold that is null is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from llmforge.cleaning.signals.measure import Signals
from llmforge.cleaning.verdict import Drop
from llmforge.config.schema import Config

Direction = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Limit:
    """The threshold `key` is held against this signal; `what` completes "it has 0.42 ..., more than 0.3"."""

    key: str
    signal: str
    what: str

    @property
    def direction(self) -> Direction:
        """Whether less than the threshold is dropped, or more."""
        return "min" if self.key.startswith("min_") else "max"


class Judge(Config):
    """The parent of rule sets that judge; a subclass has a `name` and says its limits."""

    def limits(self) -> Sequence[Limit]:
        """One for each threshold, in the order in which they are looked at."""
        raise TypeError(f"{type(self).__name__} has no limits")

    def judge_all(self, signals: Signals) -> list[Drop]:
        """A Drop for each threshold that the text does not meet, in order."""
        return list(Bounds([self]).drops(signals))

    def judge(self, signals: Signals) -> Drop | None:
        """The first threshold that the text does not meet, or None."""
        return next(iter(Bounds([self]).drops(signals)), None)


class Bounds:
    """The thresholds of rule sets that are not null, looked up once."""

    def __init__(self, rules: Iterable[Judge]) -> None:
        self._bounds = [
            (str(getattr(judge, "name", "")), limit, limit.signal, limit.direction == "min", float(bound))
            for judge in rules
            for limit in judge.limits()
            if (bound := getattr(judge, limit.key)) is not None
        ]

    @property
    def signals(self) -> set[str]:
        """The names of the signals that must be measured."""
        return {name for _, _, name, _, _ in self._bounds}

    def drops(self, signals: Signals) -> Iterable[Drop]:
        """A Drop for each threshold that the text does not meet, in order."""
        values = signals.values
        for rule, limit, name, is_least, bound in self._bounds:
            value = values[name]
            if value < bound if is_least else value > bound:
                than = "less" if is_least else "more"
                words = f"it has {apart(value, bound)} {limit.what}, {than} than {shown(bound)}"
                yield Drop(rule, limit.key, words)


def apart(value: float, threshold: float) -> str:
    """`value` with as many digits as it takes to differ from the threshold: never "0.16, more than 0.16"."""
    digits = 3
    while value != threshold and digits < 17:
        if float(f"{value:.{digits}g}") != threshold:
            break
        digits += 1
    return shown(value, digits)


def shown(value: float, digits: int = 3) -> str:
    """A whole number with separators, a ratio with three digits or more."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.{digits}g}"
