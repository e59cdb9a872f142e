"""Personal data beside the text: in the other fields of a row, in its own id, and in why a row was refused.

All text of the fields is looked at, however deep it lies, and their names too: those of a table without a header are
its first row. The stand-ins are those of the text, under one key, so that a person has one name in both. Numbers stay
as they are, and so do `file` and `row`, which we put there ourselves: they say where the row lay.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache

from llmforge.cleaning.pii.anonymize import Anonymize
from llmforge.cleaning.pii.match import Sealed
from llmforge.cleaning.verdict import Keep, Rewrite
from llmforge.corpus.document import BadRow, Document

_PLACE = ("file", "row")
_LONGEST_NAME = 64
_REMEMBERED = 4096  # names and values that come with every row, each of at most so many characters:
_SHORT = 200


@dataclass(slots=True)
class HiddenFields:
    """An id and fields without personal data, what was replaced by kind, and the sealed originals."""

    id: str
    metadata: dict[str, object]
    counts: Counter[str] = field(default_factory=Counter)
    sealed: list[Sealed] = field(default_factory=list)


class Fields:
    """Hides what `anonymize` finds in the fields of documents: a function of the document alone."""

    def __init__(self, anonymize: Anonymize) -> None:
        self._whole = anonymize.hidden
        self._short = lru_cache(_REMEMBERED)(anonymize.hidden)

    def __call__(self, document: Document, id_key: str | None) -> HiddenFields:
        """The id, where it is the row's own text, and the fields, as they would be written."""
        found = HiddenFields(document.id, {})
        for name, value in document.metadata.items():
            if name in _PLACE:
                found.metadata[name] = value
            else:
                found.metadata[self._name(name, found.metadata, found)] = self._value(name, value, found)
        if id_key is not None and _is_own_text(document, id_key):
            # It is a field already, and is not counted again.
            found.id = self._text(id_key, document.id, HiddenFields("", {}))
        return found

    def refused(self, row: BadRow) -> BadRow:
        """The row with its reason as it would be written; `where` says where it lay and stays."""
        verdict = self._whole(row.reason)
        return replace(row, reason=verdict.text) if isinstance(verdict, Rewrite) else row

    def _value(self, name: str, value: object, found: HiddenFields) -> object:
        """The value without personal data; fields are nested 32 deep at most."""
        if isinstance(value, str):
            return self._text(name, value, found)
        if isinstance(value, list):
            return [self._value(name, item, found) for item in value]
        if isinstance(value, dict):
            inner: dict[str, object] = {}
            for own, item in value.items():
                inner[self._name(own, inner, found)] = self._value(own, item, found)
            return inner
        return value

    def _name(self, name: str, taken: dict[str, object], found: HiddenFields) -> str:
        """The name of a field; where two have one stand-in, the second gets "~2" behind it."""
        hidden = wanted = self._text("", name, found)
        copies = 1
        while hidden in taken:
            copies += 1
            hidden = f"{wanted}~{copies}"
        return hidden

    def _text(self, name: str, text: str, found: HiddenFields) -> str:
        """The text of a field, looked at behind its name: what a number or a word is, often the name alone says."""
        before = f"{name}: " if name and len(name) <= _LONGEST_NAME else ""
        verdict = self._verdict(before + text)
        if isinstance(verdict, Rewrite) and not verdict.text.startswith(before):  # the name is personal data itself
            before, verdict = "", self._verdict(text)
        if isinstance(verdict, Keep):
            return text
        found.counts.update(verdict.counts)
        found.sealed.extend(verdict.sealed)
        return verdict.text[len(before) :]

    def _verdict(self, text: str) -> Keep | Rewrite:
        return self._short(text) if len(text) <= _SHORT else self._whole(text)


def _is_own_text(document: Document, id_key: str) -> bool:
    """False for an id that is made of file and row, or of a number."""
    own = document.metadata.get(f"{id_key}_" if id_key in _PLACE else id_key)
    place = f"{document.metadata.get('file')}#{document.metadata.get('row')}"
    return document.id != place and not isinstance(own, int | float)
