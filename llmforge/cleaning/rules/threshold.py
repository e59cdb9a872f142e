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
        return _drop(rules, f"min_{key}", f"{shown(value)} {what}, less than {shown(lowest)}")
    highest = getattr(rules, f"max_{key}", None)
    if highest is not None and value > highest:
        return _drop(rules, f"max_{key}", f"{shown(value)} {what}, more than {shown(highest)}")
    return None


def _drop(rules: Config, threshold: str, words: str) -> Drop:
    name = getattr(rules, "name", "")
    return Drop(str(name), threshold, f"it has {words}")


def shown(value: float) -> str:
    """A count with separators, a ratio with three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
