"""Who owns a run folder, asked by those that do not run in it: the lock of `RunFolder`, probed or held for a moment."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmforge.errors import BusyError, UsageError

UNREADABLE = "perhaps a process of another user: its lock may not be read"
LOCK = ".lock"


def owner_of(folder: Path) -> str | None:
    """Who works in a run folder now; None: nobody. UNREADABLE: the lock is another user's and does not say.

    A shared lock is asked for and let go at once: a run that starts while somebody looks must not be refused.
    """
    try:
        # Shared, since over a network a lock on a file that is open for reading only may not be exclusive (flock(2)).
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except PermissionError:
        return UNREADABLE
    except OSError:  # never run
        return None
    try:
        return _other(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else can take a run folder for the time of the `with`; without a lock in it nobody has run there.

    Raises:
        BusyError: another process works in it.
        UsageError: this user may not write in it.
    """
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except PermissionError as error:
        raise UsageError("the run folder may not be written", folder, "it belongs to another user") from error
    except OSError:  # never run, or a read-only disk, which the first write names
        yield
        return
    try:
        owner = _other(handle, fcntl.LOCK_EX)
        if owner is not None:
            raise BusyError(f"the run folder is in use by {owner}", folder, "do this when that has ended")
        yield
    finally:
        os.close(handle)


def _other(handle: int, kind: int) -> str | None:
    """Takes the lock, or says who has it."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        return os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
    return None
