"""What a cleaning step says of a text: keep it, drop it for a reason, or go on with another text.

A step is a pure function of the text: the same text gets the same verdict in any order and on any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from llmforge.cleaning.pii.match import Sealed


@dataclass(frozen=True, slots=True)
class Keep:
    """The text stays as it is."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The document goes.

    `rule` names the step or rule set, `threshold` the key of its config that decided ("" when there is one only), and
    `because` completes "dropped because".
    """

    rule: str
    threshold: str
    because: str

    @property
    def name(self) -> str:
        """`rule.threshold`, or the rule alone."""
        return f"{self.rule}.{self.threshold}" if self.threshold else self.rule


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The document goes on with `text`; `counts` says what was replaced how often.

    `sealed` are the replaced originals, each readable with the user's key only; none where nothing can be put back.
    """

    text: str
    counts: dict[str, int] = field(default_factory=dict)
    sealed: tuple[Sealed, ...] = ()


Verdict = Keep | Drop | Rewrite
KEEP = Keep()


class Step(Protocol):
    """One step of the chain; `name` is what the ledger calls it."""

    name: str

    def __call__(self, text: str) -> Verdict:
        """The verdict on a text."""
