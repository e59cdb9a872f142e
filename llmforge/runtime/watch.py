"""Who of a group does not answer: every process gives a sign of life, and says what it is doing when one is missed.

A thread of each process counts up a number in the group's store (the one that torchrun or rank 0 hosts). When a
collective fails, `Watch.blame` looks who has stopped counting (killed, or stopped as by SIGSTOP) and raises the alarm:
then every process that still can writes the stacks of all its threads into a file, the hanging one among them. Knows
no model and no data.
"""

from __future__ import annotations

import faulthandler
import json
import os
import platform
import threading
import time
import traceback
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from torch._C._distributed_c10d import PrefixStore, TCPStore

from llmforge.runtime.launch import MEETING, process_state

_BEATS_A_TIMEOUT = 20
_SLOWEST_BEAT = 1.0  # seconds
# beats without a sign of life that are too many
_MISSED = 5
_STORE_TIMEOUT = timedelta(seconds=10)
_STATES = {"T": "is stopped (SIGSTOP)", "t": "is stopped by a debugger", "Z": "has ended", "D": "waits for a disk"}


def open_store(name: str, timeout: timedelta) -> PrefixStore:
    """A connection to the store that the processes share, in a part of its own for this attempt of this group.

    torch's agent keeps one store over restarts, and a restarted gloo group that finds the addresses of the one before
    it does not come up (torch 2.13).
    """
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timeout)
    # torchrun has no name for a start, only its count of them
    attempt = os.environ.get(MEETING) or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"llmforge/{attempt}/{name}", store)


class Watch:
    """The signs of life of one process, `rank` of `size`; `stacks` is the folder for what it was doing."""

    def __init__(self, rank: int, size: int, timeout_seconds: float, stacks: Path) -> None:
        self.rank, self.size, self.stacks = rank, size, stacks
        self.beat_seconds = min(_SLOWEST_BEAT, timeout_seconds / _BEATS_A_TIMEOUT)
        # A connection of its own: the group's waits inside the store would hold up the signs of life.
        self._store = open_store("signs of life", _STORE_TIMEOUT)
        self._ended = threading.Event()
        self._dumped = threading.Event()
        self._count = 0
        self._beat()
        self._thread = threading.Thread(target=self._run, name="signs of life", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self._thread.join(timeout=self.beat_seconds + 1)

    def _beat(self) -> None:
        self._count += 1
        self._store.set(f"beat/{self.rank}", json.dumps([self._count, os.getpid(), platform.node()]))

    def _run(self) -> None:
        while not self._ended.wait(self.beat_seconds):
            try:
                self._beat()
                if self._store.check(["alarm"]):
                    self.dump()
            except (RuntimeError, OSError):
                return  # the store is gone, and with it the group

    def dump(self, error: BaseException | None = None) -> Path:
        """Writes where `error` came from and the stacks of all threads of this process, once; returns the file."""
        path = self.stacks / f"rank-{self.rank}.txt"
        if not self._dumped.is_set():
            self._dumped.set()
            self.stacks.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as stream:
                stream.write(f"rank {self.rank} of {self.size}, pid {os.getpid()} on {platform.node()}\n")
                if error is not None:
                    stream.write("waited in vain:\n")
                    traceback.print_exception(error, file=stream)
                stream.flush()
                faulthandler.dump_traceback(file=stream, all_threads=True)
        return path

    def announce(self, code: int, line: str) -> bool:
        """Tells the others why this process leaves; whether it is the first to."""
        mine = json.dumps([self.rank, code, line])
        try:
            return bool(json.loads(self._store.compare_set("left", "", mine))[0] == self.rank)
        except (RuntimeError, OSError):
            return True

    def announced(self) -> tuple[int, int, str] | None:
        """The rank that left first by an error of its own, its exit code and its line."""
        try:
            found = json.loads(self._store.get("left")) if self._store.check(["left"]) else None
        except (RuntimeError, OSError):
            return None
        return None if found is None else (int(found[0]), int(found[1]), str(found[2]))

    def speaks(self) -> bool:
        """Whether this process is the first to ask, and so the one that tells what happened."""
        try:
            return int(self._store.add("speakers", 1)) == 1
        except (RuntimeError, OSError):
            return self.rank == 0

    def blame(self, error: BaseException) -> str:
        """Raises the alarm, waits for signs of life, and says in words which processes give none; empty: all do.

        `error` is what was felt here of another's absence.
        """
        self.dump(error)
        try:
            self._store.set("alarm", str(self.rank))
            before = self._beats()
            time.sleep(_MISSED * self.beat_seconds)
            after = self._beats()
        except (RuntimeError, OSError):
            return "the process that hosts the group's store (rank 0, or torchrun's first agent) does not answer"
        silent = [rank for rank in range(self.size) if before.get(rank) == after.get(rank) and rank != self.rank]
        return "; ".join(_describe(rank, after.get(rank)) for rank in silent)

    def _beats(self) -> Mapping[int, list[object]]:
        keys = {rank: f"beat/{rank}" for rank in range(self.size)}
        return {rank: json.loads(self._store.get(key)) for rank, key in keys.items() if self._store.check([key])}


def _describe(rank: int, beat: list[object] | None) -> str:
    if beat is None:
        return f"rank {rank} never came"
    _, pid, host = beat
    what = "gives no sign of life"
    if host == platform.node():
        state = process_state(int(str(pid)))
        ended = state is None and Path("/proc/self").exists()
        what = "has ended" if ended else _STATES.get(str(state), what)
    return f"rank {rank} (pid {pid} on {host}) {what}"
