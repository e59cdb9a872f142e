"""The list of rule sets of a config: edits first, then the signals measured once, then every threshold judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from llmforge.cleaning.rules.c4 import C4
from llmforge.cleaning.rules.code import Code
from llmforge.cleaning.rules.dclm import Dclm
from llmforge.cleaning.rules.edited import Edited
from llmforge.cleaning.rules.fineweb import FineWeb
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
from llmforge.cleaning.rules.gutenberg import Gutenberg
from llmforge.cleaning.rules.threshold import Bounds, Direction, Judge
from llmforge.cleaning.rules.web_boilerplate import WebBoilerplate
from llmforge.cleaning.signals.measure import CHARACTERS, Meter, Signals
from llmforge.cleaning.verdict import Drop

RuleSet = Annotated[
    GopherQuality | GopherRepetition | FineWeb | C4 | Dclm | Code | Gutenberg | WebBoilerplate,
    Field(discriminator="name"),
]
JUDGES: tuple[type[Judge], ...] = (GopherQuality, GopherRepetition, FineWeb, C4, Dclm, Code)


def direction_of(threshold_key: str) -> Direction:
    """Whether a text is dropped below the threshold ("min") or above it ("max")."""
    return "min" if threshold_key.startswith("min_") else "max"


def signal_of(rule_name: str, threshold_key: str, rules: Sequence[RuleSet] = ()) -> str:
    """The name of the signal that a threshold is held against; that of the rule set in `rules`, else of its defaults.

    Raises:
        KeyError: there is no such rule set or threshold.
    """
    judges = [*(rule for rule in rules if isinstance(rule, Judge)), *(judge() for judge in JUDGES)]
    found = next((judge for judge in judges if getattr(judge, "name", "") == rule_name), None)
    for limit in found.limits() if found is not None else ():
        if limit.key == threshold_key:
            return limit.signal
    raise KeyError(f"{rule_name}.{threshold_key}")


class Rules:
    """The rule sets of a config, looked up once: `edit`, then `measure`, then `judge_all`."""

    def __init__(self, rules: Sequence[RuleSet]) -> None:
        self._edits = [rule.edit for rule in rules if isinstance(rule, C4 | Dclm | Gutenberg | WebBoilerplate)]
        self._bounds = Bounds(rule for rule in rules if isinstance(rule, Judge))
        self._meter = Meter(self._bounds.signals)

    @property
    def signals(self) -> set[str]:
        """The names of the signals that are measured."""
        return self._bounds.signals

    def edit(self, text: str) -> Edited:
        """The text after all edits in the config's order; the same object where none removed anything."""
        removed: dict[str, int] = {}
        for edit in self._edits:
            edited = edit(text)
            text = edited.text
            for reason, count in edited.removed.items():
                removed[reason] = removed.get(reason, 0) + count
        return Edited(text, removed)

    def measure(self, text: str, before: str) -> Signals:
        """The signals that the rule sets ask for, of an edited text that was `before`."""
        return self._meter.measure(text, before)

    def judge_all(self, signals: Signals) -> list[Drop]:
        """A Drop for each threshold that the text does not meet, in the config's order; empty when it stays.

        A text of which the edits left nothing has one Drop, `empty`.
        """
        if self._edits and not signals[CHARACTERS]:
            return [Drop("empty", "", "its edits left no text")]
        return list(self._bounds.drops(signals))
