"""Which documents are held out for validation: decided by the id alone, so it never depends on order or other
documents.
"""

from __future__ import annotations

import hashlib


def stable_fraction(key: str) -> float:
    """A number in [0, 1) that is the same for `key` on every machine and in every version of Python."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def is_valid(document_id: str, fraction: float) -> bool:
    """True for about `fraction` of all ids; a document held out at one fraction is held out at every larger one."""
    return stable_fraction(document_id) < fraction
