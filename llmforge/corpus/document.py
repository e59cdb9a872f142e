"""The one unit of text that moves through cleaning and into the token shards, and the row that could not become one."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Document:
    """A text with the place it came from.

    `id` is stable: the same input gives the same id on every machine. `source` names the source in the config (for the
    built-in corpus: the package). `metadata` holds plain JSON values: file, row, license, encoding and the other fields
    of its row.
    """

    id: str
    text: str
    source: str
    metadata: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row without usable text: `where` is "file:row", `reason` completes "rejected because", `size` in bytes."""

    where: str
    reason: str
    size: int
