"""Documents in, a corpus out, in two passes: each document alone through the chain, then duplicates and splits.

The first pass writes what is dropped and spills what passes; the second knows all near duplicates and writes the
rest in the order it was read. Knows nothing of configs' files, run folders or terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmforge.cleaning.dedup.exact import ExactIndex
from llmforge.cleaning.pipeline import ChainSettings, Outcome
from llmforge.cleaning.report import Ledger
from llmforge.cleaning.splits import SplitSettings, choose_splits
from llmforge.cleaning.survivors import Survivors
from llmforge.cleaning.verdict import Drop
from llmforge.cleaning.workers import clean_batches
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.folder import CorpusWriter, Split

BATCH_BYTES = 512 << 10
BATCH_DOCUMENTS = 2048
_HASH_BYTES = 4

Batch = list[tuple[Document, int]]  # documents with the UTF-8 bytes of their text as read
OnProgress = Callable[[int, int], None]


@dataclass(slots=True)
class CorpusRun:
    """One run: `writer` gets the documents, `survivors` holds them in between, `ledger` counts them."""

    settings: ChainSettings
    split: SplitSettings
    writer: CorpusWriter
    survivors: Survivors
    ledger: Ledger
    on_progress: OnProgress  # (bytes, documents) done since the last call; may raise to stop

    def read(self, documents: Iterator[Document], workers: int) -> None:
        """The first pass: the chain on every document, and exact duplicates."""
        exact = ExactIndex()
        near = self.settings.near
        width = near.bands * near.rows * _HASH_BYTES if near is not None else 0
        for batch, result in clean_batches(_batches(documents), _texts, self.settings, workers):
            kept = 0
            for (document, size), outcome in zip(batch, result.outcomes, strict=True):
                self.ledger.add_read(document.source, size)
                self.ledger.add_changes(outcome.changed, outcome.replaced)
                document.text = outcome.text
                signature = b""
                if outcome.drop is None:
                    signature = result.signatures[kept * width : (kept + 1) * width]
                    kept += 1
                self._sort(document, size, outcome, signature, exact)
            self.on_progress(sum(size for _, size in batch), len(batch))

    def refuse(self, row: BadRow, source: str) -> None:
        """A row that is no document: counted and kept by its place among the dropped."""
        self.ledger.add_read(source, row.size)
        self._drop(Document(row.where, "", source, {}), row.size, Drop("unreadable", "", row.reason), {})

    def finish(self) -> dict[int, Split]:
        """The second pass: near duplicates dropped, the others written; returns the split of each that stays."""
        self.survivors.flush()
        near: dict[int, tuple[int, float]] = {}
        if self.settings.near is not None:
            from llmforge.cleaning.dedup.near import find_near_duplicates

            found = self.survivors.signatures()
            same = find_near_duplicates(found, self.survivors.sizes, self._text, self.settings.near)
            near = {number: (match.kept, match.similarity) for number, match in same.items()}
        staying = [number for number in range(len(self.survivors)) if number not in near]
        plan = choose_splits(self.survivors.ids, self.survivors.sizes, staying, self.split)
        for number, document in enumerate(self.survivors):
            size = self.survivors.bytes_read[number]
            if number in near:
                self._drop_near(document, size, *near[number])
                continue
            for split, part in plan.parts(number, document):
                self.writer.write(split, part)
            self.ledger.add_kept(document.source, size)
            self.on_progress(0, 0)
        return plan.splits

    def _text(self, number: int) -> str:
        self.on_progress(0, 0)
        return self.survivors.read(number).text

    def _sort(self, document: Document, size: int, outcome: Outcome, signature: bytes, exact: ExactIndex) -> None:
        if outcome.drop is not None:
            self._drop(document, size, outcome.drop, {})
            return
        if outcome.exact_key is not None:
            earlier = exact.first(outcome.exact_key, len(self.survivors))
            if earlier is not None:
                kept = self.survivors.ids[earlier]
                drop = Drop("exact_duplicate", "", f"it is the same text as {kept}")
                self._drop(document, size, drop, {"kept": kept, "similarity": 1.0})
                return
        if outcome.replaced:
            document.metadata["anonymized"] = outcome.replaced
        self.survivors.add(document, size, signature)

    def _drop_near(self, document: Document, size: int, kept_number: int, similarity: float) -> None:
        kept = self.survivors.ids[kept_number]
        because = f"{similarity:.1%} of its runs of words and those of {kept} are shared"
        facts: dict[str, object] = {"kept": kept, "similarity": round(similarity, 4)}
        self._drop(document, size, Drop("near_duplicate", "", because), facts)

    def _drop(self, document: Document, size: int, drop: Drop, facts: dict[str, object]) -> None:
        detail = f"{drop.threshold}: {drop.because}" if drop.threshold else drop.because
        facts = {"reason": drop.rule, "detail": detail, **facts}
        own = {f"{key}_" if key in facts else key: value for key, value in document.metadata.items()}
        self.writer.write("dropped", Document(document.id, document.text, document.source, {**own, **facts}))
        self.ledger.add_dropped(drop, document.id, document.text, size)


def _texts(batch: Batch) -> list[str]:
    return [document.text for document, _ in batch]


def _batches(documents: Iterator[Document]) -> Iterator[Batch]:
    batch: Batch = []
    size = 0
    for document in documents:
        own = len(document.text.encode("utf-8", "surrogatepass"))
        batch.append((document, own))
        size += own
        if size >= BATCH_BYTES or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def open_survivors(folder: Path, settings: ChainSettings) -> Survivors:
    """The spill of a run in `folder`, wide enough for its signatures."""
    near = settings.near
    return Survivors(folder, near.bands * near.rows if near is not None else 0)
