"""One piece of personal data found in a text, and which kinds there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["email", "ip", "phone", "card", "key"]
KINDS: tuple[Kind, ...] = ("key", "email", "ip", "card", "phone")  # where two overlap, the earlier kind is right


@dataclass(frozen=True, slots=True)
class Match:
    """`text[start:end]` is of `kind`; `canonical` is the same for all spellings of the same thing."""

    start: int
    end: int
    kind: Kind
    canonical: str
