"""Pieces of the input to parts on disk, in this process or in several, answered in the order of the input.

A worker reads its own piece, so that a huge file and slow formats are shared among all. Processes are spawned, not
forked, so that no thread or lock of the parent is copied; they end when the parent ends, however it ends. What a piece
gives depends on nothing but the piece and the settings.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from llmforge.cleaning.parts import SUFFIX, Entry, Measured, read_part, write_part
from llmforge.cleaning.pipeline import Chain, ChainSettings, num_bytes
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.unit_kinds import Unit
from llmforge.corpus.units import plan_units, read_unit
from llmforge.errors import MachineError

PIECE_BYTES = 2 << 20

# One thread in each worker: the workers are the parallelism.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Piece:
    """Units of one source that are read together and make one part; `key` says what they hold."""

    source: SourceConfig
    units: tuple[Unit, ...]

    @property
    def key(self) -> str:
        """A digest of what would be read."""
        state = hashlib.sha256(self.source.model_dump_json().encode())
        for unit in self.units:
            state.update(f"\0{unit.key}".encode())
        return state.hexdigest()

    @property
    def bytes(self) -> int:
        """As they lie in the input."""
        return sum(unit.bytes for unit in self.units)


def plan_pieces(sources: Iterable[SourceConfig], on_note: Callable[[str], None]) -> Iterator[Piece]:
    """The input in order, as pieces of about PIECE_BYTES; the same for any number of workers."""
    for source in sources:
        units: list[Unit] = []
        size = 0
        for unit in plan_units(source, on_note, forgiving=True):
            if units and size + unit.bytes > PIECE_BYTES:
                yield Piece(source, tuple(units))
                units, size = [], 0
            units.append(unit)
            size += unit.bytes
        if units:
            yield Piece(source, tuple(units))


class PieceCleaner:
    """Pieces to parts in `folder`, by one chain."""

    def __init__(self, settings: ChainSettings, folder: Path) -> None:
        self._folder = folder
        self._chain = Chain(settings)
        self._digest = settings.measured()
        self._near, self._substring = settings.dedup.near, settings.dedup.substring

    def path(self, piece: Piece) -> Path:
        """Where the part of a piece lies, made or not."""
        key = hashlib.sha256(f"{self._digest}\0{piece.key}".encode()).hexdigest()[:32]
        return self._folder / f"{key}{SUFFIX}"

    def make(self, piece: Piece, path: Path) -> None:
        """Reads a piece, measures its documents and writes the part."""
        found = [row for unit in piece.units for row in read_unit(unit, piece.source, forgiving=True)]
        documents = [row for row in found if isinstance(row, Document)]
        measured = self._measured(documents)
        entries: list[Entry] = [
            (row, piece.source.label) if isinstance(row, BadRow) else next(measured) for row in found
        ]
        write_part(path, entries)

    def _measured(self, documents: Sequence[Document]) -> Iterator[Measured]:
        from llmforge.cleaning.dedup.exact import exact_key

        sizes = [num_bytes(document.text) for document in documents]
        seen = self._chain.examine_all([document.text for document in documents])
        signatures = self._signatures([one.text for one in seen])
        for document, size, one, signature in zip(documents, sizes, seen, signatures, strict=True):
            document.text = one.text
            anchors, count = self._anchors(one.text)
            yield Measured(
                document,
                size,
                exact_key=exact_key(one.text),
                language=list(one.language) if one.language is not None else None,
                signals=one.signals,
                removed=one.removed,
                replaced=one.replaced,
                reasons=one.reasons,
                sealed=one.sealed,
                facts=one.facts,
                hits=one.hits,
                signature=signature,
                anchors=anchors,
                num_anchors=count,
            )

    def _signatures(self, texts: Sequence[str]) -> list[bytes]:
        if self._near is None:
            return [b""] * len(texts)
        from llmforge.cleaning.dedup.near import signatures

        return [row.tobytes() for row in signatures(texts, self._near)]

    def _anchors(self, text: str) -> tuple[bytes, int]:
        if self._substring is None:
            return b"", 0
        from llmforge.cleaning.dedup.substring import anchors

        found = anchors(text, self._substring)
        return found.tobytes(), len(found)


_cleaner: PieceCleaner | None = None  # one in each worker process


def _start(settings: ChainSettings, folder: Path) -> None:
    global _cleaner
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    _cleaner = PieceCleaner(settings, folder)


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(piece: Piece, path: Path) -> None:
    assert _cleaner is not None, "the worker was started by _start"
    _cleaner.make(piece, path)


def clean_pieces(
    pieces: Iterable[Piece], settings: ChainSettings, folder: Path, workers: int
) -> Iterator[tuple[Piece, Path, list[Entry]]]:
    """(piece, its part, the part's entries) in order; what lies in `folder` from an earlier run is not made again.

    Raises:
        MachineError: a worker process was killed, most often for want of memory; or the disk is full.
    """
    cleaner = PieceCleaner(settings, folder)
    if workers <= 1:
        for piece in pieces:
            path = cleaner.path(piece)
            entries = read_part(path)
            if entries is None:
                cleaner.make(piece, path)
            yield piece, path, entries if entries is not None else _made(path)
        return
    yield from _in_processes(pieces, cleaner, _Pool(settings, folder, workers))


def _made(path: Path) -> list[Entry]:
    entries = read_part(path)
    if entries is None:
        raise MachineError("what was just written cannot be read", path, "check the disk")
    return entries


class _Pool:
    """Worker processes, started when the first piece has to be made."""

    def __init__(self, settings: ChainSettings, folder: Path, workers: int) -> None:
        self.workers = workers
        self._arguments = (settings, folder)
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, piece: Piece, path: Path) -> Future[None]:
        if self._pool is None:
            import multiprocessing

            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_start, initargs=self._arguments
            )
        return self._pool.submit(_work, piece, path)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _in_processes(
    pieces: Iterable[Piece], cleaner: PieceCleaner, pool: _Pool
) -> Iterator[tuple[Piece, Path, list[Entry]]]:
    waiting: deque[tuple[Piece, Path, Future[None] | None]] = deque()
    try:
        for piece in pieces:
            path = cleaner.path(piece)
            # A part from an earlier run is read when its turn comes; one that is broken is made then.
            waiting.append((piece, path, None if path.exists() else pool.submit(piece, path)))
            while len(waiting) > 2 * pool.workers:
                yield _answer(waiting.popleft(), cleaner)
        while waiting:
            yield _answer(waiting.popleft(), cleaner)
    except BrokenProcessPool as error:
        hint = "give fewer workers, or leave more memory to them"
        raise MachineError("a worker process was killed", "workers", hint) from error
    finally:
        pool.close()


def _answer(waiting: tuple[Piece, Path, Future[None] | None], cleaner: PieceCleaner) -> tuple[Piece, Path, list[Entry]]:
    piece, path, future = waiting
    if future is not None:
        future.result()
        return piece, path, _made(path)
    entries = read_part(path)
    if entries is None:
        cleaner.make(piece, path)
        entries = _made(path)
    return piece, path, entries


def available_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
