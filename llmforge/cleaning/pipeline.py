"""The chain of steps that a document goes through alone, in their order, and what came of it.

Order, and why: *repair* first, so that all others see mended text; *language* before the rules, which are made for a
language and cost more; the *rules*; *anonymise* only what stays, and before duplicates, so that no personal data
reaches a file and documents are compared as they will be written; then exact duplicates, which are cheap, and near
ones, which have the fewest documents left to compare. Dropped texts are anonymised too before they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmforge.cleaning.dedup.near import NearSettings
from llmforge.cleaning.language import Language, LanguageSettings
from llmforge.cleaning.pii.anonymize import Anonymize, AnonymizeSettings
from llmforge.cleaning.repair import Repair, RepairSettings
from llmforge.cleaning.rules.rule_sets import Rules, RuleSet
from llmforge.cleaning.verdict import Drop, Rewrite, Step


@dataclass(frozen=True)
class ChainSettings:
    """What every worker needs to build the same chain."""

    repair: RepairSettings | None
    language: LanguageSettings | None
    rules: Sequence[RuleSet]
    anonymize: AnonymizeSettings | None
    key: bytes | None
    exact: bool
    near: NearSettings | None


@dataclass(slots=True)
class Outcome:
    """A document after the chain: its text now, why it goes if it goes, and which steps changed it."""

    text: str
    drop: Drop | None = None
    changed: list[str] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)
    exact_key: bytes | None = None


class Chain:
    """The steps of a config, built once in each process."""

    def __init__(self, settings: ChainSettings) -> None:
        self._repair = Repair(settings.repair) if settings.repair is not None else None
        self._anonymize = Anonymize(settings.anonymize, settings.key) if settings.anonymize is not None else None
        self._steps: list[Step] = []
        if settings.language is not None:
            self._steps.append(Language(settings.language))
        if settings.rules:
            self._steps.append(Rules(settings.rules))
        if self._anonymize is not None:
            self._steps.append(self._anonymize)

    def clean(self, text: str) -> Outcome:
        """The outcome for a text: a function of the text alone."""
        outcome = Outcome(text)
        if self._repair is not None:
            self._apply(self._repair, outcome)
        if not outcome.text or outcome.text.isspace():
            outcome.drop = Drop("empty", "", "it has no text")
        for step in self._steps:
            if outcome.drop is not None:
                break
            self._apply(step, outcome)
        if outcome.drop is not None and self._anonymize is not None:
            outcome.text = self._anonymize.hide(outcome.text)
        return outcome

    def _apply(self, step: Step, outcome: Outcome) -> None:
        verdict = step(outcome.text)
        if isinstance(verdict, Drop):
            outcome.drop = verdict
        elif isinstance(verdict, Rewrite):
            outcome.text = verdict.text
            outcome.changed.append(step.name)
            outcome.replaced.update(verdict.counts)
