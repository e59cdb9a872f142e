"""One piece of personal data found in a text, which kinds there are, and an original under seal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["key", "password", "email", "mac", "ip", "iban", "crypto", "card", "national_id", "phone", "name"]
# Where two overlap, the earlier kind is right.
KINDS: tuple[Kind, ...] = (
    "key", "password", "email", "mac", "ip", "iban", "crypto", "card", "national_id", "phone", "name"
)  # fmt: skip
PATTERN_KINDS: tuple[Kind, ...] = KINDS[:-1]  # all but names, which patterns cannot find


@dataclass(frozen=True, slots=True)
class Match:
    """`text[start:end]` is of `kind`; `canonical` is the same for all spellings of the same thing."""

    start: int
    end: int
    kind: Kind
    canonical: str


class Sealed(NamedTuple):
    """An original that only the key opens: what stands for it in the text, and its encrypted form in base64."""

    kind: str
    stand_in: str
    sealed: str
