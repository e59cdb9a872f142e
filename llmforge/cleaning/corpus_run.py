"""Documents in, a corpus out, in two passes: each document alone through the chain, then duplicates and splits.

The first pass judges what the workers measured, writes what is dropped and spills what passes; the second knows all
duplicates and writes the rest in the order it was read. Knows nothing of configs' files, run folders or terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from llmforge.cleaning.ledger import Ledger
from llmforge.cleaning.parts import Entry, Measured
from llmforge.cleaning.pii.match import Sealed
from llmforge.cleaning.pipeline import ChainSettings, Judge, signature_width
from llmforge.cleaning.signal_store import SignalWriter
from llmforge.cleaning.splits import SplitSettings, choose_splits
from llmforge.cleaning.survivors import Survivors
from llmforge.cleaning.verdict import Drop
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.folder import CorpusFormat, CorpusWriter, Split
from llmforge.corpus.sources import OnBad, UniqueIds


@dataclass(frozen=True, slots=True)
class Copy:
    """A document that another one stands for: its number, and what of it the two share, 0 to 1."""

    kept: int
    similarity: float
    rule: str  # exact_duplicate or near_duplicate


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run writes: the corpus in the making, and what is needed only until then; both are empty folders."""

    corpus: Path
    scratch: Path
    format: CorpusFormat
    shard_bytes: int


@contextmanager
def open_run(
    settings: ChainSettings, split: SplitSettings, places: Places, on_bad: OnBad, on_progress: Callable[[], None]
) -> Iterator[CorpusRun]:
    """A run that writes into `places`; its files are finished at the end of the `with`."""
    with (
        Survivors(places.scratch, signature_width(settings)) as survivors,
        CorpusWriter(places.corpus, places.shard_bytes, places.format) as writer,
        closing(SignalWriter(places.corpus)) as signals,
    ):
        yield CorpusRun(settings, split, writer, survivors, signals, Ledger(), on_bad, on_progress)


@dataclass(slots=True)
class CorpusRun:
    """One run: `writer` gets the documents, `survivors` holds them in between, `ledger` counts them."""

    settings: ChainSettings
    split: SplitSettings
    writer: CorpusWriter
    survivors: Survivors
    signals: SignalWriter
    ledger: Ledger
    on_bad: OnBad
    on_progress: Callable[[], None]  # called often; may raise to stop
    sealed: set[Sealed] = field(default_factory=set)  # the originals of the stand-ins

    def read(self, pieces: Iterable[list[Entry]]) -> None:
        """The first pass, over what was measured of the input's pieces in their order."""
        judge = Judge(self.settings)
        names: dict[str, UniqueIds] = {}
        for entries in pieces:
            for entry in entries:
                if isinstance(entry, tuple):
                    self._refuse(*entry)
                    continue
                document = entry.document
                document.id = names.setdefault(document.source, UniqueIds()).unique(document.id)
                self._sort(entry, judge)
            self.on_progress()

    def _refuse(self, row: BadRow, source: str) -> None:
        """A row that is no document: counted and kept by its place among the dropped."""
        self.on_bad(row)
        self.ledger.add_read(source, row.size)
        self._drop(Document(row.where, "", source, {}), row.size, [Drop("unreadable", "", row.reason)], {})

    def _sort(self, entry: Measured, judge: Judge) -> None:
        document, size = entry.document, entry.bytes_read
        self.ledger.add_read(document.source, size)
        self.ledger.add_changes(entry.removed, entry.replaced)
        self.sealed.update(entry.sealed)
        is_empty = not document.text or document.text.isspace()
        drops = [*judge.reasons(is_empty, entry.language, entry.signals), *entry.reasons]
        self.signals.add(entry, drops)
        if drops:
            self._drop(document, size, drops, {})
            return
        if entry.replaced:
            document.metadata["anonymized"] = entry.replaced
        self.survivors.add(document, size, entry.exact_key, entry.signature)

    def finish(self) -> dict[int, Split]:
        """The second pass: duplicates dropped, the others written; returns the split of each that stays."""
        self.survivors.flush()
        copies = self._copies()
        staying = [number for number in range(len(self.survivors)) if number not in copies]
        plan = choose_splits(self.survivors.ids, self.survivors.sizes, staying, self.split)
        for number, document in enumerate(self.survivors):
            size = self.survivors.bytes_read[number]
            if number in copies:
                self._drop_copy(document, size, copies[number])
                continue
            for split, part in plan.parts(number, document):
                self.writer.write(split, part)
            self.ledger.add_kept(document.source, size)
            self.on_progress()
        return plan.splits

    def _copies(self) -> dict[int, Copy]:
        copies: dict[int, Copy] = {}
        if self.settings.exact:
            first: dict[str, int] = {}
            for number, key in enumerate(self.survivors.keys):
                earlier = first.setdefault(key, number)
                if earlier != number:
                    copies[number] = Copy(earlier, 1.0, "exact_duplicate")
        if self.settings.near is not None:
            from llmforge.cleaning.dedup.near import find_near_duplicates

            alone = [number for number in range(len(self.survivors)) if number not in copies]
            found = self.survivors.signatures()
            sizes = [self.survivors.sizes[number] for number in alone]
            chosen = found[alone] if len(alone) < len(found) else found
            same = find_near_duplicates(chosen, sizes, lambda place: self._text(alone[place]), self.settings.near)
            for place, match in same.items():
                copies[alone[place]] = Copy(alone[match.kept], match.similarity, "near_duplicate")
        return _resolved(copies)

    def _text(self, number: int) -> str:
        self.on_progress()
        return self.survivors.read(number).text

    def _drop_copy(self, document: Document, size: int, copy: Copy) -> None:
        kept = self.survivors.ids[copy.kept]
        if copy.rule == "exact_duplicate":
            because = f"it is the same text as {kept}"
        else:
            because = f"{copy.similarity:.1%} of its runs of words and those of {kept} are shared"
        facts: dict[str, object] = {"kept": kept, "similarity": round(copy.similarity, 4)}
        self._drop(document, size, [Drop(copy.rule, "", because)], facts)

    def _drop(self, document: Document, size: int, drops: list[Drop], facts: Mapping[str, object]) -> None:
        first = drops[0]
        detail = f"{first.threshold}: {first.because}" if first.threshold else first.because
        told: dict[str, object] = {"reason": first.rule, "detail": detail, **facts}
        if len(drops) > 1:
            told["further_reasons"] = [f"{drop.name}: {drop.because}" for drop in drops[1:]]
        own = {f"{key}_" if key in told else key: value for key, value in document.metadata.items()}
        self.writer.write("dropped", Document(document.id, document.text, document.source, {**own, **told}))
        self.ledger.add_dropped(drops, document.id, document.text, size)


def _resolved(copies: dict[int, Copy]) -> dict[int, Copy]:
    """An exact copy of a document that is dropped as nearly the same as a third one names that third one."""
    for number, copy in copies.items():
        further = copies.get(copy.kept)
        if further is not None:
            copies[number] = Copy(further.kept, further.similarity, copy.rule)
    return copies
