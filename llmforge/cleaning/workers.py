"""Pieces of the input to parts on disk, in this process or in several, answered in the order of the input.

A worker reads its own piece, so that a huge file and slow formats are shared among all. Processes end when the parent
ends, however it ends. What a piece gives depends on nothing but the piece and the settings.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from llmforge.cleaning.dedup.ahead import TextRuns
from llmforge.cleaning.duplicates import RunsOf
from llmforge.cleaning.part_texts import PartTexts
from llmforge.cleaning.parts import Entry, Measured, TextPlace, read_part, write_part
from llmforge.cleaning.pieces import Piece, Stretch
from llmforge.cleaning.pipeline import Chain, ChainSettings, num_bytes
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.unit_reading import read_unit
from llmforge.errors import MachineError
from llmforge.runtime.waiting import result_of, shut_down
from llmforge.runtime.worker_process import begin_worker, load_with_one_thread, one_thread, worker_context


class PieceCleaner:
    """Pieces to parts, by one chain; `pack` makes them small, which is for parts that are to be kept."""

    def __init__(self, settings: ChainSettings, pack: bool) -> None:
        self._pack = pack
        self._chain = Chain(settings)
        self._near, self._substring = settings.dedup.near, settings.dedup.substring

    def make(self, piece: Piece) -> list[Entry]:
        """Reads a piece, measures its documents and writes the part; what it gives is as `read_part` reads it."""
        found = [row for unit in piece.units for row in read_unit(unit, piece.source, forgiving=True)]
        documents = [row for row in found if isinstance(row, Document)]
        found_of = self._measured(documents, piece.source.id_key)
        label, fields = piece.source.label, self._chain.fields
        entries: list[Entry] = [
            (fields.refused(row) if fields is not None else row, label) if isinstance(row, BadRow) else next(found_of)
            for row in found
        ]
        measured = [entry for entry in entries if isinstance(entry, Measured)]
        for entry, place in zip(measured, write_part(piece.path, entries, self._pack), strict=True):
            entry.document.text, entry.json, entry.place = "", b"", place
        return entries

    def _measured(self, documents: Sequence[Document], id_key: str | None) -> Iterator[Measured]:
        import orjson

        from llmforge.cleaning.dedup.exact import exact_key

        seen = self._chain.examine_all([document.text for document in documents])
        packed = [orjson.dumps(one.text) for one in seen]  # leaves the UTF-8 in the string, which others ask for
        traces = self._traces([one.text for one in seen])
        for document, json, one, (signature, anchors, count) in zip(documents, packed, seen, traces, strict=True):
            size = num_bytes(one.text)
            # A document of its own: the one that was read may have to be measured again.
            written = Document(document.id, one.text, document.source, dict(document.metadata))
            if self._chain.fields is not None:
                hidden = self._chain.fields(document, id_key)
                written.id, written.metadata = hidden.id, hidden.metadata
                one.add_replaced(hidden.counts, hidden.sealed)
            yield Measured(
                written,
                size if one.text is document.text else num_bytes(document.text),
                size,
                not one.text or one.text.isspace(),
                exact_key=exact_key(one.text),
                language=list(one.language) if one.language is not None else None,
                signals=one.signals,
                removed=one.removed,
                replaced=one.replaced,
                reasons=one.reasons,
                sealed=one.sealed,
                labels=one.labels,
                telling=one.telling,
                hits=one.hits,
                signature=signature,
                anchors=anchors,
                num_anchors=count,
                json=json,
            )

    def _traces(self, texts: Sequence[str]) -> Iterator[tuple[bytes, bytes, int]]:
        """For each text its signature, its anchors and how many these are, of words that are numbered once."""
        near, substring = self._near, self._substring
        if near is None and substring is None:
            yield from ((b"", b"", 0) for _ in texts)
            return
        from llmforge.cleaning.dedup.anchors import anchors_of_words
        from llmforge.cleaning.dedup.near import signatures_of_words
        from llmforge.cleaning.dedup.shingles import flat_word_hashes

        words, starts = flat_word_hashes(texts)
        rows = signatures_of_words(words, starts, near) if near is not None else None
        for place in range(len(texts)):
            signature = rows[place].tobytes() if rows is not None else b""
            if substring is None:
                yield signature, b"", 0
                continue
            found = anchors_of_words(words[starts[place] : starts[place + 1]], substring)
            yield signature, found.tobytes(), len(found)


_settings: tuple[ChainSettings, bool] | None = None  # of a worker process: the chain's, and whether parts are packed
_texts = PartTexts()
_cleaner: PieceCleaner | None = None  # its chain, built at the first piece: there an error reaches the parent as it is


def _start(settings: ChainSettings, pack: bool) -> None:
    global _settings
    begin_worker()
    one_thread()
    _settings = settings, pack


def _work(piece: Piece) -> None:
    global _cleaner
    if _cleaner is None:
        assert _settings is not None, "the worker was started by _start"
        _cleaner = PieceCleaner(*_settings)
    _cleaner.make(piece)


def _runs(texts: Sequence[tuple[Path, TextPlace]], words: int) -> TextRuns:
    """The different runs of words of texts that lie in parts, one behind the other, and how many each has."""
    import numpy as np

    from llmforge.cleaning.dedup.shingles import shingle_hashes

    found = [shingle_hashes(_texts.text(part, place), words) for part, place in texts]
    return np.concatenate(found), list(map(len, found))


@dataclass(frozen=True)
class Made:
    """A part that is there. `source` is where its documents come from, `bytes` the progress in the input."""

    source: SourceConfig
    path: Path
    bytes: int
    _again: Callable[[], object]
    _known: list[Entry] | None = None  # what this process has just written

    def entries(self) -> list[Entry]:
        """What is in it, texts left where they are; one that was broken since is made again.

        Raises:
            MachineError: the disk does not keep what is written.
        """
        if self._known is not None:
            return self._known
        found = read_part(self.path)
        if found is None:
            self._again()
            found = read_part(self.path)
        if found is None:
            raise MachineError("what was just written cannot be read", self.path, "check the disk")
        return found


def make_parts(stretches: Iterable[Stretch], workers: Workers) -> Iterator[Made]:
    """The parts of the input in order, each when it is there; what lies there from an earlier run is not made again.

    Raises:
        MachineError: a worker process was killed, most often for want of memory; or the disk is full.
    """
    waiting: deque[_Waiting] = deque()
    try:
        for stretch in stretches:
            for item in _planned(stretch, workers):
                waiting.append(item)
                while len(waiting) > workers.ahead:
                    yield from waiting.popleft().made()
        while waiting:
            yield from waiting.popleft().made()
    except BrokenProcessPool as error:
        hint = "give fewer workers, or leave more memory to them"
        raise MachineError("a worker process was killed", "workers", hint) from error


def _planned(stretch: Stretch, workers: Workers) -> Iterator[_Waiting]:
    paths = stretch.finished()
    if paths is not None:
        for place, path in enumerate(paths):
            size = stretch.bytes if place == len(paths) - 1 else 0
            yield _Waiting(Made(stretch.source, path, size, partial(_remake, stretch, path, workers)))
        return
    workers.begin()  # before a library that reads the input may start a thread here
    made: list[Path] = []
    for piece in stretch.pieces():
        made.append(piece.path)
        work = None if piece.path.is_file() else workers.submit(piece)
        size = sum(unit.bytes for unit in piece.units)
        known, future = (work, None) if isinstance(work, list) else (None, work)
        yield _Waiting(Made(piece.source, piece.path, size, partial(workers.here, piece), known), future)
    yield _Waiting(finish=partial(stretch.finish, made))


def _remake(stretch: Stretch, path: Path, workers: Workers) -> None:
    """A part of a stretch that was thought finished: the input is read again up to it."""
    for piece in stretch.pieces():
        if piece.path == path:
            workers.here(piece)
            return


@dataclass(frozen=True)
class _Waiting:
    """A part on its way, or the end of a stretch."""

    part: Made | None = None
    future: Future[None] | None = None
    finish: Callable[[], None] | None = None

    def made(self) -> Iterator[Made]:
        if self.future is not None:
            result_of(self.future)
        if self.part is not None:
            yield self.part
        if self.finish is not None:
            self.finish()


class Workers:
    """Worker processes, started when the first piece is to be made; with one worker, this process. A context manager.

    `pack` makes parts small, which takes time and pays for parts that are kept.
    """

    def __init__(self, settings: ChainSettings, workers: int, pack: bool = True) -> None:
        self._settings, self._workers, self._pack = settings, workers, pack
        self.ahead = 2 * workers if workers > 1 else 0  # pieces that are begun before the first is asked for
        self._pool: ProcessPoolExecutor | None = None
        self._cleaner: PieceCleaner | None = None

    def submit(self, piece: Piece) -> Future[None] | list[Entry]:
        """The work in another process, or what came of it here."""
        if self._workers <= 1:
            return self.here(piece)
        self.begin()
        assert self._pool is not None, "there are several workers"
        return self._pool.submit(_work, piece)

    def begin(self) -> None:
        """Starts the processes, if there are to be some and they are not there."""
        if self._workers > 1 and self._pool is None:
            context = worker_context()
            self._pool = ProcessPoolExecutor(self._workers, context, _start, (self._settings, self._pack))
            if context.get_start_method() == "fork":
                self._pool.submit(os.getpid)  # a pool starts its processes when something is to be done

    def here(self, piece: Piece) -> list[Entry]:
        """The work in this process."""
        if self._cleaner is None:
            self._cleaner = PieceCleaner(self._settings, self._pack)
        return self._cleaner.make(piece)

    @property
    def runs_of(self) -> RunsOf | None:
        """What makes the runs of words of texts in parts; None when no worker was started."""
        pool = self._pool
        return None if pool is None else lambda texts, words: pool.submit(_runs, texts, words)

    def __enter__(self) -> Workers:
        if self._workers > 1:
            load_with_one_thread(_libraries(self._settings))
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            shut_down(self._pool)


def _libraries(settings: ChainSettings) -> list[str]:
    """What every worker loads."""
    found = ["numpy", "orjson", "xxhash", "zstandard", "llmforge.cleaning.dedup.exact"]
    if settings.repair is not None:
        found.append("ftfy")
    if settings.dedup.near is not None:
        found += ("rensa", "llmforge.cleaning.dedup.near")
    return found


def available_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
