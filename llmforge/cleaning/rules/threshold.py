"""A number against the `min_...` and `max_...` of a rule set's config, and the drop that says so in words.

What equals a threshold is kept.
"""

from __future__ import annotations

from llmforge.cleaning.verdict import Drop
from llmforge.config.schema import Config


def outside(rules: Config, key: str, value: float, what: str) -> Drop | None:
    """A Drop when `value` is below `min_<key>` or above `max_<key>` of the rules, where these exist.

    `what` completes "it has 0.42 ..., more than 0.3".
    """
    lowest = getattr(rules, f"min_{key}", None)
    if lowest is not None and value < lowest:
        return _drop(rules, f"min_{key}", f"{apart(value, lowest)} {what}, less than {shown(lowest)}")
    highest = getattr(rules, f"max_{key}", None)
    if highest is not None and value > highest:
        return _drop(rules, f"max_{key}", f"{apart(value, highest)} {what}, more than {shown(highest)}")
    return None


def _drop(rules: Config, threshold: str, words: str) -> Drop:
    name = getattr(rules, "name", "")
    return Drop(str(name), threshold, f"it has {words}")


def apart(value: float, threshold: float) -> str:
    """`value` with as many digits as it takes to differ from the threshold: never "0.16, more than 0.16"."""
    digits = 3
    while not isinstance(value, int) and value != threshold and digits < 17:
        if float(f"{value:.{digits}g}") != threshold:
            break
        digits += 1
    return shown(value, digits)


def shown(value: float, digits: int = 3) -> str:
    """A count with separators, a ratio with three digits or more."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"
