"""Broken characters of a text mended: wrong decodings, control characters, newlines, invisible marks.

ftfy (https://ftfy.readthedocs.io) is asked only where it would find something: characters that rarely stand together,
ligatures, `&` or escapes. That makes the step several times faster than ftfy on every text.
"""

from __future__ import annotations

import re
import unicodedata

from pydantic import Field

from llmforge.cleaning.verdict import KEEP, Rewrite, Verdict
from llmforge.config.schema import Config

_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
# Zero-width and direction-overriding characters; the joiners U+200C and U+200D belong to Persian, Hindi and emoji.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")
_NEWLINES = re.compile("\r\n?|[\x0c\x85\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_BEYOND_ASCII = re.compile("[^\x00-\x7f](?:[\x00-\x7f]{0,8}[^\x00-\x7f])*")
_LIGATURES = re.compile("[\ufb00-\ufb06\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3]")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MAX_FTFY_CHARACTERS = 1 << 20  # ftfy takes a text in pieces of this size, cut at newlines, to bound its memory


class RepairSettings(Config):
    """What is mended beyond newlines and control characters."""

    encoding: bool = Field(default=True, description="text that was decoded wrongly (mojibake), by ftfy")
    html_entities: bool = Field(default=True, description="&eacute; and its like in texts without any HTML tag")


class Repair:
    """The step that mends a text."""

    name = "repair"

    def __init__(self, settings: RepairSettings) -> None:
        self._encoding, self._entities = settings.encoding, settings.html_entities

    def __call__(self, text: str) -> Verdict:
        """Keep or Rewrite."""
        mended = self.mend(text)
        return KEEP if mended == text else Rewrite(mended)

    def mend(self, text: str) -> str:
        """The mended text."""
        if not text.isascii():
            text = _INVISIBLE.sub("", _SURROGATES.sub("\ufffd", text))
        entities = self._entities and "&" in text and "<" not in text and _ENTITY.search(text) is not None
        if entities or "\x1b" in text or (not text.isascii() and self._is_odd(text)):
            text = self._by_ftfy(text, entities)
        if "\r" in text or "\x0c" in text or not text.isascii():
            text = _NEWLINES.sub("\n", text)
        return _CONTROLS.sub("", text) if _CONTROLS.search(text) else text

    def _is_odd(self, text: str) -> bool:
        from ftfy.badness import is_bad

        if _LIGATURES.search(text) or not unicodedata.is_normalized("NFC", text):
            return True
        if not self._encoding:
            return False
        # is_bad looks at up to two characters on either side; asking it for the whole text is 20 times slower.
        spans = (text[max(0, found.start() - 4) : found.end() + 4] for found in _BEYOND_ASCII.finditer(text))
        return bool(is_bad("\n".join(spans)))

    def _by_ftfy(self, text: str, entities: bool) -> str:
        import ftfy

        # Typographic quotes and full-width forms are right as they are; NFC joins letters with their accents.
        config = ftfy.TextFixerConfig(
            unescape_html=entities,
            fix_encoding=self._encoding,
            uncurl_quotes=False,
            fix_character_width=False,
            fix_line_breaks=False,
            fix_surrogates=False,
            remove_control_chars=False,
            normalization="NFC",
            explain=False,
        )
        return "".join(ftfy.fix_text(piece, config) for piece in _pieces(text))


def _pieces(text: str) -> list[str]:
    pieces = []
    start = 0
    while len(text) - start > _MAX_FTFY_CHARACTERS:
        cut = text.rfind("\n", start, start + _MAX_FTFY_CHARACTERS) + 1 or start + _MAX_FTFY_CHARACTERS
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]]
