"""Writes a model's words to stdout piece by piece; on a terminal its control characters are shown, never obeyed.

A model can say anything, also an escape sequence that clears the screen or types into the shell.
"""

from __future__ import annotations

import sys

# C0, DEL and C1 without tab and newline -> the pictures of Unicode's control block, a plain mark where there is none.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_PICTURES |= {code: 0xFFFD for code in range(0x80, 0xA0)}


def harmless(text: str) -> str:
    """The text with every control character but tab and newline replaced by a picture of it."""
    return text.translate(_PICTURES)


def show(text: str) -> None:
    """Writes to stdout at once; characters that its encoding lacks become `?`."""
    shown = harmless(text) if sys.stdout.isatty() else text
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(shown.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
