"""Checksums of a file's blocks beside its SHA-256, so that damage has an address: not only which file, but which bytes.

A SHA-256 says that a file was changed; CRC32 of each block (zlib, RFC 1952) says where. A block is 4 KiB, the page of
most file systems, and larger in large files, which have 1,024 blocks at most. As text: `4096:` and 8 hexadecimal
digits for each block.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

_PAGE = 4096
_MOST = 1024
_DIGITS = 8


def block_bytes(size: int) -> int:
    """The block of a file of `size` bytes: the smallest power of two from 4 KiB on of which 1,024 cover it."""
    block = _PAGE
    while block * _MOST < size:
        block *= 2
    return block


def digest_with_blocks(path: Path) -> tuple[str, str]:
    """SHA-256 in hexadecimal and the text of the blocks' checksums, in one pass over the file."""
    block = block_bytes(path.stat().st_size)
    state, sums = hashlib.sha256(), []
    with path.open("rb") as stream:
        while part := stream.read(block):
            state.update(part)
            sums.append(f"{zlib.crc32(part):0{_DIGITS}x}")
    return state.hexdigest(), f"{block}:{''.join(sums)}"


def changed_ranges(path: Path, sums: str) -> list[tuple[int, int]]:
    """The bytes (start, exclusive stop) of the blocks that are not what they were; neighbours are one range.

    Bytes behind the last block that was written count as changed; missing ones are not listed.
    """
    head, _, digits = sums.partition(":")
    if not head.isdecimal() or not int(head):
        return []
    block, expected = int(head), [digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS)]
    found: list[tuple[int, int]] = []
    with path.open("rb") as stream:
        number = 0
        while part := stream.read(block):
            start = number * block
            if number >= len(expected) or f"{zlib.crc32(part):0{_DIGITS}x}" != expected[number]:
                if found and found[-1][1] == start:
                    start = found.pop()[0]
                found.append((start, number * block + len(part)))
            number += 1
    return found
