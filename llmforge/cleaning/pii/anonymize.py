"""The step that takes personal data out of a text: keyed pseudonyms, masks, or the whole document dropped.

Names of persons are beyond patterns: they stay, unless a recogniser is given for them (names.py). The step ends only
when the patterns find nothing more in its own output, so a second pass over the corpus changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from pydantic import Field, field_validator, model_validator

from llmforge.cleaning.pii.find import find, without_overlaps
from llmforge.cleaning.pii.match import KINDS, PATTERN_KINDS, Kind, Match, Sealed
from llmforge.cleaning.pii.names import find_names, load_recogniser
from llmforge.cleaning.pii.pseudonyms import MASKS, Pseudonyms
from llmforge.cleaning.pii.vault import Sealer
from llmforge.cleaning.verdict import KEEP, Drop, Keep, Rewrite
from llmforge.config.schema import Config

_MAX_PASSES = 8


class AnonymizeSettings(Config):
    """Which personal data is looked for and what happens to it."""

    kinds: list[Kind] = Field(default=list(PATTERN_KINDS), min_length=1, description=", ".join(KINDS))
    action: Literal["pseudonymize", "mask", "drop_document"] = Field(
        default="pseudonymize", description="a stand-in of the same form, a mark such as <EMAIL>, or drop the document"
    )
    key_file: str | None = Field(
        default=None, description="the secret of the pseudonyms; in the user's configuration folder when not given"
    )
    reversible: bool = Field(
        default=True, description="keep the originals, sealed by the key, so that its owner can put them back"
    )
    metadata: bool = Field(
        default=True,
        description="also in the other fields and the own ids of rows: all text in them, but not numbers, nor file and "
        "row, which say where a document lay; false leaves fields and ids as they are, personal data too",
    )
    phone_regions: list[str] = Field(
        default=["US", "GB", "DE", "FR", "IN", "AU"], description="whose national telephone numbers are known"
    )
    names_model: str | None = Field(
        default=None, description="for the kind name: a spaCy pipeline that is installed, or its folder; never fetched"
    )

    @field_validator("phone_regions")
    @classmethod
    def _codes(cls, regions: list[str]) -> list[str]:
        wrong = [region for region in regions if not re.fullmatch("[A-Z]{2}", region)]
        if wrong:
            raise ValueError(f"not a country code of two capital letters: {', '.join(wrong)}")
        return regions

    @model_validator(mode="after")
    def _names(self) -> AnonymizeSettings:
        if ("name" in self.kinds) != (self.names_model is not None):
            raise ValueError("the kind name and names_model go together: give both or neither")
        return self


class Anonymize:
    """Finds and replaces; `key` is needed to pseudonymize only.

    `recogniser` gives (start, end) of each person's name in a text; it is loaded by `names_model` when not given.
    """

    name = "anonymize"

    def __init__(
        self,
        settings: AnonymizeSettings,
        key: bytes | None,
        recogniser: Callable[[str], Iterable[tuple[int, int]]] | None = None,
    ) -> None:
        self._settings = settings
        self._kinds = frozenset(settings.kinds)
        self._recogniser = recogniser
        if recogniser is None and settings.names_model is not None:
            self._recogniser = load_recogniser(settings.names_model)
        self._pseudonyms = self._sealer = None
        if settings.action == "pseudonymize":
            assert key is not None, "pseudonyms need a key"
            self._pseudonyms = Pseudonyms(key)
            self._sealer = Sealer(key) if settings.reversible else None

    def __call__(self, text: str) -> Keep | Drop | Rewrite:
        """Keep, Rewrite with counts by kind and sealed originals, or Drop."""
        found = self._find(text)
        if found and self._settings.action == "drop_document":
            what = ", ".join(f"{count} {kind}" for kind, count in _counts(found).items())
            return Drop(self.name, "drop_document", f"it has personal data ({what})")
        return self._replaced(text, found) if found else KEEP

    def hidden(self, text: str) -> Keep | Rewrite:
        """As a call, but never a Drop: where documents are dropped for personal data it is masked."""
        found = self._find(text)
        return self._replaced(text, found) if found else KEEP

    def hide(self, text: str) -> str:
        """The text without personal data, whatever the action."""
        verdict = self.hidden(text)
        return verdict.text if isinstance(verdict, Rewrite) else text

    def _find(self, text: str) -> list[Match]:
        found = self._patterns(text)
        if self._recogniser is None:
            return found
        return without_overlaps([*found, *find_names(text, self._recogniser)])

    def _patterns(self, text: str) -> list[Match]:
        return find(text, self._kinds, self._settings.phone_regions)

    def _replaced(self, text: str, found: list[Match]) -> Rewrite:
        counts = _counts(found)
        sealed: list[Sealed] = []
        # What stood beside a replaced part may become visible only now; after a few rounds masks end it for certain.
        for number in range(_MAX_PASSES):
            text = self._pass(text, found, sealed, masked=number >= _MAX_PASSES // 2)
            found = self._patterns(text)
            if not found:
                break
        return Rewrite(text, counts, tuple(dict.fromkeys(sealed)))

    def _pass(self, text: str, found: list[Match], sealed: list[Sealed], masked: bool) -> str:
        pieces: list[str] = []
        end = 0
        for match in found:
            written = text[match.start : match.end]
            if masked or self._pseudonyms is None:
                stand_in = MASKS[match.kind]
            else:
                stand_in = self._pseudonyms.stand_in(match, written)
                if self._sealer is not None:
                    sealed.append(self._sealer.seal(match.kind, stand_in, written))
            pieces += [text[end : match.start], stand_in]
            end = match.end
        return "".join([*pieces, text[end:]])


def _counts(found: list[Match]) -> dict[str, int]:
    return dict(sorted(Counter(str(match.kind) for match in found).items()))
