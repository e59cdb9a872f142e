"""Documents in, a corpus out, in two passes: each document alone through the chain, then duplicates and splits.

The first pass judges what the workers measured, writes what is dropped and spills what passes; the second knows all
duplicates and writes the rest in the order it was read. Knows nothing of configs' files, run folders or terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmforge.cleaning.dedup.keep import score_of
from llmforge.cleaning.dedup.substring import Repeated, without
from llmforge.cleaning.duplicates import REPEATED, earlier_corpora, find_duplicates, index_corpus
from llmforge.cleaning.ledger import Ledger
from llmforge.cleaning.parts import Entry, Measured
from llmforge.cleaning.pii.match import Sealed
from llmforge.cleaning.pipeline import ChainSettings, Judge, num_bytes, signature_width
from llmforge.cleaning.signal_store import SignalWriter
from llmforge.cleaning.splits import SplitSettings, choose_splits
from llmforge.cleaning.survivors import Survivors
from llmforge.cleaning.verdict import Drop
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.folder import CorpusFormat, CorpusWriter, Split
from llmforge.corpus.row_documents import Arrivals
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import OnBad


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
        yield CorpusRun(settings, split, places, writer, survivors, signals, Ledger(), on_bad, on_progress)


@dataclass(slots=True)
class CorpusRun:
    """One run: `writer` gets the documents, `survivors` holds them in between, `ledger` counts them."""

    settings: ChainSettings
    split: SplitSettings
    places: Places
    writer: CorpusWriter
    survivors: Survivors
    signals: SignalWriter
    ledger: Ledger
    on_bad: OnBad
    on_progress: Callable[[], None]  # called often; may raise to stop
    sealed: set[Sealed] = field(default_factory=set)  # the originals of the stand-ins
    hits: list[tuple[str, list[list[Any]]]] = field(default_factory=list)  # evaluation items by document

    def read(self, pieces: Iterable[tuple[SourceConfig, list[Entry]]], say: Callable[[str], None]) -> None:
        """The first pass, over what was measured of the input's pieces in their order; `say` gets notes to the user."""
        judge = Judge(self.settings)
        arrivals: dict[str, Arrivals] = {}
        for source, entries in pieces:
            known = arrivals.setdefault(source.label, Arrivals(source))
            for entry in entries:
                if isinstance(entry, tuple):
                    self._refuse(*entry)
                    continue
                known.add(entry.document)
                self._sort(entry, judge)
            self.on_progress()
        for known in arrivals.values():
            for note in known.notes():
                say(note)

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
        if entry.hits:
            self.hits.append((document.id, entry.hits))
        document.metadata.update(entry.facts)
        is_empty = not document.text or document.text.isspace()
        drops = [*judge.reasons(is_empty, entry.language, entry.signals), *entry.reasons]
        self.signals.add(entry, drops)
        if drops:
            self._drop(document, size, drops, {})
            return
        if entry.replaced:
            document.metadata["anonymized"] = entry.replaced
        self.survivors.add(entry, self._score(document))

    def _score(self, document: Document) -> float:
        dedup, classify = self.settings.dedup, self.settings.classify
        if dedup.keep != "score":
            return 0.0
        own = document.metadata.get(f"{classify.label}_score") if classify is not None else None
        return score_of(document.metadata, own if isinstance(own, float) else None, dedup)

    def finish(self) -> dict[int, Split]:
        """The second pass: duplicates dropped, the others written; returns the split of each that stays."""
        documents = self.survivors
        documents.flush()
        with earlier_corpora(self.settings.dedup, self.places.scratch) as earlier:
            found = find_duplicates(documents, self.settings.dedup, earlier, self._text)
        staying = [number for number in range(len(documents)) if number not in found.copies]
        cut = {number: without(self._text(number), one.cut) for number, one in found.repeated.items() if one.cut}
        sizes = list(documents.sizes)
        for number, text in cut.items():
            sizes[number] = num_bytes(text)
        plan = choose_splits(documents.ids, sizes, staying, self.split)
        for number, document in enumerate(documents):
            size = documents.bytes_read[number]
            copy = found.copies.get(number)
            if copy is not None:
                facts: dict[str, object] = {"kept": copy.kept, "similarity": round(copy.similarity, 4)}
                self._drop(document, size, [Drop(copy.rule, "", copy.because)], facts)
                continue
            if number in cut:
                self._cut(document, cut[number], found.repeated[number])
            for split, part in plan.parts(number, document):
                self.writer.write(split, part)
            self.ledger.add_kept(document.source, size)
            self.on_progress()
        if self.settings.dedup.index:
            index_corpus(self.places.corpus, documents, staying, cut, self.settings.dedup)
        return plan.splits

    def contamination(self) -> dict[str, object]:
        """For each evaluation item that was found, the documents that hold it and where."""
        items: dict[str, list[dict[str, object]]] = {}
        for document, hits in self.hits:
            for names, begin, end, share, text in hits:
                fact = {"document": document, "begin": begin, "end": end, "share": share, "text": text}
                for name in names:
                    items.setdefault(name, []).append(fact)
        return {"items": dict(sorted(items.items())), "documents": len(self.hits)}

    def _cut(self, document: Document, text: str, repeated: Repeated) -> None:
        self.ledger.add_changes({REPEATED: len(document.text) - len(text)}, {})
        document.text = text
        document.metadata[REPEATED] = [
            {"begin": one.begin, "end": one.end, "document": self.survivors.ids[one.earlier]}
            for one in repeated.passages
        ]

    def _text(self, number: int) -> str:
        self.on_progress()
        return self.survivors.read(number).text

    def _drop(self, document: Document, size: int, drops: list[Drop], facts: Mapping[str, object]) -> None:
        first = drops[0]
        detail = f"{first.threshold}: {first.because}" if first.threshold else first.because
        told: dict[str, object] = {"reason": first.rule, "detail": detail, **facts}
        if len(drops) > 1:
            told["further_reasons"] = [f"{drop.name}: {drop.because}" for drop in drops[1:]]
        own = {f"{key}_" if key in told else key: value for key, value in document.metadata.items()}
        self.writer.write("dropped", Document(document.id, document.text, document.source, {**own, **told}))
        self.ledger.add_dropped(drops, document.id, document.text, size)
