"""Texts by their place in a part; a frame that was unpacked is kept for the next texts of it.

A text is handed out as the JSON string that it is stored as, for copying, or decoded.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from llmforge.cleaning.parts import TextPlace
from llmforge.errors import MachineError

_HELD_BYTES = 4 << 20  # of unpacked frames


class PartTexts:
    """Reads texts out of parts."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[Path, int], bytes] = OrderedDict()
        self._size = 0

    def packed(self, part: Path, place: TextPlace) -> bytes:
        """The text as a JSON string, quotes included.

        Raises:
            MachineError: the part cannot be read any more.
        """
        key = (part, place.begin)
        frame = self._held.get(key)
        if frame is None:
            frame = self._held[key] = _frame(part, place)
            self._size += len(frame)
            while self._size > _HELD_BYTES and len(self._held) > 1:
                self._size -= len(self._held.popitem(last=False)[1])
        else:
            self._held.move_to_end(key)
        return frame[place.first : place.last]

    def text(self, part: Path, place: TextPlace) -> str:
        """The text itself. Raises as `packed`."""
        import orjson

        found: str = orjson.loads(self.packed(part, place))
        return found


def _frame(part: Path, place: TextPlace) -> bytes:
    import zstandard

    try:
        handle = os.open(part, os.O_RDONLY)
        try:
            data = os.pread(handle, place.size, place.begin)
        finally:
            os.close(handle)
        if data.startswith(b'"'):
            return data
        size = zstandard.frame_content_size(data)
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=max(size, 1))
    except (OSError, zstandard.ZstdError) as error:
        hint = "run the same command again: it makes the part anew"
        raise MachineError(f"what was just written cannot be read ({error})", part, hint) from error
