"""National identity numbers in a text: about thirty countries' forms with their checks (national_id_forms.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from llmforge.cleaning.pii.match import Match
from llmforge.cleaning.pii.national_id_forms import id_forms
from llmforge.cleaning.pii.shapes import Shapes, places

_NUMBER = re.compile(rb"0+(?:[ .\-/]0+)*")
_TOKEN = b"0A.-+"
_LONGEST = 24
_CONTEXT = 56
_OTHER_BEFORE = re.compile(
    r"(?:\b(?:parts?|order|model|item|sku|serial|catalog(?:ue)?|cat|invoice|ticket|case|isbn|issn|ref|cas|article|ean|"
    r"upc|doi|tel|phone|fax|version|batch|lot)\b[^\n]{0,12}|[$€£])$",
    re.IGNORECASE,
)


def find_national_ids_in_figures(text: str, shapes: Shapes, first: int, last: int) -> Iterator[Match]:
    """Numbers without letters that begin in text[first:last]."""
    kinds = shapes.kinds
    found = _NUMBER.search(kinds, first, last)
    while found is not None:
        start, end = found.span()
        match = _known(text, shapes, start, end)
        if match is None and b" " in found.group():
            # A number beside another: its parts between spaces, each alone.
            for part in re.finditer(rb"[^ ]+", found.group()):
                alone = _known(text, shapes, start + part.start(), start + part.end())
                if alone is not None:
                    yield alone
        elif match is not None:
            yield match
        found = _NUMBER.search(kinds, end, last)


def find_national_ids_with_letters(text: str, shapes: Shapes) -> Iterator[Match]:
    """Numbers with capitals in them, reached from where a figure and a capital meet."""
    kinds = shapes.kinds
    for spaced in (b"AA 00 00 00 A", b"AA 000000 A"):
        for at in places(kinds, spaced):
            match = _known(text, shapes, at, at + len(spaced))
            if match is not None:
                yield match
    free = 0
    for mark in (b"A0", b"0A", b"0-A", b"-000A"):
        for at in places(kinds, mark):
            if at < free and mark == b"A0":
                continue
            start = at + 1 - len(_tail(kinds[max(0, at - _LONGEST) : at + 1]))
            end = at + len(_head(kinds[at : at + _LONGEST]))
            free = max(free, end)
            match = _known(text, shapes, start, end)
            if match is not None:
                yield match


def _tail(piece: bytes) -> bytes:
    return piece[len(piece.rstrip(_TOKEN)) :]


def _head(piece: bytes) -> bytes:
    head = piece[: len(piece) - len(piece.lstrip(_TOKEN))]
    return head.rstrip(b".-+")


def _known(text: str, shapes: Shapes, start: int, end: int) -> Match | None:
    """The number text[start:end], when its form is known and its check and surroundings agree."""
    if end - start > _LONGEST:
        return None
    rows = _forms().get(shapes.kinds[start:end])
    if rows is None or _runs_on(text, start, end):
        return None
    written = text[start:end]
    before = text[max(0, start - _CONTEXT) : start]
    for row in rows:
        known = row.named.search(before) or (row.rare and not _OTHER_BEFORE.search(before))
        if known and row.check(written):
            return Match(start, end, "national_id", re.sub(r"[^0-9A-Z]", "", written))
    return None


def _runs_on(text: str, start: int, end: int) -> bool:
    """Whether the number is part of something longer."""
    before, after = text[max(0, start - 1) : start], text[end : end + 2]
    if before and (before.isalnum() or before in "_-.+@/"):
        return True
    return bool(after) and (after[0].isalnum() or after[0] in "_@" or (after[0] in "-./" and after[1:].isalnum()))


def is_valid_anywhere(written: str, form: bytes) -> bool:
    """Whether any country would take a number of this form as valid; stand-ins must not be."""
    return any(row.check(written) for row in _forms().get(form, ()))


_forms = cache(id_forms)
