"""Reads every byte of token folders in the background of a run and compares it with the manifests.

Opening a folder checks sizes and headers only, since hashing a terabyte takes longer than a run may wait. This goes on
beside the training; what it finds stops the run at the next step. Behind the first pass it looks every few seconds
whether a file has another size or time, and reads it again if so.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from llmforge.errors import DamagedError
from llmforge.runtime.manifest import read_manifest

T = TypeVar("T")
_BLOCK = 4 << 20  # hashlib lets other threads run meanwhile
LOOK_AGAIN_SECONDS = 5.0


class BackgroundCheck:
    """SHA-256 of all files of some tokens folders, file after file in a thread of its own."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Raises DamagedError at once when a file is missing or has another size."""
        self._files = [
            (folder / name, digest)
            for folder in dict.fromkeys(folders)
            for name, (digest, _) in sorted(read_manifest(folder, "tokens").files.items())
        ]
        self.checked = 0
        self._found: DamagedError | None = None
        self._asked_to_end, self._through = threading.Event(), threading.Event()
        self._seen: dict[Path, tuple[int, int]] = {}
        self._thread = threading.Thread(target=self._work, name="llmforge-digests", daemon=True)

    @property
    def files(self) -> int:
        """Files in all."""
        return len(self._files)

    def __enter__(self) -> BackgroundCheck:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._asked_to_end.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._first_pass()
        finally:
            self._through.set()
        while self._found is None and not self._asked_to_end.wait(LOOK_AGAIN_SECONDS):
            for path, expected in self._files:
                if not self._is_whole(path, expected, only_changed=True):
                    return

    def _first_pass(self) -> None:
        for path, expected in self._files:
            if not self._is_whole(path, expected):
                return
            self.checked += 1

    def _is_whole(self, path: Path, expected: str, only_changed: bool = False) -> bool:
        """Reads a file; False when it is not what it was, which is noted, or when the work is to end."""
        try:
            facts = os.stat(path)
            now = (facts.st_size, facts.st_mtime_ns)
            if only_changed and self._seen.get(path) == now:
                return True
            found = self._digest(path)
        except OSError as error:
            self._found = DamagedError(f"the file cannot be read: {error.strerror}", path)
            return False
        if found is not None and found != expected:
            what = "the file was changed: its SHA-256 differs from the manifest's"
            self._found = DamagedError(what, path, "run llmforge tokenize again")
        self._seen[path] = now
        return found == expected

    def _digest(self, path: Path) -> str | None:
        state = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                state.update(block)
                if self._asked_to_end.is_set():
                    return None
        return state.hexdigest()

    def look(self) -> None:
        """Raises DamagedError when a file was found that is not what was written; the line names it."""
        if self._found is not None:
            raise self._found

    def finish(self, patience: float) -> bool:
        """Waits up to `patience` seconds for the rest; whether every file was checked.

        Raises:
            DamagedError: as `look`.
        """
        self._through.wait(patience)
        self.look()
        return self.checked == len(self._files)

    def watched(self, batches: Callable[[int], T]) -> Callable[[int], T]:
        """`batches`, which raises at the first step after something was found."""

        def watched(step: int) -> T:
            self.look()
            return batches(step)

        return watched
