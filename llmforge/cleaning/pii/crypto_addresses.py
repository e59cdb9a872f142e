"""Addresses of coins in a text, by their form and checksum: Bitcoin, Litecoin, Dogecoin, Tron, XRP, Cardano, Ethereum.

Base58Check (two rounds of SHA-256) and Bech32/Bech32m (BIP 173, BIP 350) are verified. An Ethereum address is
taken by its form alone, "0x" and 40 hexadecimal figures. Addresses without a checksum or a mark (Solana) are out of
reach: they cannot be told from other random tokens.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from llmforge.cleaning.pii.match import Match
from llmforge.cleaning.pii.shapes import Shapes

STAND_IN, LOWER_STAND_IN, HEX_STAND_IN = "EXAMPLE", "example", "0x00000000"
_BITCOIN58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_RIPPLE58 = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32_CONSTANTS = (1, 0x2BC830A3)  # BIP 173 and BIP 350
_ETHEREUM = re.compile(r"0x[0-9a-fA-F]{40}")
_BASE58 = re.compile(r"[13LMDTAr9][1-9A-HJ-NP-Za-km-z]{24,34}")
_SEGWIT = re.compile(r"(?:bc|ltc|tb|addr|stake)1[02-9ac-hj-np-z]{20,110}")


def find_crypto_addresses(text: str, shapes: Shapes) -> Iterator[Match]:
    """The addresses of a text in order."""
    for start, end in shapes.long_tokens():
        written = text[start:end]
        if len(written) == 42 and _ETHEREUM.fullmatch(written):
            if not written.startswith(HEX_STAND_IN) and len(set(written.lower())) >= 8:
                yield Match(start, end, "crypto", written.lower())
        elif STAND_IN in written or LOWER_STAND_IN in written:
            continue
        elif _SEGWIT.fullmatch(written):
            if _is_bech32(written):
                yield Match(start, end, "crypto", written)
        elif _BASE58.fullmatch(written) and _is_base58_check(written):
            yield Match(start, end, "crypto", written)


def _is_base58_check(written: str) -> bool:
    alphabet = _RIPPLE58 if written[0] == "r" else _BITCOIN58
    value = 0
    for character in written:
        value = value * 58 + alphabet.index(character)
    if value >= 1 << 200:
        return False
    data = value.to_bytes(25, "big")  # version, hash of 20 bytes, checksum of 4
    return hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] == data[-4:]


def _is_bech32(written: str) -> bool:
    human, _, rest = written.rpartition("1")
    values = [ord(character) >> 5 for character in human] + [0] + [ord(character) & 31 for character in human]
    checksum = 1
    for value in [*values, *map(_BECH32.index, rest)]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for place, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> place & 1 else 0
    return checksum in _BECH32_CONSTANTS
