"""Parts as a stage would make them, for tests of the engines: workers on other nodes import this by name."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from llmforge.runtime.files import write_atomic

UNITS = 7


@dataclass(frozen=True)
class MakeParts:
    """Shard i/n makes every n-th unit's part, once; `places` notes which process did, outside the parts."""

    parts: Path
    places: Path
    fails_at: int | None = None

    def __call__(self, shard: int, of: int) -> None:
        for unit in range(shard, UNITS, of):
            if unit == self.fails_at:
                raise ValueError(f"unit {unit} cannot be made")
            place = self.parts / f"part-{unit:03d}"
            if not place.exists():
                note = f"{os.environ.get('RAY_NODELIST', 'here')} {os.getpid()}"
                write_atomic(self.places / f"{unit}", note)
                write_atomic(place, "".join(hashlib.sha256(f"{unit} {row}".encode()).hexdigest() for row in range(500)))


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
