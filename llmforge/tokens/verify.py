"""Reads every byte of token folders in the background of a run and compares it with the manifests.

Opening a folder checks sizes and headers only, since hashing a terabyte takes longer than a run may wait. This goes on
beside the training; what it finds stops the run at the next step.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from llmforge.errors import DamagedError
from llmforge.runtime.manifest import read_manifest

T = TypeVar("T")
_BLOCK = 4 << 20  # hashlib lets other threads run meanwhile


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
        self._asked_to_end = threading.Event()
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
        for path, expected in self._files:
            try:
                found = self._digest(path)
            except OSError as error:
                self._found = DamagedError(f"the file cannot be read: {error.strerror}", path)
                return
            if found is None:
                return
            if found != expected:
                what = "the file was changed: its SHA-256 differs from the manifest's"
                self._found = DamagedError(what, path, "run llmforge tokenize again")
                return
            self.checked += 1

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
        self._thread.join(patience)
        self.look()
        return self.checked == len(self._files)

    def watched(self, batches: Callable[[int], T]) -> Callable[[int], T]:
        """`batches`, which raises at the first step after something was found."""

        def watched(step: int) -> T:
            self.look()
            return batches(step)

        return watched
