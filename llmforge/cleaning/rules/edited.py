"""What an edit leaves of a text, and what it removed for which reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Edited:
    """`text` is what stays; `removed` has the characters removed by reason, `<rule set>.<reason>`."""

    text: str
    removed: dict[str, int] = field(default_factory=dict)


def edit_lines(name: str, text: str, lines: list[str], change: Callable[[str], tuple[str, str]]) -> Edited:
    """The lines after `change`, which gives (what stays of a line, the reason when something goes).

    A line of which nothing stays goes with its newline, which is counted. Blank lines are changed like others. The text
    that comes back is the same object where nothing was removed.
    """
    removed: dict[str, int] = {}
    kept: list[str] = []
    for line in lines:
        stays, reason = change(line)
        if reason:
            key = f"{name}.{reason}"
            removed[key] = removed.get(key, 0) + len(line) - len(stays) + (not stays)
        if stays or not reason:
            kept.append(stays)
    if not removed:
        return Edited(text)
    joined = "\n".join(kept).strip("\n")
    return Edited("" if joined.isspace() else joined, removed)
