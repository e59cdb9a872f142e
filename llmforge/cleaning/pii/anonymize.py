"""The step that takes personal data out of a text: keyed pseudonyms, masks, or the whole document dropped.

Names of persons are beyond patterns and stay. The step ends only when it finds nothing more in its own output, so a
second pass over the corpus changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from pydantic import Field, field_validator

from llmforge.cleaning.pii.find import find
from llmforge.cleaning.pii.match import Kind, Match
from llmforge.cleaning.pii.pseudonyms import MASKS, Pseudonyms
from llmforge.cleaning.verdict import KEEP, Drop, Keep, Rewrite
from llmforge.config.schema import Config

_MAX_PASSES = 8


class AnonymizeSettings(Config):
    """Which personal data is looked for and what happens to it."""

    kinds: list[Kind] = Field(
        default=["email", "ip", "phone", "card", "key"], min_length=1, description="email, ip, phone, card, key"
    )
    action: Literal["pseudonymize", "mask", "drop_document"] = Field(
        default="pseudonymize", description="a stand-in of the same form, a mark such as <EMAIL>, or drop the document"
    )
    key_file: str | None = Field(
        default=None, description="the secret of the pseudonyms; in the user's configuration folder when not given"
    )
    phone_regions: list[str] = Field(
        default=["US", "GB", "DE", "FR", "IN", "AU"], description="whose national telephone numbers are known"
    )

    @field_validator("phone_regions")
    @classmethod
    def _codes(cls, regions: list[str]) -> list[str]:
        wrong = [region for region in regions if not re.fullmatch("[A-Z]{2}", region)]
        if wrong:
            raise ValueError(f"not a country code of two capital letters: {', '.join(wrong)}")
        return regions


class Anonymize:
    """Finds and replaces; `key` is needed to pseudonymize only."""

    name = "anonymize"

    def __init__(self, settings: AnonymizeSettings, key: bytes | None) -> None:
        self._settings = settings
        self._kinds = frozenset(settings.kinds)
        self._pseudonyms = None
        if settings.action == "pseudonymize":
            assert key is not None, "pseudonyms need a key"
            self._pseudonyms = Pseudonyms(key)

    def __call__(self, text: str) -> Keep | Drop | Rewrite:
        """Keep, Rewrite with counts by kind, or Drop."""
        found = self._find(text)
        if not found:
            return KEEP
        counts = dict(sorted(Counter(match.kind for match in found).items()))
        if self._settings.action == "drop_document":
            what = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            return Drop(self.name, "drop_document", f"it has personal data ({what})")
        return Rewrite(self._replaced(text, found), {str(kind): count for kind, count in counts.items()})

    def hide(self, text: str) -> str:
        """The text without personal data, whatever the action: masked where documents are dropped for it."""
        found = self._find(text)
        return self._replaced(text, found) if found else text

    def _find(self, text: str) -> list[Match]:
        return find(text, self._kinds, self._settings.phone_regions)

    def _replaced(self, text: str, found: list[Match]) -> str:
        # What stood beside a replaced part may become visible only now; after a few rounds masks end it for certain.
        for number in range(_MAX_PASSES):
            text = self._pass(text, found, masked=self._pseudonyms is None or number >= _MAX_PASSES // 2)
            found = self._find(text)
            if not found:
                break
        return text

    def _pass(self, text: str, found: list[Match], masked: bool) -> str:
        pieces: list[str] = []
        end = 0
        for match in found:
            pieces.append(text[end : match.start])
            written = text[match.start : match.end]
            if masked or self._pseudonyms is None:
                pieces.append(MASKS[match.kind])
            else:
                pieces.append(self._pseudonyms.stand_in(match, written))
            end = match.end
        return "".join([*pieces, text[end:]])
