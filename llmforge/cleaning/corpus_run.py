"""Documents in, a corpus out, in two passes: each document alone through the chain, then duplicates and splits.

The first pass judges what the workers measured, writes what is dropped and spills what passes; the second knows all
duplicates and writes the rest in the order it was read. Knows nothing of configs' files, run folders or terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from llmforge.cleaning.bad_rows import UNREADABLE
from llmforge.cleaning.decontaminate.match import Hit, by_item
from llmforge.cleaning.dedup.ahead import TextRuns
from llmforge.cleaning.dedup.keep import score_of
from llmforge.cleaning.dedup.substring import Repeated, without
from llmforge.cleaning.duplicates import REPEATED, Copy, RunsOf, earlier_corpora, find_duplicates, index_corpus
from llmforge.cleaning.ledger import Ledger
from llmforge.cleaning.parts import Entry, Measured, TextPlace
from llmforge.cleaning.pii.anonymize import Anonymize
from llmforge.cleaning.pii.match import Sealed
from llmforge.cleaning.pipeline import ChainSettings, Judge, num_bytes, signal_names, signature_width
from llmforge.cleaning.signal_store import SignalWriter
from llmforge.cleaning.splits import SplitPlan, SplitSettings, choose_splits, is_held_out, nothing_held_out
from llmforge.cleaning.survivors import Survivor, Survivors
from llmforge.cleaning.verdict import Drop, Rewrite
from llmforge.corpus.document import BadRow
from llmforge.corpus.folder import CorpusFormat, CorpusWriter, StoredDocument, StoredLine
from llmforge.corpus.row_documents import Arrivals, UniqueIds
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import OnBad

Arrived = tuple[SourceConfig, Path, list[Entry]]  # what was measured of a piece, and the part that its texts lie in


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run writes: the corpus in the making, and what is needed only until then; both are empty folders."""

    corpus: Path
    scratch: Path
    format: CorpusFormat
    shard_bytes: int
    level: int
    aside: bool = False  # the corpus is packed and written by a thread of its own


