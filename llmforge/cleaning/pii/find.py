"""All personal data of a text: every kind's finder, overlaps resolved, in the order of the text.

Each finder is reached from something that is rare in prose and cheap to look for ("@", "%40", a fixed beginning, a run
of figures, a class of neighbours in the text's shape) and looks at a bounded stretch around it, so the time grows with
the length of the text and with nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from llmforge.cleaning.pii.api_keys import find_api_keys
from llmforge.cleaning.pii.cards import find_cards
from llmforge.cleaning.pii.crypto_addresses import find_crypto_addresses
from llmforge.cleaning.pii.emails import find_emails, find_encoded_emails
from llmforge.cleaning.pii.ibans import find_ibans
from llmforge.cleaning.pii.ip_addresses import find_ip_addresses, find_ipv6_addresses
from llmforge.cleaning.pii.mac_addresses import find_mac_addresses
from llmforge.cleaning.pii.match import KINDS, Kind, Match
from llmforge.cleaning.pii.national_ids import find_national_ids_in_figures, find_national_ids_with_letters
from llmforge.cleaning.pii.passwords import find_passwords
from llmforge.cleaning.pii.shapes import Shapes
from llmforge.cleaning.pii.telephones import find_telephones

# Places where a number of seven figures could be: one quick look, after which prose needs no other pattern.
_FIGURES = re.compile("[0-9][0-9 ().\\-/\n\t\u00a0\u2010-\u2015]{5,}")
_BEFORE = 4  # a number may begin with "+" or "(" before its first figure
_IN_FIGURES = frozenset({"ip", "card", "phone", "national_id"})
_RANK = {kind: place for place, kind in enumerate(KINDS)}


def find(text: str, kinds: Collection[Kind], regions: Sequence[str]) -> list[Match]:
    """The personal data of a text, of these kinds, without overlaps, in order.

    `regions` are the countries (ISO 3166, two letters) whose national telephone numbers are known by their form.
    Names of persons are no pattern: the kind "name" finds nothing here.
    """
    shapes = Shapes(text)
    found = list(_by_marks(text, shapes, kinds))
    if shapes.has_figure and not _IN_FIGURES.isdisjoint(kinds):
        found.extend(_by_figures(text, shapes, kinds, regions))
    return without_overlaps(found) if found else found


def _by_marks(text: str, shapes: Shapes, kinds: Collection[Kind]) -> Iterator[Match]:
    """Kinds that are reached from a fixed mark or from the text's shape."""
    if "key" in kinds and shapes.has_long_token:
        yield from find_api_keys(text, shapes)
    if "password" in kinds:
        yield from find_passwords(text, shapes)
    if "email" in kinds and "@" in text:
        yield from find_emails(text)
    if "email" in kinds and "%" in text:  # one sign is looked for far faster than three
        yield from find_encoded_emails(text)
    if not shapes.has_figure:
        return
    if "ip" in kinds and ":" in text:
        yield from find_ipv6_addresses(text)
    if "mac" in kinds:
        yield from find_mac_addresses(text, shapes)
    if "iban" in kinds:
        yield from find_ibans(text, shapes)
    if "crypto" in kinds and shapes.has_long_token:
        yield from find_crypto_addresses(text, shapes)
    if "national_id" in kinds:
        yield from find_national_ids_with_letters(text, shapes)


def _by_figures(text: str, shapes: Shapes, kinds: Collection[Kind], regions: Sequence[str]) -> Iterator[Match]:
    """Kinds that are reached from a run of figures."""
    for figures in _FIGURES.finditer(text):
        first, last = max(0, figures.start() - _BEFORE), figures.end()
        if "ip" in kinds:
            yield from find_ip_addresses(text, first, last)
        if "card" in kinds:
            yield from find_cards(text, first, last)
        if "national_id" in kinds:
            yield from find_national_ids_in_figures(text, shapes, figures.start(), last)
        if "phone" in kinds:
            yield from find_telephones(text, first, last, regions)


def without_overlaps(found: list[Match]) -> list[Match]:
    """Of overlapping matches the one of the kind that stands first in KINDS, in the order of the text."""
    kept: list[Match] = []
    for match in sorted(found, key=lambda match: (match.start, _RANK[match.kind], -match.end)):
        while kept and kept[-1].end > match.start and _RANK[match.kind] < _RANK[kept[-1].kind]:
            kept.pop()
        if not kept or kept[-1].end <= match.start:
            kept.append(match)
    return kept
