"""E-mail addresses in a text, also across a line break; not matrix products, decorators, versions or repositories.

Every place is reached from its "@", so a text without one costs nothing and no pattern can blow up. The same goes for
an address as URLs write it, with "%40" for the "@", or with "%2540" where a URL stands in another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from llmforge.cleaning.pii.match import Match

_LOCAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-'"
_MAX_LOCAL = 64
PERCENT_ATS = ("%40", "%2540")
# In the local part of such an address only . - _ + ' figures and letters stand as %XX; any other (%3D, %26, %2F) parts
# it from what stands before. So for %25XX.
_PARTING = re.compile(r"%(?:25)?+(?!2[BbDdEe7]|3[0-9]|[46][1-9A-Fa-f]|5[0-9AaFf]|7[0-9Aa])(?:[0-9A-Fa-f]{2})?")
_NO_BEGINNING = re.compile(r"(?:[.+'-]|%(?:25)?2[BbDdEe7])+")
_DOMAIN = re.compile(r"((?:\n[ \t]{0,8})?[A-Za-z0-9.-]{1,253})(?:(?<=\.)(\n[ \t]{0,8}[a-z][A-Za-z0-9.-]{1,60}))?")
_IN_URL = re.compile(r"://[^\s/@]{0,64}:$")
_CODE_AFTER = re.compile(r"[(\[_=]|\.[A-Za-z_]\w*\(")
_NOT_PERSONS = frozenset({"git", "hg", "svn"})
_RESERVED = re.compile(r"(?:.*\.)?(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost|local)", re.ASCII)
_GENERIC = frozenset(
    "com org net edu gov mil int info biz name pro mobi aero coop museum jobs travel cat asia post tel app dev page"
    " blog cloud email online site website store shop tech space xyz top club live life world today news media"
    " agency digital studio design art music film group company systems solutions services support network software"
    " academy school university college foundation church health care clinic law finance bank capital money work"
    " team social chat link click icu vip wiki one global international berlin london paris nyc tokyo wien hamburg"
    " koeln bayern swiss scot wales eus gal google amazon arpa".split()
)
_COUNTRIES = frozenset(
    "ac ad ae af ag ai al am ao ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf"
    " cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gd ge gf"
    " gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki"
    " km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx"
    " my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc"
    " sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us"
    " uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw".split()
)


def find_emails(text: str) -> Iterator[Match]:
    """The e-mail addresses of a text in order."""
    at = text.find("@")
    while at >= 0:
        found = _around(text, at)
        if found is not None:
            yield found
        at = text.find("@", at + 1)


def find_encoded_emails(text: str) -> Iterator[Match]:
    """The e-mail addresses of a text whose "@" is written as one of PERCENT_ATS, those of each in order."""
    for written in PERCENT_ATS:
        at = text.find(written)
        while at >= 0:
            found = _around_encoded(text, at, at + len(written))
            if found is not None:
                yield found
            at = text.find(written, at + len(written))


def _around(text: str, at: int) -> Match | None:
    window = text[max(0, at - _MAX_LOCAL - 1) : at]
    local = window[len(window.rstrip(_LOCAL)) :]
    if len(local) > _MAX_LOCAL:
        return None
    local = local.lstrip(".%+-'")
    if not local or local[-1] in ".'%" or not any(map(str.isalnum, local)):
        return None
    if local.lower() in _NOT_PERSONS:
        return None
    start = at - len(local)
    if start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_"):
        return None
    if start > 0 and text[start - 1] == ":" and _IN_URL.search(text, max(0, start - _MAX_LOCAL - 4), start):
        return None  # scheme://user:password@host, see passwords.py
    end, domain = _domain(text, at + 1)
    if not domain or _RESERVED.fullmatch(domain):
        return None
    return Match(start, end, "email", f"{local.lower()}@{domain}")


def _around_encoded(text: str, at: int, begin: int) -> Match | None:
    window = text[max(0, at - 5 * _MAX_LOCAL - 5) : at]
    tail = window[len(window.rstrip(_LOCAL)) :]
    parted = 0
    for parting in _PARTING.finditer(tail):
        parted = parting.end()
    beginning = _NO_BEGINNING.match(tail, parted)
    written = tail[beginning.end() if beginning else parted :]
    local, start = unquote(unquote(written)).lower(), at - len(written)
    if not local or len(local) > _MAX_LOCAL or local[-1] in ".'" or not any(map(str.isalnum, local)):
        return None
    before = text[start - 1 : start] if not parted else ""
    if local in _NOT_PERSONS or before.isalnum() or before == "_":
        return None
    end, domain = _domain(text, begin) if text[begin : begin + 1] != "\n" else (begin, "")
    if not domain or _RESERVED.fullmatch(domain):
        return None
    return Match(start, end, "email", f"{local}@{domain}")


def _domain(text: str, begin: int) -> tuple[int, str]:
    """Where the domain after an "@" ends and what it is, lower-case and without a line break; ("", any) when none."""
    found = _DOMAIN.match(text, begin)
    if found is None:
        return begin, ""
    end = _valid_end(text, begin, found.end(1))
    if end <= begin and found.group(2):
        end = _valid_end(text, begin, found.end(2), whole=True)
    return (end, "".join(text[begin:end].split()).lower()) if end > begin else (begin, "")


def _valid_end(text: str, begin: int, end: int, whole: bool = False) -> int:
    """The end of the longest domain in text[begin:end], or `begin`: its last label is a top level that exists."""
    first = True
    while True:
        while end > begin and text[end - 1] in ".-":
            end -= 1
        labels = "".join(text[begin:end].split()).split(".")
        if len(labels) < 2 or not all(labels):
            return begin
        if _is_domain(labels) and not _CODE_AFTER.match(text, end):
            # "a@b.org.The next": a sentence may follow without a space; a lower-case label is an attribute of code.
            following = text[end + 1 : end + 2]
            return end if first or not following.islower() else begin
        if whole:
            return begin
        first = False
        end = text.rindex(".", begin, end)


def _is_domain(labels: list[str]) -> bool:
    top, second = labels[-1], labels[-2]
    if len(second) == 1 and top.lower() not in ("com", "org", "net"):
        return False
    if top.startswith("xn--"):
        return True
    return (top.lower() in _GENERIC or top.lower() in _COUNTRIES) and (top.islower() or top.isupper())
