"""The ledger: what came in, what stayed, what went and why, in documents and bytes; it balances or the run fails.

Each document that goes is counted under its first reason, under every reason, and under a reason that was the only
one: the last says what a rule alone costs. Bytes are the UTF-8 bytes of a document's text as it was read; of a row that
could not be read, the row's own bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from llmforge.cleaning.verdict import Drop

MAX_EXAMPLES = 5
EXCERPT_CHARACTERS = 200
WAYS = ("first", "any", "only")


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
class Edits:
    """What a step changed: how many documents, and the characters it took away (negative where it added)."""

    documents: int = 0
    characters_removed: int = 0

    def as_json(self) -> dict[str, int]:
        """The two numbers by name."""
        return {"documents": self.documents, "characters_removed": self.characters_removed}


@dataclass(slots=True)
class Ledger:
    """Counts of one run, by rule, by threshold, by step and by source."""

    read: Count = field(default_factory=Count)
    kept: Count = field(default_factory=Count)
    dropped: dict[str, Count] = field(default_factory=dict)
    reasons: dict[str, dict[str, Count]] = field(default_factory=dict)  # by threshold, then by WAYS
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    edits: dict[str, Edits] = field(default_factory=dict)
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

    def add_dropped(self, drops: Sequence[Drop], document_id: str, text: Callable[[], str], size: int) -> None:
        """A document goes for these reasons, of which the first decides; each threshold stands once.

        `text` gives its text, of which an example shows the beginning.
        """
        first = drops[0]
        self.dropped.setdefault(first.rule, Count()).add(size)
        names = list(dict.fromkeys(drop.name for drop in drops))
        for name in names:
            self._reason(name, "any").add(size)
        self._reason(first.name, "first").add(size)
        if len(names) == 1:
            self._reason(first.name, "only").add(size)
        examples = self.examples.setdefault(first.name, [])
        if len(examples) < MAX_EXAMPLES:
            shown = " ".join(text()[: 2 * EXCERPT_CHARACTERS].split())[:EXCERPT_CHARACTERS]
            examples.append({"id": document_id, "because": first.because, "text": shown})

    def add_changes(self, removed: Mapping[str, int], replaced: Mapping[str, int]) -> None:
        """Steps changed a document's text; `replaced` counts what was put in."""
        for step, characters in removed.items():
            edits = self.edits.setdefault(step, Edits())
            edits.documents += 1
            edits.characters_removed += characters
        for kind, count in replaced.items():
            self.replaced[kind] = self.replaced.get(kind, 0) + count

    def _reason(self, name: str, way: str) -> Count:
        ways = self.reasons.get(name)
        if ways is None:
            ways = self.reasons[name] = {each: Count() for each in WAYS}
        return ways[way]

    def _source(self, source: str, what: str) -> Count:
        counts = self.sources.get(source)
        if counts is None:
            counts = self.sources[source] = {"read": Count(), "kept": Count()}
        return counts[what]

    def check(self) -> None:
        """Fails when what came in is not what stayed and what went: a bug of ours, never the user's."""
        documents = self.kept.documents + sum(count.documents for count in self.dropped.values())
        size = self.kept.bytes + sum(count.bytes for count in self.dropped.values())
        assert (documents, size) == (self.read.documents, self.read.bytes), (
            f"the ledger does not balance: {self.read.documents} documents and {self.read.bytes} bytes in, "
            f"{documents} and {size} kept or dropped"
        )

    def main_reason(self) -> tuple[str, Count] | None:
        """The rule and threshold that dropped most documents, as the first reason."""
        first = {name: ways["first"] for name, ways in self.reasons.items()}
        return max(first.items(), key=lambda item: item[1].documents, default=None)

    def as_json(self) -> dict[str, object]:
        """All counts, largest first; `input`, `kept`, `dropped` and `changed` as the command's --json has them."""
        return {
            "input": self.read.as_json(),
            "kept": self.kept.as_json(),
            "dropped": {name: count.as_json() for name, count in _by_size(self.dropped)},
            "changed": {step: edits.documents for step, edits in sorted(self.edits.items())},
            "edits": {step: edits.as_json() for step, edits in sorted(self.edits.items())},
            "reasons": {name: {way: ways[way].as_json() for way in WAYS} for name, ways in self.by_reason()},
            "replaced": dict(sorted(self.replaced.items())),
            "sources": {
                source: {what: count.as_json() for what, count in counts.items()}
                for source, counts in sorted(self.sources.items())
            },
            "examples": dict(sorted(self.examples.items())),
        }

    def by_reason(self) -> list[tuple[str, dict[str, Count]]]:
        """(rule and threshold, counts by way), the largest first reason first."""
        return sorted(
            self.reasons.items(), key=lambda item: (-item[1]["first"].documents, -item[1]["any"].documents, item[0])
        )


def _by_size(counts: Mapping[str, Count]) -> list[tuple[str, Count]]:
    return sorted(counts.items(), key=lambda item: (-item[1].documents, item[0]))


def as_text(ledger: Ledger, place: str, seconds: float) -> str:
    """The ledger as a page for a person; `place` says where the corpus is, or that nothing was written."""
    from llmforge.report.page import share
    from llmforge.report.table import table

    whole = ledger.read.documents
    rows = [["read", f"{whole:,}", _megabytes(ledger.read), "", "", ""]]
    for name, ways in ledger.by_reason():
        first, others = ways["first"], [f"{ways[way].documents:,}" for way in ("any", "only")]
        rows.append([name, f"{first.documents:,}", _megabytes(first), share(first.documents, whole), *others])
    kept = ledger.kept
    rows.append(["kept", f"{kept.documents:,}", _megabytes(kept), share(kept.documents, whole), "", ""])
    header = ["", "documents", "MB", "share", "any reason", "only reason"]
    lines = table(rows, header if ledger.reasons else header[:4], right=(1, 2, 3, 4, 5))
    if ledger.edits:
        changes = [f"{edits.documents:,} by {step}" for step, edits in sorted(ledger.edits.items())]
        lines.append("changed: " + ", ".join(changes))
    if ledger.replaced:
        lines.append("replaced: " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(ledger.replaced.items())))
    rate = ledger.read.bytes / max(seconds, 1e-9) / 1e6
    lines.append(f"{seconds:.1f} s, {rate:.1f} MB/s; {place}")
    return "\n".join(lines)


def _megabytes(count: Count) -> str:
    return f"{count.bytes / 1e6:.2f}"
