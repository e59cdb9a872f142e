"""The ledger: what came in, what stayed, what went and why, in documents and bytes; it balances or the run fails.

Bytes are the UTF-8 bytes of a document's text as it was read; of a row that could not be read, the row's own bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from llmforge.cleaning.verdict import Drop

MAX_EXAMPLES = 5
EXCERPT_CHARACTERS = 200


@dataclass(slots=True)
class Count:
    """Documents and their bytes."""

    documents: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more document."""
        self.documents += 1
        self.bytes += size

    def as_json(self) -> dict[str, int]:
        """The two numbers by name."""
        return {"documents": self.documents, "bytes": self.bytes}


@dataclass(slots=True)
class Ledger:
    """Counts of one run, by rule, by threshold, by step and by source."""

    read: Count = field(default_factory=Count)
    kept: Count = field(default_factory=Count)
    dropped: dict[str, Count] = field(default_factory=dict)
    thresholds: dict[str, Count] = field(default_factory=dict)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    sources: dict[str, dict[str, Count]] = field(default_factory=dict)

    def add_read(self, source: str, size: int) -> None:
        """A document, or a row that is none, came in."""
        self.read.add(size)
        self._source(source, "read").add(size)

    def add_kept(self, source: str, size: int) -> None:
        """A document stays."""
        self.kept.add(size)
        self._source(source, "kept").add(size)

    def add_dropped(self, drop: Drop, document_id: str, excerpt: str, size: int) -> None:
        """A document goes, for the first reason found."""
        self.dropped.setdefault(drop.rule, Count()).add(size)
        self.thresholds.setdefault(drop.name, Count()).add(size)
        examples = self.examples.setdefault(drop.name, [])
        if len(examples) < MAX_EXAMPLES:
            shown = " ".join(excerpt[: 2 * EXCERPT_CHARACTERS].split())[:EXCERPT_CHARACTERS]
            examples.append({"id": document_id, "because": drop.because, "text": shown})

    def add_changes(self, steps: Iterable[str], replaced: dict[str, int]) -> None:
        """Steps changed a document's text; `replaced` counts what was put in."""
        for step in steps:
            self.changed[step] = self.changed.get(step, 0) + 1
        for kind, count in replaced.items():
            self.replaced[kind] = self.replaced.get(kind, 0) + count

    def _source(self, source: str, what: str) -> Count:
        return self.sources.setdefault(source, {"read": Count(), "kept": Count()})[what]

    def check(self) -> None:
        """Fails when what came in is not what stayed and what went: a bug of ours, never the user's."""
        documents = self.kept.documents + sum(count.documents for count in self.dropped.values())
        size = self.kept.bytes + sum(count.bytes for count in self.dropped.values())
        assert (documents, size) == (self.read.documents, self.read.bytes), (
            f"the ledger does not balance: {self.read.documents} documents and {self.read.bytes} bytes in, "
            f"{documents} and {size} kept or dropped"
        )

    def main_reason(self) -> tuple[str, Count] | None:
        """The rule and threshold that dropped most documents."""
        return max(self.thresholds.items(), key=lambda item: item[1].documents, default=None)

    def as_json(self) -> dict[str, object]:
        """All counts, largest first; `input`, `kept`, `dropped` and `changed` as the command's --json has them."""
        return {
            "input": self.read.as_json(),
            "kept": self.kept.as_json(),
            "dropped": _by_size(self.dropped),
            "changed": dict(sorted(self.changed.items())),
            "dropped_by_threshold": _by_size(self.thresholds),
            "replaced": dict(sorted(self.replaced.items())),
            "sources": {
                source: {what: count.as_json() for what, count in counts.items()}
                for source, counts in sorted(self.sources.items())
            },
            "examples": dict(sorted(self.examples.items())),
        }


def _by_size(counts: dict[str, Count]) -> dict[str, dict[str, int]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1].documents, item[0]))
    return {name: count.as_json() for name, count in ordered}


def as_text(ledger: Ledger, output: str, seconds: float) -> str:
    """The ledger as a page for a person."""
    width = max([len("kept"), *(len(name) for name in ledger.thresholds)]) + 2
    lines = [f"{'':{width}}{'documents':>12}{'MB':>10}", _line("read", ledger.read, width, ledger.read)]
    ordered = sorted(ledger.thresholds.items(), key=lambda item: (-item[1].documents, item[0]))
    lines.extend(_line(name, count, width, ledger.read) for name, count in ordered)
    lines.append(_line("kept", ledger.kept, width, ledger.read))
    if ledger.changed:
        lines.append("changed: " + ", ".join(f"{count:,} by {step}" for step, count in sorted(ledger.changed.items())))
    if ledger.replaced:
        lines.append("replaced: " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(ledger.replaced.items())))
    rate = ledger.read.bytes / max(seconds, 1e-9) / 1e6
    lines.append(f"{seconds:.1f} s, {rate:.1f} MB/s; corpus in {output}")
    return "\n".join(lines)


def _line(name: str, count: Count, width: int, whole: Count) -> str:
    share = f"{count.documents / whole.documents:>7.1%}" if whole.documents and count is not whole else ""
    return f"{name:{width}}{count.documents:>12,}{count.bytes / 1e6:>10.2f}{share}"
