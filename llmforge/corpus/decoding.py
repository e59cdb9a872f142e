"""The bytes of a text file to text, with the encoding that was found.

Order: a byte order mark decides; then UTF-16 without a mark (every other byte is zero); then strict UTF-8; then UTF-8
with a few broken bytes, which become U+FFFD; then Windows-1252, and Latin-1 where that has no character.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MAX_CONTROL_RATIO = 0.1  # more control characters than this is not text
MAX_BROKEN_RATIO = 0.1  # broken sequences per non-ASCII sequence up to which a file still counts as UTF-8
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1b\b")) + b"\x7f"
_LEADING = bytes(range(0xC2, 0x100))  # bytes that begin a character of several
_PROBE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Decoded:
    """`text`, the `encoding` it was read by, and how many broken sequences became U+FFFD."""

    text: str
    encoding: str
    repaired: int = 0


def detect_encoding(data: bytes) -> str | None:
    """The encoding of a text of which `data` is the beginning or all; None when it is not text."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return name
    probe = data[:_PROBE_BYTES]
    zeros = probe.count(0)
    if zeros > 0.3 * len(probe) and len(probe) >= 4:
        odd = probe[1::2].count(0)
        return "utf-16-le" if odd > 0.9 * zeros else "utf-16-be" if odd < 0.1 * zeros else None
    if len(probe) - len(probe.translate(None, _CONTROLS)) > MAX_CONTROL_RATIO * len(probe):
        return None
    if _is_utf8(data):
        return "utf-8"
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _is_utf8(data: bytes) -> bool:
    """True for UTF-8, also with a cut last character or few broken bytes among many good sequences."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
        return True
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        broken = text.count("\ufffd")
        good = len(data) - len(data.translate(None, _LEADING)) - broken
        return good > 0 and broken <= MAX_BROKEN_RATIO * good


def decode(data: bytes) -> Decoded | None:
    """All of a text file's bytes to text; None when they are not text. Never raises."""
    encoding = detect_encoding(data)
    if encoding is None:
        return None
    text = data.decode(encoding, "replace")
    repaired = text.count("\ufffd") if encoding != "latin-1" else 0
    return Decoded(text, encoding, repaired)
