"""Secrets that only their surroundings give away: passwords and tokens in assignments, in headers and in URLs.

Reached from a word ("password", "secret", "token", ...) or from "://", so prose pays for a few substring searches.
Code that handles passwords (`password = form.password`, `token: str`) and placeholders ("changeme", "<token>") hold no
secret and are left alone; so is a password of letters only, which cannot be told from a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmforge.cleaning.pii.match import Match
from llmforge.cleaning.pii.shapes import Shapes, places

STAND_IN = "EXAMPLE"
_PASSWORD = r"passw(?:or)?d|passphrase|passwort|pwd"
_ANCHORS = (b"pass", b"pwd", b"secret", b"token", b"key")
_KEY_BEFORE = re.compile(rb"(?:api|access|account)[_\-]?$")
_ASSIGNED = re.compile(
    rf"(?i:(?P<password>{_PASSWORD})|secret|token|key)"
    r"(?P<suffix>s?(?:[_\-][A-Za-z0-9_\-]{1,30}|[0-9]{1,3}|[A-Z][A-Za-z0-9]{1,20})?)"
    r"(?:[\"']?\]?[ \t]{0,3}(?::=|=>|[:=>])[ \t]{0,3}|(?P<flag>[ ]))"
    r"(?:[bru]?\"(?P<double>[^\"\n]{6,256})\"|[bru]?'(?P<single>[^'\n]{6,256})'"
    r"|(?P<bare>[^\s\"'`,;<>()\[\]{}]{6,256}+)(?![(\[{]))"
)
_SAID = re.compile(rf"(?i:(?:{_PASSWORD})[ ](?:is|was)[: ]{{1,2}})[\"']?(?P<said>[^\s\"'<>]{{6,64}})")
_HEADER = re.compile(r"(?i:authorization[\"']?\s{0,3}[:=,]\s{0,3}[\"']?(?:bearer|basic|token)\s{1,3})"
                     r"(?P<value>[A-Za-z0-9_\-.=+/~]{12,2000})")  # fmt: skip
_URL = re.compile(r"://(?P<both>[^\s/:@,\"'`<>]{0,64}:(?P<secret>[^\s,/@\"'`<>]{1,128}))@(?=[A-Za-z0-9\[])")
_NO_SECRET = re.compile(r"(?:hash|_id|Id|_?name|Name|url|Url|URI|uri|file|path|type|field|length|count|size|version"
                        r"|regex|pattern|salt|_at|_in|expir\w*|ttl|policy|hint|prompt|limit)s?$")  # fmt: skip
_PLACEHOLDER = re.compile(
    r"[*x.•\-_#]+|<.*|\$.*|%.*|\{.*|\[.*|.*\{\{?\w*\}.*|your.*|my[_\-]?(?:secret|password|token|key|pass).*"
    r"|change.?(?:me|it).*|.*(?:placeholder|redacted|dummy).*|none|null|true|false|undefined|required|optional"
    r"|(?:user|admin|root|test|foo)?[_\-]?(?:password|passwd|pass|pwd|secret|token|key|p4ssw0rd)[_\-]?[0-9]{0,4}",
    re.IGNORECASE,
)
_CODE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:(?:\.|::|->)[A-Za-z_][A-Za-z0-9_]*)+|[A-Za-z_]+(?:_[A-Za-z0-9]+)*[0-9]?")
_TOKEN_LENGTH, _TOKEN_CHARACTERS = 12, 8


def find_passwords(text: str, shapes: Shapes) -> Iterator[Match]:
    """The secrets of a text; the name of the user in a URL goes with its password."""
    lower = shapes.lower
    for anchor in _ANCHORS:
        if anchor not in lower:
            continue
        for at in places(lower, anchor):
            if anchor != b"key" or _KEY_BEFORE.search(lower, max(0, at - 8), at):
                yield from _assigned(text, at)
    for at in places(lower, b"://") if b"@" in lower else ():
        found = _URL.match(text, at)
        if found is not None and not _is_known(found["secret"]):
            yield Match(found.start("both"), found.end("both"), "password", f"//{found['both']}")
    if not shapes.has_figure:
        return
    for at in places(lower, b"authorization"):
        found = _HEADER.match(text, at)
        if found is not None and _is_token(found["value"], figures=1):
            yield Match(found.start("value"), found.end("value"), "password", found["value"])


def _assigned(text: str, at: int) -> Iterator[Match]:
    said = _SAID.match(text, at)
    if said is not None:
        value = said["said"].rstrip(".,;:!?)")
        if _is_strong(value):
            yield Match(said.start("said"), said.start("said") + len(value), "password", value)
        return
    found = _ASSIGNED.match(text, at)
    if found is None or _NO_SECRET.search(found["suffix"]):
        return
    if found["flag"] and not re.search(r"--[\w\-]{0,20}$", text[max(0, at - 24) : at]):
        return
    group = next(name for name in ("double", "single", "bare") if found[name] is not None)
    value = found[group]
    if group == "bare":
        value = value.rstrip(".:!?&|")
        if "&" in value:  # the next part of a query
            value = value[: value.index("&")]
    elif " " in value.strip():
        return
    if group == "bare" and _CODE.fullmatch(value) and not _is_mixed(value):
        return
    strong = _is_strong(value) if found["password"] else _is_token(value)
    if strong:
        yield Match(found.start(group), found.start(group) + len(value), "password", value)


def _is_known(value: str) -> bool:
    return STAND_IN in value or _PLACEHOLDER.fullmatch(value) is not None


def _is_strong(value: str) -> bool:
    """A password: letters together with figures or signs, six characters or more."""
    letters = any(map(str.isalpha, value))
    others = any(character.isdigit() or character in "!@#$%^&*?~+=" for character in value)
    return len(value) >= 6 and letters and others and "://" not in value and not _is_known(value)


def _is_token(value: str, figures: int = 2) -> bool:
    """A token: long, of many characters, letters and figures mixed."""
    if len(value) < _TOKEN_LENGTH or len(set(value)) < _TOKEN_CHARACTERS or "://" in value or _is_known(value):
        return False
    return (
        any(map(str.isalpha, value)) and sum(map(str.isdigit, value)) >= figures and not re.search(r"[\s(){}$]", value)
    )


def _is_mixed(value: str) -> bool:
    """Whether a bare word has figures in among its letters, as names of variables hardly have."""
    return "_" not in value and "." not in value and sum(map(str.isdigit, value)) >= 2
