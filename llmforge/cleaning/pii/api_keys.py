"""Secrets in a text that carry their issuer's mark: API keys and tokens, and private keys whole, header to footer.

Each format is looked for by its fixed beginning, and only beside a token of twenty characters or more, so prose costs
next to nothing. A key that has EXAMPLE in it is one of a manual, or one of our own stand-ins, and is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmforge.cleaning.pii.key_formats import REACH, KeyPattern, gapped_patterns, near_patterns
from llmforge.cleaning.pii.match import Match
from llmforge.cleaning.pii.shapes import Shapes, places

STAND_IN = "EXAMPLE"
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?)-----")
_MAX_PEM = 20_000
_PEM_BODY = re.compile(r"(?:(?:\s|\\r|\\n){0,4}[A-Za-z0-9+/=]{16,})*")
_BASE64 = re.compile(r"[A-Za-z0-9+/=]{24}")


def find_api_keys(text: str, shapes: Shapes) -> Iterator[Match]:
    """Keys, tokens and private keys of a text."""
    for start, end in shapes.long_tokens():
        if shapes.kinds[start:end].strip(b"a_-"):  # not a name in small letters
            first = max(0, start - REACH)
            yield from _in_window(text, first, text[first:end], near_patterns())
    yield from _in_window(text, 0, text, gapped_patterns())
    if "PRIVATE KEY" in text:
        yield from _private_keys(text)


def _in_window(text: str, first: int, window: str, patterns: tuple[KeyPattern, ...]) -> Iterator[Match]:
    for mark, before, pattern in patterns:
        if mark not in window:
            continue
        for at in places(window, mark):
            # A mark inside its key is reached from the few places where the key may begin.
            starts = range(max(0, first + at - before), first + at + 1) if before else (first + at,)
            found = next((match for match in (pattern.match(text, start) for start in starts) if match), None)
            if found is not None and STAND_IN not in found.group():
                yield Match(found.start(), found.end(), "key", found.group())


def _private_keys(text: str) -> Iterator[Match]:
    free = 0
    for found in _PEM.finditer(text):
        if found.start() < free:
            continue
        footer = f"-----END {found.group(1)}-----"
        end = text.find(footer, found.end(), found.end() + _MAX_PEM)
        if end < 0:
            # No footer: what looks like the key's body goes all the same, rather than the header alone.
            body = _PEM_BODY.match(text, found.end(), found.end() + _MAX_PEM)
            end, footer = (body.end() if body is not None else found.end()), ""
        free = end + len(footer)
        inner = text[found.end() : end]
        if STAND_IN not in inner and _BASE64.search(inner):
            yield Match(found.start(), free, "key", text[found.start() : free])
