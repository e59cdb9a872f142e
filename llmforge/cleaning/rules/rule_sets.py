"""The list of rule sets of a config as one step: the signals are measured once, the first rule that fails drops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from llmforge.cleaning.rules.fineweb import FineWeb
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
from llmforge.cleaning.signals.measure import Signals, measure
from llmforge.cleaning.verdict import KEEP, Drop, Keep, Verdict

RuleSet = Annotated[GopherQuality | GopherRepetition | FineWeb, Field(discriminator="name")]


def judge(rules: Sequence[RuleSet], signals: Signals) -> Drop | Keep:
    """The first Drop of the rule sets in their order, or Keep."""
    for rule_set in rules:
        if found := rule_set.judge(signals):
            return found
    return KEEP


class Rules:
    """The step that measures a text and judges it by every rule set."""

    name = "rules"

    def __init__(self, rules: Sequence[RuleSet]) -> None:
        self._rules = tuple(rules)
        self._repetition = any(isinstance(rule_set, GopherRepetition) for rule_set in rules)

    def __call__(self, text: str) -> Verdict:
        """Keep or Drop."""
        return judge(self._rules, measure(text, self._repetition))
