"""Stand-ins for personal data: of the same form, the same for the same thing under one key, and nobody's.

Each is made by HMAC-SHA256 of the canonical form under the user's key, so nobody without the key can tell who stands
behind one. All lie in ranges that belong to nobody, which is also how a second pass knows them: example.com (RFC 2606),
240.0.0.0/4 (RFC 1112), 2001:db8::/32 (RFC 3849), hardware addresses 02:00:..., cards that begin with 000, telephone
numbers whose national part begins with 00, social security numbers of group 00, other national numbers that fail their
own check, account numbers with check figures 00, 0x00000000..., keys and passwords with EXAMPLE in them.

How many stand-ins there are decides how often two things share one. Bits: e-mail 59, IPv6 96, IPv4 28, hardware
address 32, card 43, account number 36 or more, telephone 3.3 a figure less two (27 for ten figures, 20 for eight),
social security 23, other national numbers 26 or more, coins 100 or more, keys and passwords 40 or more. Of n things of
b bits about n*n / 2**(b+1) pairs share one: of ten thousand numbers of ten figures half a pair. A shared one still
names nobody, and the vault (vault.py) holds both originals.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

from llmforge.cleaning.pii import api_keys, cards, crypto_addresses, mac_addresses, passwords
from llmforge.cleaning.pii.emails import PERCENT_ATS
from llmforge.cleaning.pii.key_formats import beginning
from llmforge.cleaning.pii.match import Kind, Match
from llmforge.cleaning.pii.national_ids import is_valid_anywhere
from llmforge.cleaning.pii.shapes import Shapes
from llmforge.cleaning.pii.telephones import digits_of, national_part, stand_in_mark

MASKS: dict[Kind, str] = {
    "key": "<KEY>",
    "password": "<PASSWORD>",
    "email": "<EMAIL>",
    "mac": "<MAC_ADDRESS>",
    "ip": "<IP_ADDRESS>",
    "iban": "<IBAN>",
    "crypto": "<CRYPTO_ADDRESS>",
    "card": "<CARD>",
    "national_id": "<NATIONAL_ID>",
    "phone": "<PHONE>",
    "name": "<NAME>",
}
NAME_STAND_IN = re.compile(r"Person_[A-Z2-7]{10}")
_EXTENSION = re.compile(r"[ ,;]{0,2}(?:[xX]|[eE]xt\.?|[eE]xtension)[ ]?[0-9]{1,6}$")
_SEGWIT_BEGINNING = re.compile(r"(?:bc|ltc|tb|addr|stake)1")
_SSN_FORMS = (b"000-00-0000", b"000 00 0000")
_SHORTEST_SECRET = 8  # letters of five bits


class Pseudonyms:
    """The stand-ins under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._makers: dict[Kind, Callable[[Match, str], str]] = {
            "key": self._api_key,
            "password": self._password,
            "email": self._email,
            "mac": self._mac_address,
            "ip": self._ip_address,
            "iban": self._iban,
            "crypto": self._crypto_address,
            "card": self._card,
            "national_id": self._national_id,
            "phone": self._telephone,
            "name": self._name,
        }

    def stand_in(self, match: Match, written: str) -> str:
        """What replaces `written`, which is the text of `match`; line breaks inside are kept behind it."""
        replaced = self._makers[match.kind](match, written)
        lost = written.count("\n") - replaced.count("\n")
        return replaced + "\n" * lost if match.kind in ("email", "ip", "name") else replaced

    def _bytes(self, match: Match, count: int = 32, purpose: str = "") -> bytes:
        found = b""
        while len(found) < count:
            message = f"{match.kind}\0{purpose}{len(found)}\0{match.canonical}"
            found += hmac.new(self._key, message.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
        return found[:count]

    def _digits(self, match: Match, count: int, purpose: str = "") -> str:
        return f"{int.from_bytes(self._bytes(match, 32, purpose), 'big') % 10**count:0{count}d}" if count > 0 else ""

    def _letters(self, match: Match, count: int) -> str:
        return base64.b32encode(self._bytes(match, count)).decode()[:count].lower()

    def _respelled(self, written: str, usual: str, made: str) -> str:
        """`made` in letters whose case tells this spelling from the usual one; both are the same thing still."""
        if written == usual:
            return made
        digest = hmac.new(self._key, b"spelling\0" + written.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
        bits = int.from_bytes(digest, "big")
        cased = (letter.upper() if bits >> place & 1 else letter for place, letter in enumerate(made))
        changed = "".join(cased)
        return changed if changed != made else made[0].upper() + made[1:]

    def _email(self, match: Match, written: str) -> str:
        ending = ("com", "org", "net")[self._bytes(match)[-1] % 3]
        local = f"{'abcdefghijklmnop'[self._bytes(match)[0] % 16]}{self._letters(match, 11)}"
        at = next(sign for sign in ("@", *PERCENT_ATS) if sign in written)
        return f"{self._respelled(written.replace(at, '@'), match.canonical, local)}{at}example.{ending}"

    def _ip_address(self, match: Match, written: str) -> str:
        value = self._bytes(match)
        if ":" not in written:
            return f"{240 + value[0] % 15}.{value[1]}.{value[2]}.{value[3]}"
        # The spelled-out form is known from its first group, which the short one writes without the zero.
        spelled_out = "::" not in written and len(written) == 39
        made = f"2001:{'0db8' if spelled_out else 'db8'}:" + value[:12].hex(":", 2)
        return made.upper() if written != written.lower() else made

    def _mac_address(self, match: Match, written: str) -> str:
        figures = mac_addresses.STAND_IN + self._bytes(match, 4).hex()
        following = iter(figures.upper() if written != written.lower() else figures)
        return "".join(next(following) if character.isalnum() else character for character in written)

    def _iban(self, match: Match, written: str) -> str:
        return written[:2] + "00" + self._scrambled(match, written[4:], "")

    def _crypto_address(self, match: Match, written: str) -> str:
        if written.startswith("0x"):
            figures = crypto_addresses.HEX_STAND_IN[2:] + self._bytes(match, 16).hex()
            return "0x" + self._respelled(written, match.canonical, figures)
        segwit = _SEGWIT_BEGINNING.match(written)
        if segwit is not None:
            return segwit.group() + crypto_addresses.LOWER_STAND_IN + self._letters(match, 32)
        return written[0] + crypto_addresses.STAND_IN + self._letters(match, len(written) - 8)

    def _national_id(self, match: Match, written: str) -> str:
        form = Shapes(written).kinds
        for attempt in range(1000):
            made = self._scrambled(match, written, str(attempt))
            if form in _SSN_FORMS:
                return f"{made[:4]}00{made[6:]}"
            if form.startswith(b"0"):
                made = "9" + made[1:]  # begins like no telephone number's trunk code
            if not is_valid_anywhere(made, form):
                return made
        return MASKS["national_id"]

    def _scrambled(self, match: Match, written: str, purpose: str) -> str:
        """`written` with each figure and letter replaced by another of its class."""
        values = iter(self._bytes(match, 2 * len(written), purpose))
        pieces = []
        for character in written:
            value = next(values) * 256 + next(values)
            if "0" <= character <= "9":
                character = str(value % 10)
            elif "A" <= character <= "Z":
                character = chr(ord("A") + value % 26)
            elif "a" <= character <= "z":
                character = chr(ord("a") + value % 26)
            pieces.append(character)
        return "".join(pieces)

    def _telephone(self, match: Match, written: str) -> str:
        extension = _EXTENSION.search(written)
        piece = written[: extension.start()] if extension else written
        before, national = national_part(piece)
        mark = stand_in_mark(before, national)
        fake = mark + self._digits(match, len(national) - len(mark))
        return _with_digits(piece, before + fake) + (extension.group() if extension else "")

    def _card(self, match: Match, written: str) -> str:
        return _with_digits(
            written, cards.STAND_IN + self._digits(match, len(digits_of(written)) - len(cards.STAND_IN))
        )

    def _api_key(self, match: Match, written: str) -> str:
        if written.startswith("-----BEGIN "):
            header = written[: written.index("-----", 11) + 5]
            body = api_keys.STAND_IN + base64.b64encode(self._bytes(match, 48)).decode()
            return f"{header}\n{body}\n{header.replace('BEGIN', 'END')}"
        return beginning(written) + self._secret(match, min(len(written), 64) - len(beginning(written)))

    def _password(self, match: Match, written: str) -> str:
        # In a URL the user goes too; passwords.py writes such a pair in canonical form with two slashes before it.
        in_url = match.canonical.startswith("//")
        return ("user:" if in_url else "") + self._secret(match, min(len(written), 64))

    def _secret(self, match: Match, length: int) -> str:
        body = base64.b32encode(self._bytes(match, 64)).decode().rstrip("=")
        return body[: max(_SHORTEST_SECRET, length - len(passwords.STAND_IN))] + passwords.STAND_IN

    def _name(self, match: Match, written: str) -> str:
        return "Person_" + self._letters(match, 10).upper()


def _with_digits(written: str, digits: str) -> str:
    """`written` with its digits replaced one by one."""
    following = iter(digits)
    return "".join(next(following) if "0" <= character <= "9" else character for character in written)
