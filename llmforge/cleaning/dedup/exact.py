"""The same text again: equal but for white space, by a 128-bit hash; the first one read stays."""

from __future__ import annotations


def exact_key(text: str) -> bytes:
    """16 bytes that are the same for texts that differ in white space only."""
    import xxhash

    return bytes(xxhash.xxh3_128_digest(" ".join(text.split()).encode("utf-8", "surrogatepass")))


class ExactIndex:
    """The keys seen so far, each with the number of the first document that had it."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}

    def first(self, key: bytes, number: int) -> int | None:
        """The number of the earlier document with this key; None, and `number` is kept, when there is none."""
        found = self._first.setdefault(key, number)
        return None if found == number else found
