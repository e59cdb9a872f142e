"""Hardware addresses of network cards (IEEE 802 EUI-48) in a text; not clock times, fingerprints or group addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmforge.cleaning.pii.match import Match
from llmforge.cleaning.pii.shapes import Shapes, places

STAND_IN = "0200"  # locally administered, second byte zero: no maker's
_MARKS = (b"hh:hh:hh:hh:hh:hh", b"hh-hh-hh-hh-hh-hh", b"hhhh.hhhh.hhhh")
_BESIDE = re.compile(rb"[0-9A-Za-z_:.\-]")
_NAMED_BEFORE = re.compile(r"(?:\bmac\b|ether|hwaddr|bssid|hardware address|lladdr)[^\n]{0,16}$", re.IGNORECASE)
# Nobody's: zero, broadcast, multicast (IPv4 and IPv6), the documentation range of RFC 7042, our own stand-ins.
_NOBODYS = re.compile(r"0{12}|f{12}|01005e|3333|00005e0053|" + STAND_IN)


def find_mac_addresses(text: str, shapes: Shapes) -> Iterator[Match]:
    """The hardware addresses of a text."""
    for mark in _MARKS:
        for at in places(shapes.hexadecimal, mark):
            end = at + len(mark)
            if (at > 0 and _BESIDE.match(shapes.ascii, at - 1)) or _continues(shapes.ascii, end):
                continue
            written = text[at:end]
            digits = re.sub(r"[:.\-]", "", written).lower()
            if _NOBODYS.match(digits) or len(set(digits)) < 4:
                continue
            # Twelve figures without a letter are a time or a row of numbers, unless the text says what they are.
            if digits.isdigit() and not _NAMED_BEFORE.search(text[max(0, at - 28) : at]):
                continue
            one_case = written in (written.lower(), written.upper())
            yield Match(at, end, "mac", digits if one_case else written)


def _continues(text: bytes, end: int) -> bool:
    """Whether the address goes on behind `end`; a full stop or colon may end a sentence there."""
    after = text[end : end + 2]
    return bool(after) and (after[:1].isalnum() or after[:1] == b"_" or (after[:1] in b":-." and after[1:].isalnum()))
