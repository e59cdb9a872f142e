"""Where an answer ends: stop ids, and stop strings that may begin in one token and end in another.

Makes of pieces of text the part that can be shown: what could still become a stop string is held back. Knows no model
and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Cuts a text that comes in pieces before the stop string that is complete first (the longer one of two).

    `push` and `finish` together give the text up to the stop string (which is left out), or all of it; `hit` says
    whether one was found. The result does not depend on where the pieces were cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        assert all(stops), "an empty stop string would end every answer"
        self.hit: str | None = None
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> str:
        """Takes the next piece and gives the text that is now certain to belong to the answer."""
        if self.hit is not None:
            return ""
        text = self._held + piece
        found = [(place + len(stop), place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            # By the end, not by the beginning: so it would be found if the text came one character at a time.
            _, place, self.hit = min(found)
            self._held = ""
            return text[:place]
        keep = self._possible_start(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """The text that was held back, when the answer ended for another reason."""
        held, self._held = self._held, ""
        return held

    def _possible_start(self, text: str) -> int:
        """Length of the longest end of `text` that is the beginning of a stop string."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest
