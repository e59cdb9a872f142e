"""Payment card numbers in a text: issuer's prefix, its length, the usual grouping, and Luhn's check (ISO/IEC 7812)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmforge.cleaning.pii.match import Match

STAND_IN = "000"  # no issuer's
SLACK = 64  # a number that begins in a run of figures ends within so many characters behind the run

_EXPIRY = r"(?= (?:0[1-9]|1[0-2])/[0-9]{2})"  # the month and year a card is valid to, which may follow it
_END = r"(?![\w\-]|[.,][0-9]| [0-9])"
_SPACED = "(?:[0-9]{4} ){3}[0-9]{4}"
# The last two: a card with another number right behind it, which the second would take as one long number.
_CARD = re.compile(
    rf"(?<![\w.+\-])(?:(?:{_SPACED}|[0-9]{{4}} [0-9]{{6}} [0-9]{{5}}|[0-9]{{14,16}}){_EXPIRY}"
    rf"|[0-9](?:[ \-\n]?[0-9]){{12,18}}{_END}"
    rf"|(?:[0-9]{{4}}-){{3}}[0-9]{{4}}(?= [0-9])|{_SPACED}(?= {_SPACED}{_END}))"
)
_MAESTRO = re.compile(r"5[06-8]|6[37]")  # no longer issued since 2023: without gaps, only beside a word
_ISSUERS = (  # prefixes as a pattern, lengths
    (re.compile(r"4"), (16, 19)),  # Visa
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),  # Mastercard
    (re.compile(r"3[47]"), (15,)),  # American Express
    (re.compile(r"6(?:011|4[4-9]|5)"), (16, 19)),  # Discover
    (re.compile(r"35(?:2[89]|[3-8])"), (16, 19)),  # JCB
    (re.compile(r"3(?:0[0-5]|[68])"), (14,)),  # Diners Club
    (re.compile(r"62"), (16, 17, 18, 19)),  # UnionPay
    (_MAESTRO, (16, 17, 18, 19)),
)
_OLD_VISA = re.compile(r"4[0-9]{12}")
_CARD_BEFORE = re.compile(r"\b(?:card|visa|credit|debit|cc)\b[^\n]{0,20}$", re.IGNORECASE)
_ID_BEFORE = re.compile(
    r"(?:\b(?:ids?|order|tracking|ticket|invoice|serial|ref(?:erence)?|imei|iccid|sku|upc|ean|gtin|isbn|uuid|account|"
    r"transaction|parcel|shipment|timestamp|hash|seed)\b[^\n]{0,14}|[_A-Za-z]id[\"']?\s?[:=]\s?[\"']?|#)$",
    re.IGNORECASE,
)
_BARE_LENGTHS = (14, 15, 16)
_GROUPINGS = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 2), (4, 4, 4, 4, 1)}


def find_cards(text: str, first: int, last: int) -> Iterator[Match]:
    """Card numbers that begin in text[first:last]."""
    limit = min(last + SLACK, len(text))
    found = _CARD.search(text, first, limit)
    while found is not None and found.start() < last:
        written = found.group()
        digits = "".join(filter(str.isdigit, written))
        groups = tuple(map(len, re.split(r"[ \-\n]", written)))
        before = text[max(0, found.start() - 32) : found.start()]
        usual = groups in _GROUPINGS or (len(groups) == 1 and _may_be_bare(digits, before))
        if usual and passes_luhn(digits) and _is_issued(digits, before):
            yield Match(found.start(), found.end(), "card", digits)
        found = _CARD.search(text, found.end(), limit)


def _may_be_bare(digits: str, before: str) -> bool:
    """Without gaps one number in thirty passes as a card by chance, so a word that says otherwise is believed."""
    if _CARD_BEFORE.search(before):
        return True
    return len(digits) in _BARE_LENGTHS and not _MAESTRO.match(digits) and not _ID_BEFORE.search(before)


def _is_issued(digits: str, before: str) -> bool:
    if len(set(digits)) < 2:
        return False
    if any(len(digits) in lengths and prefix.match(digits) for prefix, lengths in _ISSUERS):
        return True
    return _OLD_VISA.fullmatch(digits) is not None and _CARD_BEFORE.search(before) is not None


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
