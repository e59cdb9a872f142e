"""What other thresholds would drop, from the stored signals: no text is read again.

For one threshold at a time, all others as they are. Duplicates are not in it: which documents are copies depends on
which ones are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from llmforge.cleaning.rules.rule_sets import RuleSet, signal_of, threshold_keys
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


def thresholds_of(rules: Sequence[RuleSet]) -> dict[str, tuple[RuleSet, str, float]]:
    """`rule.key` -> (rule set, key, value in use), of every threshold that judges a stored signal."""
    found = {}
    for rule_set in rules:
        for key in threshold_keys(rule_set):
            value = getattr(rule_set, key)
            if value is not None:
                found[f"{rule_set.name}.{key}"] = (rule_set, key, float(value))
    return found


class Sweep:
    """The stored measurements of a run, ready for other thresholds."""

    def __init__(self, store: SignalStore, rules: Sequence[RuleSet]) -> None:
        import numpy as np

        self._store = store
        self.thresholds = thresholds_of(rules)
        self._bytes = store.column("bytes").astype(np.int64)
        reasons = store.column("reasons")
        self._num_reasons = np.fromiter((len(names) for names in reasons), dtype=np.int64, count=len(reasons))
        self._having: dict[str, Any] = {}
        places: dict[str, list[int]] = {}
        for number, names in enumerate(reasons):
            for name in names:
                places.setdefault(str(name), []).append(number)
        for name, numbers in places.items():
            mask = np.zeros(len(reasons), dtype=bool)
            mask[numbers] = True
            self._having[name] = mask

    def values(self, threshold: str) -> Any:
        """The signal that a threshold judges, for every document; NaN where none was measured."""
        rule_set, key, _ = self._known(threshold)
        return self._store.column(signal_of(rule_set, key)[0])

    def at(self, threshold: str, values: Sequence[float]) -> list[SweepRow]:
        """A row for each value of a threshold such as `gopher_quality.min_words`.

        Raises:
            UsageError: no rule set of the config has this threshold.
        """
        import numpy as np

        rule_set, key, used = self._known(threshold)
        signal, direction = signal_of(rule_set, key)
        measured = self._store.column(signal)
        own = self._having.get(threshold)
        others = (self._num_reasons - (own if own is not None else 0)) > 0
        rows = []
        for value in values:
            failing = measured < value if direction == "min" else measured > value  # NaN fails nothing
            kept = ~failing & ~others
            fails, alone, stay = (int(np.count_nonzero(mask)) for mask in (failing, failing & ~others, kept))
            rows.append(SweepRow(threshold, value, value == used, fails, alone, stay, int(self._bytes[kept].sum())))
        return rows

    def _known(self, threshold: str) -> tuple[RuleSet, str, float]:
        found = self.thresholds.get(threshold)
        if found is None:
            near = get_close_matches(threshold, self.thresholds, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.thresholds) or 'none'}"
            raise UsageError("no rule set of this config has this threshold", threshold, hint)
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
