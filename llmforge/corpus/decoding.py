"""The bytes of a text file to text, with the encoding that was found.

Order: a byte order mark decides; then UTF-16 and UTF-32 without a mark (many bytes are zero); then strict UTF-8; then
UTF-8 with a few broken bytes, which become U+FFFD; then, where many letters are beyond ASCII, the guess of chardet;
then Windows-1252, and Latin-1 where that has no character. A text with few such letters is not given to the guesser:
on English with a French word here and there it is wrong more often than Windows-1252 is.
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
UNICODE = frozenset(["utf-8", "utf-8-sig", "ascii"])
WIDE = frozenset(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "iso8859-11": "cp874",
}  # what files that say the left one hold
MAX_CONTROL_RATIO = 0.1  # more control characters than this is not text
MAX_BROKEN_RATIO = 0.1  # broken sequences per non-ASCII sequence up to which a file still counts as UTF-8
MIN_GUESS_BYTES = 8  # bytes beyond ASCII from which a guess is worth more than Windows-1252
MIN_GUESS_RATIO = 0.03  # of them per ASCII letter, in the lines that have any: German has 0.02 to 0.03, Polish 0.07
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1b\b")) + b"\x7f"
_LEADING = bytes(range(0xC2, 0x100))  # bytes that begin a character of several
_HIGH = bytes(range(0x80, 0x100))
_LETTERS = bytes([*range(65, 91), *range(97, 123)])
_SHIFTS = (b"\x1b$", b"\x1b(J")  # how the 7-bit encodings of East Asia begin
_PROBE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Decoded:
    """`text`, the `encoding` it was read by, and how many broken sequences became U+FFFD."""

    text: str
    encoding: str
    repaired: int = 0


def detect_encoding(data: bytes) -> str | None:
    """The encoding of a text of which `data` is the beginning or all, as Python names it; None when it is not text."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return name
    probe = data[:_PROBE_BYTES]
    zeros = probe.count(0)
    if zeros > 0.3 * len(probe) and len(probe) >= 4:
        return _with_zeros(probe, zeros)
    if any(shift in probe for shift in _SHIFTS):
        guess = _guess(probe)
        if guess is not None and guess.startswith(("iso2022", "iso-2022")):
            return guess
    if len(probe) - len(probe.translate(None, _CONTROLS)) > MAX_CONTROL_RATIO * len(probe):
        return None
    if _is_utf8(data):
        return "utf-8"
    return _eight_bits(data)


def _with_zeros(probe: bytes, zeros: int) -> str | None:
    by_place = [probe[place::4].count(0) for place in range(4)]
    quarter = len(probe) // 4
    # UTF-32: two of four bytes are zero in every character of a living script, and the lowest in none.
    if min(by_place[2], by_place[3]) >= 0.99 * quarter and by_place[0] < 0.1 * quarter:
        return "utf-32-le"
    if min(by_place[0], by_place[1]) >= 0.99 * quarter and by_place[3] < 0.1 * quarter:
        return "utf-32-be"
    odd = by_place[1] + by_place[3]
    return "utf-16-le" if odd > 0.9 * zeros else "utf-16-be" if odd < 0.1 * zeros else None


def _eight_bits(data: bytes) -> str:
    """The code page of text that is not UTF-8."""
    lines = b"\n".join(line for line in data.splitlines() if not line.isascii())[:_PROBE_BYTES]
    high = len(lines) - len(lines.translate(None, _HIGH))
    letters = len(lines) - len(lines.translate(None, _LETTERS))
    western = _western(data)
    if high < MIN_GUESS_BYTES or high < MIN_GUESS_RATIO * letters:
        return western
    guess = _guess(lines)
    # Latin-1 is what the web calls Windows-1252.
    return western if guess is None or guess in ("iso8859-1", "ascii", "utf-8", western) else guess


def _western(data: bytes) -> str:
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _guess(sample: bytes) -> str | None:
    """chardet's answer, without the code pages of mainframes and, but for the Western one, of old Macs, which no text
    file of today is in and short Western texts look like.
    """
    import chardet

    eras = chardet.EncodingEra.ALL & ~chardet.EncodingEra.MAINFRAME
    name = chardet.detect(sample, encoding_era=eras)["encoding"]
    try:
        found = codecs.lookup(name).name if name else None
    except LookupError:
        return None
    if found == "iso8859-15" and b"\xa4" not in sample:  # the euro sign is what tells it from Latin-1
        return "iso8859-1"
    # Plain ASCII with a plus sign looks like UTF-7, which hides half pairs.
    if found is None or found == "utf-7" or (found.startswith("mac") and found != "mac-roman"):
        return None
    # chardet's own prefer_superset is not used: it takes Windows-1251 for a superset of ISO 8859-5.
    return SUPERSETS.get(found, found)


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


def decode(data: bytes, known: str | None = None) -> Decoded | None:
    """All of a text file's bytes to text; None when they are not text. Never raises.

    `known` is the encoding of the file of which these bytes are a later part; used unless they are UTF-8.
    """
    try:
        # Most text is UTF-8 without a mark or a control character: one pass decides.
        text = data.decode()
    except UnicodeDecodeError:
        encoding = known if known is not None and known not in UNICODE else detect_encoding(data)
    else:
        if "\x00" not in text and "\x1b" not in text and not text.startswith("\ufeff") and _is_text(data):
            return Decoded(text, "utf-8", text.count("\ufffd"))
        encoding = detect_encoding(data)
    return None if encoding is None else _decoded(data, encoding)


def _is_text(data: bytes) -> bool:
    probe = data[:_PROBE_BYTES]
    return len(probe) - len(probe.translate(None, _CONTROLS)) <= MAX_CONTROL_RATIO * len(probe)


def _decoded(data: bytes, encoding: str) -> Decoded:
    text = data.decode(encoding, "replace")
    repaired = text.count("\ufffd") if encoding != "latin-1" else 0
    return Decoded(text, encoding, repaired)
