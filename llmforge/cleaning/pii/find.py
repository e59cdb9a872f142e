"""All personal data of a text: every kind's finder, overlaps resolved, in the order of the text."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from llmforge.cleaning.pii.api_keys import find_api_keys
from llmforge.cleaning.pii.cards import find_cards
from llmforge.cleaning.pii.emails import find_emails
from llmforge.cleaning.pii.ip_addresses import find_ip_addresses, find_ipv6_addresses
from llmforge.cleaning.pii.match import KINDS, Kind, Match
from llmforge.cleaning.pii.telephones import find_telephones

# Places where a number of seven figures could be: one quick look, after which prose needs no other pattern.
_FIGURES = re.compile("[0-9][0-9 ().\\-/\n\t\u00a0\u2010-\u2015]{5,}")
_BEFORE = 4  # a number may begin with "+" or "(" before its first figure


def find(text: str, kinds: Collection[Kind], regions: Sequence[str]) -> list[Match]:
    """The personal data of a text, of these kinds, without overlaps, in order.

    `regions` are the countries (ISO 3166, two letters) whose national telephone numbers are known by their form.
    """
    found: list[Match] = []
    if "key" in kinds:
        found.extend(find_api_keys(text))
    if "email" in kinds and "@" in text:
        found.extend(find_emails(text))
    if "ip" in kinds and ":" in text:
        found.extend(find_ipv6_addresses(text))
    if not {"ip", "card", "phone"}.isdisjoint(kinds):
        for figures in _FIGURES.finditer(text):
            first, last = max(0, figures.start() - _BEFORE), figures.end()
            if "ip" in kinds:
                found.extend(find_ip_addresses(text, first, last))
            if "card" in kinds:
                found.extend(find_cards(text, first, last))
            if "phone" in kinds:
                found.extend(find_telephones(text, first, last, regions))
    return _without_overlaps(found) if found else found


def _without_overlaps(found: list[Match]) -> list[Match]:
    """Of overlapping matches the one of the kind that stands first in KINDS."""
    rank = {kind: place for place, kind in enumerate(KINDS)}
    kept: list[Match] = []
    for match in sorted(found, key=lambda match: (match.start, rank[match.kind], -match.end)):
        while kept and kept[-1].end > match.start and rank[match.kind] < rank[kept[-1].kind]:
            kept.pop()
        if not kept or kept[-1].end <= match.start:
            kept.append(match)
    return kept
