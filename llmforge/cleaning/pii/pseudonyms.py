"""Stand-ins for personal data: of the same form, the same for the same thing under one key, and nobody's.

Each is made by HMAC-SHA256 of the canonical form under the user's key, so nobody without the key can tell who stands
behind one. All lie in ranges that belong to nobody (example.com, RFC 2606; 240.0.0.0/4, RFC 1112; 2001:db8::/32,
RFC 3849; numbers that begin with 000; keys with EXAMPLE in them), which is how a second pass knows them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

from llmforge.cleaning.pii import api_keys
from llmforge.cleaning.pii.match import Kind, Match
from llmforge.cleaning.pii.telephones import STAND_IN, digits_of, national_part

MASKS: dict[Kind, str] = {
    "email": "<EMAIL>",
    "ip": "<IP_ADDRESS>",
    "phone": "<PHONE>",
    "card": "<CARD>",
    "key": "<KEY>",
}
_EXTENSION = re.compile(r"[ ,;]{0,2}(?:[xX]|[eE]xt\.?|[eE]xtension)[ ]?[0-9]{1,6}$")
_KEY_START = re.compile(
    r"AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AIza|[sr]k_live_|sk-ant-|sk-(?:proj-|svcacct-)?|hf_|npm_|pypi-"
    r"|SG\.|eyJ"
)


class Pseudonyms:
    """The stand-ins under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._makers: dict[Kind, Callable[[Match, str], str]] = {
            "email": self._email,
            "ip": self._ip_address,
            "phone": self._telephone,
            "card": self._card,
            "key": self._api_key,
        }

    def stand_in(self, match: Match, written: str) -> str:
        """What replaces `written`, which is the text of `match`; line breaks inside are kept behind it."""
        replaced = self._makers[match.kind](match, written)
        lost = written.count("\n") - replaced.count("\n")
        return replaced + "\n" * lost if match.kind in ("email", "ip") else replaced

    def _bytes(self, match: Match, count: int = 32) -> bytes:
        found = b""
        while len(found) < count:
            message = f"{match.kind}\0{len(found)}\0{match.canonical}".encode()
            found += hmac.new(self._key, message, hashlib.sha256).digest()
        return found[:count]

    def _digits(self, match: Match, count: int) -> str:
        return f"{int.from_bytes(self._bytes(match), 'big') % 10**count:0{count}d}" if count > 0 else ""

    def _letters(self, match: Match, count: int) -> str:
        return base64.b32encode(self._bytes(match, count)).decode()[:count].lower()

    def _email(self, match: Match, written: str) -> str:
        ending = ("com", "org", "net")[self._bytes(match)[-1] % 3]
        return f"{'abcdefghijklmnop'[self._bytes(match)[0] % 16]}{self._letters(match, 11)}@example.{ending}"

    def _ip_address(self, match: Match, written: str) -> str:
        value = self._bytes(match)
        if ":" in written:
            return "2001:db8:" + ":".join(value[place : place + 2].hex() for place in range(0, 12, 2))
        return f"{240 + value[0] % 15}.{value[1]}.{value[2]}.{value[3]}"

    def _telephone(self, match: Match, written: str) -> str:
        extension = _EXTENSION.search(written)
        piece = written[: extension.start()] if extension else written
        before, national = national_part(piece)
        fake = STAND_IN + self._digits(match, len(national) - len(STAND_IN))
        return _with_digits(piece, before + fake) + (extension.group() if extension else "")

    def _card(self, match: Match, written: str) -> str:
        return _with_digits(written, STAND_IN + self._digits(match, len(digits_of(written)) - len(STAND_IN)))

    def _api_key(self, match: Match, written: str) -> str:
        if written.startswith("-----BEGIN "):
            header = written[: written.index("-----", 11) + 5]
            body = api_keys.STAND_IN + base64.b64encode(self._bytes(match, 48)).decode()
            return f"{header}\n{body}\n{header.replace('BEGIN', 'END')}"
        start = _KEY_START.match(written)
        prefix = start.group() if start else ""
        body = base64.b32encode(self._bytes(match, 64)).decode().rstrip("=")
        length = max(8, min(len(written), 64) - len(prefix) - len(api_keys.STAND_IN))
        return prefix + body[:length] + api_keys.STAND_IN


def _with_digits(written: str, digits: str) -> str:
    """`written` with its digits replaced one by one."""
    following = iter(digits)
    return "".join(next(following) if "0" <= character <= "9" else character for character in written)
