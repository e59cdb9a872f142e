"""Public IPv4 and IPv6 addresses in a text; not version numbers, section numbers, clock times or slices of code.

Private, reserved and documentation ranges belong to nobody and are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

from llmforge.cleaning.pii.match import Match

_V4 = re.compile(r"(?<![\w.+\-~^])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w\-]|\.[0-9A-Za-z])")
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:versions?|ver|v|releases?|rev|revision|build|sections?|sec|chapter|clause|article|paragraph|table|figure|"
    r"fig|appendix|step|rule|firmware|driver|since|upgrade[ds]?|downgrade[ds]?|oid|objectidentifier|package|python|numpy|release[ds]?)"
    r"[\s.:#\"'(=]{0,4}(?:to|from|of|is)?\s?|[=<>~!]=\s?|[<>§@]\s?|[A-Za-z]/)$",
    re.IGNORECASE,
)
_ADDRESS_BEFORE = re.compile(
    r"(?:\b(?:ip|ipv4|address(?:es)?|addr|hosts?|servers?|clients?|dns|ping|gateway|proxy|peer|connect(?:ed|ion)?|from|"
    r"login|remote)\b[^\d\n]{0,12}|//)$",
    re.IGNORECASE,
)
# Four numbers of which fewer than two reach this are a version or a section, unless the text says address; of random
# addresses that is .6 %.
_LARGE_OCTET = 30
_V6_HINT = re.compile(r":[0-9A-Fa-f]{0,4}:")
_V6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_CONTEXT = 24


def find_ip_addresses(text: str, first: int, last: int) -> Iterator[Match]:
    """Public IPv4 addresses that begin in text[first:last]."""
    limit = min(last + _CONTEXT, len(text))
    found = _V4.search(text, first, limit)
    while found is not None and found.start() < last:
        if _is_public_v4(text, found.start(), found.end()):
            yield Match(found.start(), found.end(), "ip", found.group())
        found = _V4.search(text, found.end(), limit)


def _is_public_v4(text: str, start: int, end: int) -> bool:
    written = text[start:end]
    before = text[max(0, start - _CONTEXT) : start]
    try:
        if not ip_address(written).is_global or int(written.split(".")[0]) >= 224:
            return False
    except ValueError:
        return False
    if _VERSION_BEFORE.search(before):
        return False
    if sum(int(octet) >= _LARGE_OCTET for octet in written.split(".")) >= 2:
        return True
    return _ADDRESS_BEFORE.search(before) is not None or re.match(r":[0-9]{2,5}\b", text[end : end + 6]) is not None


def find_ipv6_addresses(text: str) -> Iterator[Match]:
    """Public IPv6 addresses of a text in order."""
    end = 0
    for hint in _V6_HINT.finditer(text):
        if hint.start() < end:
            continue
        starts = range(max(end, hint.start() - 4), hint.start())
        found = next((match for match in (_V6.match(text, start) for start in starts) if match), None)
        if found is None:
            continue
        end = found.end()
        address = _public_v6(found.group())
        if address is not None:
            plain = found.group().lower() in (str(address), address.exploded) and _one_case(found.group())
            yield Match(found.start(), found.end(), "ip", str(address) if plain else found.group())


def _one_case(written: str) -> bool:
    return written in (written.lower(), written.upper())


def _public_v6(written: str) -> IPv6Address | None:
    groups = written.split(":")
    try:
        address = ip_address(written)
    except ValueError:
        return None
    if not isinstance(address, IPv6Address) or not address.is_global or address.is_multicast:
        return None
    if "" in groups:
        # x[1::2] and a::b are code; a shortened address of a person begins 2xxx: or 3xxx:.
        return address if len(groups[0]) == 4 and groups[0][0] in "23" and len(groups) >= 4 else None
    return address if groups[0].strip("0") and any(len(group) > 2 for group in groups) else None
