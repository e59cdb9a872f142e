"""A command with all processes that it started, however deep and in whatever session: found, and killed at once.

Made for those who kill on purpose (`verify-resume`): SIGKILL for a launcher alone would leave its ranks running.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Protocol


class Process(Protocol):
    """What must be known of a process: `subprocess.Popen` is one."""

    @property
    def pid(self) -> int:
        """Its number."""

    def wait(self, timeout: float | None = None) -> int:
        """Fetches its exit code, so that it is no zombie."""


_PROC = Path("/proc")
_POLL_SECONDS = 0.005
_STOPPED = ("T", "t")
_DEAD = ("Z", "X")  # a zombie runs no more and holds no lock, whoever may fetch it


def _table() -> dict[int, tuple[int, str]]:
    """Every process: its parent and its state's letter."""
    found: dict[int, tuple[int, str]] = {}
    if (_PROC / "self" / "stat").exists():
        for path in _PROC.glob("[0-9]*"):
            try:
                # The name in brackets may hold spaces and brackets of its own.
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[int(path.name)] = (int(fields[1]), fields[0])
        return found
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        pid, parent, state = line.split()[:3]
        found[int(pid)] = (int(parent), state[0])
    return found


def descendants(pid: int) -> list[int]:
    """The living processes that `pid` started, and theirs, nearest first."""
    return _below(pid, _table())


def stopped_below(pid: int) -> list[int]:
    """Those of them that are stopped (SIGSTOP, a debugger) and do nothing until they are let go on."""
    table = _table()
    return [child for child in _below(pid, table) if table[child][1] in _STOPPED]


def _below(pid: int, table: dict[int, tuple[int, str]]) -> list[int]:
    found, front = [], [pid]
    while front:
        front = [child for child, (parent, state) in table.items() if parent in front and state not in _DEAD]
        found += front
    return found


def _alive(pid: int, table: dict[int, tuple[int, str]]) -> bool:
    return pid in table and table[pid][1] not in _DEAD


def kill_tree(process: Process, seconds: float = 30.0) -> int:
    """SIGKILL to a process and all below it; returns how many were killed when none of them runs any more.

    Raises:
        TimeoutError: one is still there after `seconds`, as a process in an uninterruptible wait is.
    """
    # Stopped first, so that it starts nothing between the look and the kill.
    _send(process.pid, signal.SIGSTOP)
    targets = [process.pid, *descendants(process.pid)]
    for pid in targets:
        _send(pid, signal.SIGKILL)
    process.wait(seconds)
    end = time.monotonic() + seconds
    while any(_alive(pid, _table()) for pid in targets[1:]):
        if time.monotonic() > end:
            raise TimeoutError(f"processes {targets} do not end")
        time.sleep(_POLL_SECONDS)
    return len(targets)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
