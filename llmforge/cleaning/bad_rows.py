"""Rows that are no documents: a few are told and counted, more than a set share fail the run."""

from __future__ import annotations

from llmforge.cleaning.ledger import Ledger
from llmforge.corpus.document import BadRow
from llmforge.errors import DataError

UNREADABLE = "unreadable"  # the rule that drops a row that is no document


def unreadable_lines(ledger: Ledger) -> list[str]:
    """The first of them by name with what is wrong, a line each, and how many more there are."""
    lines = [f"unreadable: {row['id']}: {row['because']}" for row in ledger.examples.get(UNREADABLE, [])]
    more = ledger.dropped[UNREADABLE].documents - len(lines) if lines else 0
    return [*lines, *([f"unreadable: {more:,} more"] if more else [])]


class BadRows:
    """How many rows could not be read, and the first of them; `max_fraction` of all rows may be like that."""

    def __init__(self, max_fraction: float) -> None:
        self._max_fraction = max_fraction
        self._count = 0
        self._first: BadRow | None = None

    def add(self, row: BadRow) -> None:
        """One more."""
        self._count += 1
        self._first = self._first or row

    def fault(self, rows: int) -> DataError | None:
        """What is wrong, with the first one's place, when too many of `rows` were bad."""
        if self._first is None or self._count <= self._max_fraction * rows:
            return None
        share = f"{self._count:,} of {rows:,} rows are unreadable, more than max_bad_fraction={self._max_fraction:g}"
        hint = "mend or remove the rows, or set sources.N.text_key (N from 0) or max_bad_fraction"
        return DataError(f"{self._first.reason}; {share}", self._first.where, hint)

    def check(self, rows: int) -> None:
        """Raises DataError when too many of `rows` were bad."""
        fault = self.fault(rows)
        if fault is not None:
            raise fault
