"""The originals under seal, beside a corpus of stand-ins, and how the key's owner gets them back.

Each original is encrypted by AES-SIV (RFC 5297: deterministic and authenticated) under a key derived from the
pseudonyms' key, bound to its kind and its stand-in. Deterministic, because the same corpus must give the same bytes on
any number of workers; what that tells a reader without the key is only which originals are equal, and the stand-ins
tell that already, by intention.

The file is JSON lines, sorted: a header, then {"kind", "stand_in", "sealed"}. It holds no original in clear, but keep
it apart from the key: the two together undo the anonymisation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.cleaning.pii.match import Sealed
from llmforge.errors import DamagedError, DataError
from llmforge.runtime.files import write_atomic

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_HEADER = {"format": "llmforge vault", "version": 1}
_PREFIX = 6  # no stand-in is shorter
_MAX_ROUNDS = 8  # as often as one anonymisation may have gone over a text
_UTF8 = ("utf-8", "surrogatepass")


class Sealer:
    """Seals and opens originals under one key."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        self._cipher: AESSIV = AESSIV(hmac.new(key, b"llmforge vault", hashlib.sha512).digest())

    def seal(self, kind: str, stand_in: str, original: str) -> Sealed:
        """The original as an entry of a vault; the same three give the same bytes."""
        bound = [kind.encode(), stand_in.encode(*_UTF8)]
        return Sealed(kind, stand_in, base64.b64encode(self._cipher.encrypt(original.encode(*_UTF8), bound)).decode())

    def open(self, entry: Sealed) -> str:
        """The original of an entry.

        Raises:
            ValueError: the key is another, or the entry was changed.
        """
        from cryptography.exceptions import InvalidTag

        bound = [entry.kind.encode(), entry.stand_in.encode(*_UTF8)]
        try:
            return self._cipher.decrypt(base64.b64decode(entry.sealed, validate=True), bound).decode(*_UTF8)
        except InvalidTag as error:
            raise ValueError("the seal does not open with this key") from error


def write_vault(path: Path, entries: Iterable[Sealed]) -> int:
    """Writes the distinct entries in order, whole or not at all; returns how many there are."""
    rows = sorted(set(entries))
    lines = [json.dumps(_HEADER), *(json.dumps(row._asdict()) for row in rows)]
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    return len(rows)


class Vault:
    """An opened vault."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Reads and opens every entry.

        Raises:
            DataError: the file cannot be read, or the key is not the one it was made with.
            DamagedError: it is no vault, or an entry does not fit the others.
        """
        sealer = Sealer(key)
        originals: dict[str, set[str]] = {}
        opened = False
        for number, entry in enumerate(_read(path), start=2):
            try:
                originals.setdefault(entry.stand_in, set()).add(sealer.open(entry))
            except ValueError as error:
                if opened:
                    raise DamagedError("an entry of the vault was changed", f"{path}:{number}", "restore it") from error
                hint = "give the key file that the corpus was cleaned with"
                raise DataError("the key does not open this vault", path, hint) from error
            opened = True
        self._originals = {stand_in: sorted(found) for stand_in, found in originals.items()}
        lengths: dict[str, set[int]] = {}
        for stand_in in self._originals:
            lengths.setdefault(stand_in[:_PREFIX], set()).add(len(stand_in))
        self._lengths = {prefix: sorted(found, reverse=True) for prefix, found in lengths.items()}

    def reveal(self, text: str) -> str:
        """`text` with its originals; where two things share a stand-in, all that it may stand for as {one|other}."""
        for _ in range(_MAX_ROUNDS):
            revealed = self._round(text)
            if revealed == text:
                break
            text = revealed
        return text

    def _round(self, text: str) -> str:
        pieces: list[str] = []
        done = at = 0
        for at in range(len(text) - _PREFIX + 1):
            if at < done or (lengths := self._lengths.get(text[at : at + _PREFIX])) is None:
                continue
            stand_in = next((text[at : at + size] for size in lengths if text[at : at + size] in self._originals), None)
            if stand_in is not None:
                found = self._originals[stand_in]
                pieces += [text[done:at], found[0] if len(found) == 1 else "{" + "|".join(found) + "}"]
                done = at + len(stand_in)
        return "".join([*pieces, text[done:]])


def reveal(path: Path, key: bytes, text: str) -> str:
    """One text with its originals put back; open a Vault once for many texts. Raises as Vault does."""
    return Vault(path, key).reveal(text)


def _read(path: Path) -> Iterable[Sealed]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError("the vault cannot be read", path, "give the file that clean wrote") from error
    try:
        if json.loads(lines[0]) != _HEADER:
            raise ValueError("another header")
        entries = [Sealed(**json.loads(line)) for line in lines[1:]]
        if not all(isinstance(value, str) for entry in entries for value in entry):
            raise ValueError("an entry that is no text")
        return entries
    except (ValueError, TypeError, IndexError) as error:
        raise DamagedError("this is no vault of stand-ins", path, "give the file that clean wrote") from error
