"""Links in a text: what DCLM cuts out of pages before it judges them.

DCLM knows all top-level domains, which also cuts "end.So" where a space is missing; here a link has a scheme, begins
with "www.", or is a bare name in one of the six most frequent domains, and an address of four numbers needs its port,
path or scheme no more than there.
"""

from __future__ import annotations

import re

# Possessive, so that a long run without white space is gone through once.
_LINK = re.compile(
    r"\s{0,10}(?<![\w@.-])(?:(?:https?|ftp)://[^\s<>\"]++"
    r"|www\.[^\s<>\"]++"
    r"|(?:[a-zA-Z0-9-]++\.)+(?:com|org|net|edu|gov|info)\b(?:[/?#][^\s<>\"]*+)?"
    r"|(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.])(?:[:/][^\s<>\"]*+)?)"
)
# Every link has one of these, or is four numbers; most texts have neither, which is seen quickly.
_MARKS = ("://", "www.", ".com", ".org", ".net", ".edu", ".gov", ".info")
_NUMBERS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]")


def without_links(text: str) -> str:
    """The text with every link cut out, and the white space before it."""
    if any(mark in text for mark in _MARKS) or _NUMBERS.search(text):
        return _LINK.sub("", text)
    return text
