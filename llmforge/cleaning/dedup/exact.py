"""The same text again: equal but for white space, by a 128-bit hash (XXH3, https://xxhash.com)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEY_BYTES = 16
_CONTROLS = bytes(range(0x21))  # ASCII white space, and what no text shows
# What str.isspace() counts as white space beyond ASCII.
_WIDE_SPACE = "\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_SHORT = 2048  # bytes, below which calling NumPy costs more than it saves


def exact_key(text: str) -> bytes:
    """16 bytes that are the same for texts that differ in white space and control characters only.

    Both are taken out, not evened out, so "to day" and "today" are one text too: it costs a fifth of the time, and of
    two documents that differ in nothing else one is enough.
    """
    import xxhash

    data = text.encode("utf-8", "surrogatepass")
    if not text.isascii():
        for space in _WIDE_SPACE:
            if space in text:  # some 10 GB/s each, unlike a regular expression
                data = data.replace(space.encode(), b"")
    return bytes(xxhash.xxh3_128_digest(_without_controls(data)))


def _without_controls(data: bytes) -> Any:
    import numpy as np

    if len(data) < _SHORT:
        return data.translate(None, _CONTROLS)
    values = np.frombuffer(data, dtype=np.uint8)
    return values.compress(values > 0x20)


def find_exact_duplicates(keys: Any, preference: Any, earlier: Any = None) -> NDArray[np.int64]:
    """Which document stays for each: its own number, or that of the one it repeats.

    Of equal documents the one with the greatest preference stays, of equals the first; a document of an earlier corpus
    stays before all others. Takes about 50 bytes a document.

    Args:
        keys: (documents, 16) uint8, the rows of `exact_key`.
        preference: (documents,) numbers, greater ones stay.
        earlier: (earlier documents, 16) uint8 or None; the j-th of them is called number documents + j.

    Returns:
        (documents,) int64.
    """
    import numpy as np

    own = np.ascontiguousarray(keys, dtype=np.uint8).reshape(-1, KEY_BYTES)
    count = len(own)
    weights = -np.asarray(preference, dtype=np.float64)
    if earlier is not None and len(earlier):
        own = np.concatenate((own, np.asarray(earlier, dtype=np.uint8)))
        weights = np.concatenate((weights, np.full(len(earlier), -np.inf)))
    halves = own.view(np.uint64)
    order = np.lexsort((weights, halves[:, 1], halves[:, 0]))  # stable: of equals the first one read comes first
    del weights
    is_first = np.zeros(len(order), dtype=bool)
    is_first[:1] = True
    for half in (0, 1):
        column = halves[order, half]
        is_first[1:] |= column[1:] != column[:-1]
        del column
    place = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    kept = np.empty(len(order), dtype=np.int64)
    kept[order] = order[place]
    return kept[:count]