@contextmanager
def open_run(
    settings: ChainSettings, split: SplitSettings, places: Places, on_bad: OnBad, on_progress: Callable[[], None]
) -> Iterator[CorpusRun]:
    """A run that writes into `places`; its files are finished at the end of the `with`."""
    with (
        Survivors(places.scratch, signature_width(settings), settings.dedup) as survivors,
        CorpusWriter(places.corpus, places.shard_bytes, places.format, places.level, places.aside) as writer,
        closing(SignalWriter(places.corpus, signal_names(settings))) as signals,
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
    ids: UniqueIds = field(default_factory=UniqueIds)  # of all sources: what stands in one corpus has its own id
    hits: list[tuple[str, list[list[Any]]]] = field(default_factory=list)  # evaluation items by document

    def read(self, pieces: Iterable[Arrived], say: Callable[[str], None]) -> None:
        """The first pass, over what was measured of the input's pieces in their order; `say` gets notes to the user."""
        judge = Judge(self.settings)
        arrivals: dict[str, Arrivals] = {}
        for source, part, entries in pieces:
            known = arrivals.setdefault(source.label, Arrivals(source, self.ids))
            for entry in entries:
                if isinstance(entry, tuple):
                    self._refuse(*entry)
                    continue
                known.add(entry.document)
                self._sort(entry, part, judge)
            self.on_progress()
        for known in arrivals.values():
            for note in known.notes():
                say(note)

    def _refuse(self, row: BadRow, source: str) -> None:
        """A row that is no document: counted and kept by its place among the dropped."""
        self.on_bad(row)
        self.ledger.add_read(source, row.size)
        stored = StoredDocument(self.ids.claim(row.where), b'""', source, {}, 0)
        self._drop(stored, row.size, [Drop(UNREADABLE, "", row.reason)], {})

    def _sort(self, entry: Measured, part: Path, judge: Judge) -> None:
        document, size = entry.document, entry.bytes_read
        self.ledger.add_read(document.source, size)
        if entry.removed or entry.replaced:
            self.ledger.add_changes(entry.removed, entry.replaced)
        if entry.sealed:
            self.sealed.update(entry.sealed)
        if entry.hits:
            self.hits.append((document.id, entry.hits))
        if judge.classify is not None and entry.labels:
            document.metadata = beside(document.metadata, judge.classify.facts(entry.labels))
        if entry.language is not None:
            document.metadata.setdefault("language", entry.language[0])
        drops = judge.reasons(entry.is_blank, entry.language, entry.signals)
        if entry.labels and not entry.is_blank:
            text = partial(self.survivors.texts.text, part, entry.place)
            drops += judge.label_reasons(entry.labels, entry.telling, text)
        drops += entry.reasons
        self.signals.add(entry, drops)
        if drops:
            packed = self.survivors.texts.packed(part, entry.place)
            stored = StoredDocument(document.id, packed, document.source, document.metadata, entry.size)
            self._drop(stored, size, drops, {})
            return
        if entry.replaced:
            document.metadata = beside(document.metadata, {"anonymized": entry.replaced})
        self.survivors.add(entry, part, is_held_out(document.id, self.split), self._score(entry, judge))

    def _score(self, entry: Measured, judge: Judge) -> float:
        dedup = self.settings.dedup
        if dedup.keep != "score":
            return 0.0
        wanted = judge.classify.wanted(entry.labels) if judge.classify is not None and entry.labels else None
        return score_of(entry.document.metadata, wanted, dedup)

    def finish(self, runs_of: RunsOf | None = None) -> str | None:
        """The second pass: duplicates dropped, the others written. Returns what a person should know of the splits.

        `runs_of` as `find_duplicates` has it.
        """
        import numpy as np

        documents = self.survivors
        documents.flush()

        def runs(texts: Sequence[tuple[Path, TextPlace]], words: int) -> Future[TextRuns]:
            assert runs_of is not None, "it is not asked else"
            self.on_progress()
            return runs_of(texts, words)

        with earlier_corpora(self.settings.dedup, self.places.scratch, self._told_id()) as earlier:
            found = find_duplicates(documents, self.settings.dedup, earlier, self._text, runs if runs_of else None)
        stays = found.stays
        cut = {number: partial(self._left, number, one) for number, one in found.repeated.items() if one.cut}
        for number, text in cut.items():
            documents.sizes[number] = num_bytes(text())
        plan = choose_splits(documents.held_out, documents.sizes, np.flatnonzero(stays), self.split)
        for number, document in enumerate(documents):
            if stays[number]:
                self._keep(number, document, plan, found.repeated[number] if number in cut else None)
            else:
                self._drop_copy(document, found.copy(number))
            self.on_progress()
        if self.settings.dedup.index:
            index_corpus(self.places.corpus, documents, np.flatnonzero(stays), cut, self.settings.dedup)
        if not stays.any() or not self.split.valid_fraction or self.writer.documents["valid"]:
            return None
        return nothing_held_out([documents.id(number) for number in np.flatnonzero(stays).tolist()], self.split)

    def _keep(self, number: int, document: Survivor, plan: SplitPlan, repeated: Repeated | None) -> None:
        stored: StoredDocument | StoredLine
        if repeated is not None:
            stored = self._cut(number, document, repeated)
        else:
            stored = document.stored(self.survivors.packed_text(document))
        if number == plan.cut:
            for split, part in plan.parts(stored.document()):
                part.id = part.id if part.id == document.id else self.ids.claim(part.id)
                self.writer.write(split, part)
        else:
            self.writer.write_stored(plan.split(number), stored)
        self.ledger.add_kept(document.source, document.bytes_read)

    def _drop_copy(self, document: Survivor, copy: Copy) -> None:
        text = self.survivors.packed_text(document)
        stored = StoredDocument(document.id, text, document.source, document.metadata, document.size)
        facts: dict[str, object] = {"kept": copy.kept, "similarity": round(copy.similarity, 4)}
        self._drop(stored, document.bytes_read, [Drop(copy.rule, "", copy.because)], facts)

    def contamination(self) -> dict[str, object]:
        """For each evaluation item that was found, the documents that hold it and where."""
        found = by_item((document, [Hit(tuple(hit[0]), *hit[1:]) for hit in hits]) for document, hits in self.hits)
        return {"items": dict(sorted(found.items())), "documents": len(self.hits)}

    def _cut(self, number: int, document: Survivor, repeated: Repeated) -> StoredDocument:
        """Takes the repeated passages out and writes down which."""
        import orjson

        text = self._left(number, repeated)
        removed = sum(end - begin for begin, end in repeated.cut)
        self.ledger.add_changes({REPEATED: removed}, {})
        passages = [
            {"begin": one.begin, "end": one.end, "document": self.survivors.id(one.earlier)}
            for one in repeated.passages
        ]
        metadata = beside(document.metadata, {REPEATED: passages})
        size = self.survivors.sizes[number]
        return StoredDocument(document.id, orjson.dumps(text), document.source, metadata, size)

    def _left(self, number: int, repeated: Repeated) -> str:
        """A document's text without its repeated passages."""
        return without(self.survivors.text(number), repeated.cut)

    def _told_id(self) -> Callable[[str], str]:
        """What hides personal data in the ids of earlier corpora, which may have been made without."""
        settings = self.settings.anonymize
        if settings is None or not settings.metadata or not self.settings.dedup.against:
            return str
        anonymize = Anonymize(settings, self.settings.key)

        def told(identity: str) -> str:
            verdict = anonymize.hidden(identity)
            if not isinstance(verdict, Rewrite):
                return identity
            self.sealed.update(verdict.sealed)
            return verdict.text

        return told

    def _text(self, number: int) -> str:
        self.on_progress()
        return self.survivors.text(number)

    def _drop(self, document: StoredDocument, size: int, drops: list[Drop], facts: Mapping[str, object]) -> None:
        first = drops[0]
        detail = f"{first.threshold}: {first.because}" if first.threshold else first.because
        told: dict[str, object] = {"reason": first.rule, "detail": detail, **facts}
        if len(drops) > 1:
            told["further_reasons"] = [f"{drop.name}: {drop.because}" for drop in drops[1:]]
        self.writer.write_stored("dropped", replace(document, metadata=beside(document.metadata, told)))
        self.ledger.add_dropped(drops, document.id, lambda: document.document().text, size)


def beside(own: Mapping[str, object], told: Mapping[str, object]) -> dict[str, object]:
    """A row's own fields with what is told of it; own ones of the same name get "_" behind theirs."""
    fields: dict[str, object] = {}
    for key, value in own.items():
        name = key
        while name in told or (name != key and name in own):
            name += "_"
        fields[name] = value
    return {**fields, **told}
