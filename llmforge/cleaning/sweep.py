"""What other thresholds would drop, from the stored signals: no text is read again.

For one threshold at a time, all others as they are. Duplicates are not in it: which documents are copies depends on
which ones are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from llmforge.cleaning.rules.rule_sets import RuleSet
from llmforge.cleaning.rules.threshold import Direction, Judge
from llmforge.cleaning.signal_store import SignalStore
from llmforge.errors import UsageError


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One value of a threshold: documents that fail it, that fail nothing else, and that the rules keep then."""

    threshold: str  # rule.key
    value: float
    in_use: bool
    failing: int
    failing_only_this: int
    kept: int
    kept_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold of a config that is in use: `rule.key`, its value, and the signal it looks at."""

    name: str
    key: str
    value: float
    signal: str
    direction: Direction

    def fails(self, measured: Any, value: float) -> Any:
        """Whether a measured number, or each of an array, is on the wrong side of a value; NaN never is."""
        return measured < value if self.direction == "min" else measured > value


def thresholds_of(rules: Sequence[RuleSet]) -> dict[str, Threshold]:
    """The thresholds in use by name, in the order in which they are looked at."""
    found = {}
    for rule_set in rules:
        for limit in rule_set.limits() if isinstance(rule_set, Judge) else ():
            value = getattr(rule_set, limit.key)
            if value is not None:
                name = f"{rule_set.name}.{limit.key}"
                found[name] = Threshold(name, limit.key, float(value), limit.signal, limit.direction)
    return found


class Sweep:
    """The stored measurements of a run, ready for other thresholds."""

    def __init__(self, store: SignalStore, rules: Sequence[RuleSet]) -> None:
        import numpy as np

        self._store = store
        self.thresholds = thresholds_of(rules)
        self._bytes = store.column("bytes").astype(np.int64)
        self._num_reasons, self._having = store.reasons()

    def values(self, threshold: str) -> Any:
        """The signal that a threshold judges, for every document; NaN where none was measured."""
        return self._store.column(self._known(threshold).signal)

    def at(self, threshold: str, values: Sequence[float]) -> list[SweepRow]:
        """A row for each value of a threshold such as `gopher_quality.min_words`.

        Raises:
            UsageError: no rule set has this threshold, or its signal was not measured.
        """
        import numpy as np

        known = self._known(threshold)
        measured = self._store.column(known.signal)
        own = np.zeros(len(self._num_reasons), dtype=bool)
        if threshold in self._having:
            own[self._having[threshold]] = True
        others = self._num_reasons > own
        rows = []
        for value in values:
            failing = known.fails(measured, value)
            kept = ~failing & ~others
            fails, alone, stay = (int(np.count_nonzero(mask)) for mask in (failing, failing & ~others, kept))
            rows.append(
                SweepRow(threshold, value, value == known.value, fails, alone, stay, int(self._bytes[kept].sum()))
            )
        return rows

    def _known(self, threshold: str) -> Threshold:
        found = self.thresholds.get(threshold)
        if found is None:
            near = get_close_matches(threshold, self.thresholds, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.thresholds) or 'none'}"
            raise UsageError("no rule set that the corpus was made with has this threshold", threshold, hint)
        return found


def parse_sweeps(given: Sequence[str]) -> Mapping[str, list[float]]:
    """`["gopher_quality.min_words=10,20"]` -> {"gopher_quality.min_words": [10, 20]}.

    Raises:
        UsageError: not of this form.
    """
    found: dict[str, list[float]] = {}
    for text in given:
        name, _, values = text.partition("=")
        try:
            found[name.strip()] = [float(value) for value in values.split(",")]
        except ValueError:
            hint = "write RULE.THRESHOLD=VALUE,VALUE, as in gopher_quality.min_words=10,20,50"
            raise UsageError("not a threshold with values", text, hint) from None
    return found
