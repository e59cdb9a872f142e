"""What an implementation of a vocabulary must offer to `Tokenizer`."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol


class Backend(Protocol):
    """Ids of one vocabulary; specials are only ever reached by name."""

    digest: str
    token_bytes: list[bytes]  # b"" for control symbols
    names: dict[str, int]  # control symbols by name
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    stop_ids: frozenset[int]
    prefix_ids: list[int]

    def encode(self, text: str) -> array[int]:
        """Ids of a text as unsigned 4-byte integers, without control symbols."""

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """The text of ids."""
