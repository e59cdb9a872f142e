"""International bank account numbers in a text (ISO 13616): a country's code, its length and form, and mod 97."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmforge.cleaning.pii.match import Match
from llmforge.cleaning.pii.shapes import Shapes, places

_IBAN = re.compile(
    r"(?:[A-Z]{2}[0-9]{2}(?:[ \-\n]?[A-Z0-9]){11,30}|[a-z]{2}[0-9]{2}(?:[ \-\n]?[a-z0-9]){11,30})(?![A-Za-z0-9])"
)
_SHORTEST = 15
_NO_CHECK = "00"  # check figures run from 02 to 98, so this marks a stand-in


def find_ibans(text: str, shapes: Shapes) -> Iterator[Match]:
    """The valid account numbers of a text, in capitals or in small letters."""
    for mark in (b"AA00", b"aa00"):
        yield from _marked(text, shapes, mark)


def _marked(text: str, shapes: Shapes, mark: bytes) -> Iterator[Match]:
    free = 0
    for at in places(shapes.kinds, mark):
        if at < free or text[at + 2 : at + 4] == _NO_CHECK or (at > 0 and text[at - 1].isalnum()):
            continue
        found = _IBAN.match(text, at)
        piece = found.group() if found is not None else ""
        # A word in capitals may follow: the last groups are given up one after the other.
        while len(piece) >= _SHORTEST:
            compact = "".join(filter(str.isalnum, piece))
            if _is_valid(compact):
                free = at + len(piece)
                yield Match(at, free, "iban", compact.upper())
                break
            piece = piece[: max(piece.rfind(" "), piece.rfind("-"), piece.rfind("\n"), 0)]


def _is_valid(compact: str) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(compact, check_country=False))
