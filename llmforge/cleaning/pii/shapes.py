"""The shape of a text: one byte a character that says what class it is of, so that rare neighbours are found fast.

`bytes.find` runs over a shape at about 1,000 MB/s where a regular expression over the text runs at 50 to 200. So every
kind that has no fixed beginning is first looked for by a pair of classes that prose hardly has: a capital before a
figure, twenty letters or figures without a gap, a hexadecimal pair between colons.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import AnyStr

LONG_TOKEN = 20  # no key format and no address of a coin is shorter than this without a gap
_LONG = b"w" * LONG_TOKEN


def _table(classes: dict[str, str]) -> bytes:
    table = bytearray(range(256))
    for mark, members in classes.items():
        for member in members:
            table[ord(member)] = ord(mark)
    return bytes(table)


_FIGURES = "0123456789"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_KINDS = _table({"0": _FIGURES, "A": _LOWER.upper(), "a": _LOWER})
_TOKENS = _table({"w": _FIGURES + _LOWER + _LOWER.upper() + "_-"})
_HEX = _table({"h": _FIGURES + "abcdefABCDEF", "~": "h"})


class Shapes:
    """The shapes of one text, each as long as the text. Non-ASCII characters have the class "?".

    `ascii` is the text itself, `lower` in small letters; `kinds` has figures as 0, capitals as A, small letters as a
    and everything else as itself; `tokens` has letters, figures, "_" and "-" as w; `hexadecimal` has h for each
    hexadecimal figure of either case.
    """

    __slots__ = ("ascii", "has_figure", "has_long_token", "hexadecimal", "kinds", "lower", "tokens")

    def __init__(self, text: str) -> None:
        self.ascii = text.encode("ascii", "replace")
        self.lower = self.ascii.lower()
        self.kinds = self.ascii.translate(_KINDS)
        self.tokens = self.ascii.translate(_TOKENS)
        self.hexadecimal = self.ascii.translate(_HEX)
        self.has_figure = b"0" in self.kinds
        self.has_long_token = _LONG in self.tokens

    def long_tokens(self) -> Iterator[tuple[int, int]]:
        """(start, end) of every run of LONG_TOKEN or more letters, figures, "_" and "-"."""
        shape = self.tokens
        start = shape.find(_LONG)
        while start >= 0:
            end = start + LONG_TOKEN
            while shape.startswith(_LONG, end):
                end += LONG_TOKEN
            while shape.startswith(b"w", end):
                end += 1
            yield start, end
            start = shape.find(_LONG, end)


def places(shape: AnyStr, mark: AnyStr) -> Iterator[int]:
    """Where `mark` begins in `shape`, in order; overlapping ones too."""
    at = shape.find(mark)
    while at >= 0:
        yield at
        at = shape.find(mark, at + 1)
