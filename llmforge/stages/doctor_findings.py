"""What `doctor` says: findings about files, what was mended, and what to type next.

whole      it is as it was written
note       worth knowing; nothing is wrong
leftover   a crash left it; --repair may remove it or put it back
damaged    it is not what was written, or cannot be read
lacking    the machine has too little of something
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["whole", "note", "leftover", "damaged", "lacking"]
_SIGNS = {"whole": "ok", "note": "--", "leftover": "??", "damaged": "!!", "lacking": "!!"}
_RANGES_SHOWN = 4


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `ranges` are bytes (start, exclusive stop) of the file that were changed."""

    level: Level
    where: str
    what: str
    ranges: tuple[tuple[int, int], ...] = ()

    def line(self) -> str:
        """For a person."""
        shown = [f"{start}-{stop - 1}" for start, stop in self.ranges[:_RANGES_SHOWN]]
        more = f" and {len(self.ranges) - _RANGES_SHOWN} more ranges" if len(self.ranges) > _RANGES_SHOWN else ""
        place = f", bytes {', '.join(shown)}{more}" if shown else ""
        return f"{_SIGNS[self.level]} {self.where}{place}: {self.what}"


@dataclass
class Diagnosis:
    """All findings about one thing of a `kind`, facts for scripts, and the commands that come next."""

    kind: str
    path: str | None
    findings: list[Finding] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    next: list[str] = field(default_factory=list)

    def add(self, level: Level, where: object, what: str, ranges: tuple[tuple[int, int], ...] = ()) -> None:
        """Notes a finding."""
        self.findings.append(Finding(level, str(where), what, ranges))

    def of(self, level: Level) -> list[Finding]:
        """The findings of one level."""
        return [found for found in self.findings if found.level == level]

    def as_json(self) -> dict[str, object]:
        """CLI.md's object."""
        return {
            "kind": self.kind,
            "path": self.path,
            "whole": not self.of("damaged"),
            **self.facts,
            "findings": [vars(found) for found in self.findings],
            "repaired": self.repaired,
            "next": self.next,
        }

    def page(self) -> str:
        """For a person: what is wrong comes first."""
        order = ("damaged", "lacking", "leftover", "note", "whole")
        lines = [f"{self.kind}: {self.path}" if self.path else self.kind]
        lines += [found.line() for level in order for found in self.findings if found.level == level]
        lines += [f"repaired: {text}" for text in self.repaired]
        lines += [f"next: {text}" for text in self.next]
        return "\n".join(lines)
