"""The folder of one run of one command: its lock, its config, its record, its log and the artefact it makes.

Makes of an `output_dir` a place that one process owns; does not know what the command does.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from llmforge.errors import BusyError, LlmforgeError, MachineError, StopRequested, UsageError
from llmforge.runtime.files import (
    disk_errors,
    make_folder,
    publish_folder,
    sync_file,
    temporary_sibling,
    write_atomic,
)
from llmforge.runtime.foreign import foreign_entry
from llmforge.runtime.manifest import git_commit, versions, write_manifest
from llmforge.runtime.owner import LOCK
from llmforge.runtime.stop import EXIT_AT_ONCE, last_words

# Figures of a line of metrics.jsonl that the clock and the machine decide: two runs of the same bits differ in them.
CLOCKED = frozenset({"tokens_per_second", "step_seconds", "split_seconds", "mfu", "memory_bytes"})
_RECORD = ("config.yaml", "run.json")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _yaml(config: dict[str, object]) -> str:
    import yaml

    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text


class RunFolder:
    """An owned run folder; open it with `RunFolder.open`. A passive one (ranks above 0) writes nothing."""

    def __init__(self, path: Path, command: str, config: dict[str, object], passive: bool) -> None:
        self.path, self.passive = path, passive
        self.config = config
        # who else is shown each line of metrics.jsonl
        self.listeners: list[Callable[[dict[str, object]], None]] = []
        self._lock: int | None = None
        self._before: dict[str, bytes] = {}
        self._refused = False
        self._started = time.monotonic()
        self._facts: dict[str, object] = {
            "command": command,
            "status": "running",
            "exit_code": None,
            "start": _now(),
            "end": None,
            "seconds": {},
            "versions": versions(),
            "git_commit": git_commit(),
            "host": {"name": platform.node(), "cpus": os.cpu_count(), "machine": platform.machine()},
            "argv": sys.argv[1:],
        }

    @classmethod
    @contextmanager
    def open(
        cls, output_dir: Path | str, command: str, config: dict[str, object], passive: bool = False
    ) -> Iterator[RunFolder]:
        """Owns `output_dir` for the time of a `with`.

        Raises:
            BusyError: another process owns it.
            MachineError: the disk is full or fails, or its file system knows no locks.
            UsageError: it is a file, or it holds the run of another command or what is no run's.
        """
        run = cls(Path(output_dir), command, config, passive)
        if passive:
            yield run
            return
        try:
            run._take()
        except BaseException:
            run._release()
            raise
        try:
            with last_words(partial(run._end, "stopped", EXIT_AT_ONCE)):
                yield run
        except StopRequested:
            run._end("stopped", StopRequested.exit_code)
            raise
        except KeyboardInterrupt:
            run._end("stopped", EXIT_AT_ONCE)
            raise
        except BaseException as error:
            run._fail(error)
            raise
        else:
            run._end("finished", 0)
        finally:
            run._release()

    def _take(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError("output_dir is a file", self.path, "name a folder")
        found = None if self._other_command() else foreign_entry(self.path)
        if found is not None:
            what = f"there is a {found} here that no run of llmforge made, and it would be replaced"
            raise UsageError(what, self.path, "name another output_dir, or move it away")
        with disk_errors(self.path):
            make_folder(self.path)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        self._claim(self._lock)
        command = self._facts["command"]
        other = self._other_command()
        if other not in (None, command):
            hint = "name another output_dir"
            raise UsageError(f"the folder holds a run of `{other}`, not of `{command}`", self.path, hint)
        self._before = {name: (self.path / name).read_bytes() for name in _RECORD if (self.path / name).is_file()}
        write_atomic(self.path / "config.yaml", _yaml(self.config))
        self._write()

    def _claim(self, lock: int) -> None:
        """Locks the open file and writes into it who owns the folder."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                hint = "name an output_dir on another disk, or mount this one with locks (Lustre: -o flock)"
                what = f"the file system cannot lock a file ({error.strerror}), and two processes could write here"
                raise MachineError(what, self.path, hint) from error
            owner = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
            raise BusyError(f"the run folder is in use by {owner}", self.path, "wait for it or name another") from error
        with disk_errors(self.path / LOCK):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"pid {os.getpid()} on {platform.node()}".encode(), 0)

    def _other_command(self) -> str | None:
        try:
            found = json.loads((self.path / "run.json").read_text(encoding="utf-8")).get("command")
        except (OSError, ValueError, AttributeError):
            return None
        return str(found) if found else None

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self) -> None:
        write_atomic(self.path / "run.json", json.dumps(self._facts, indent=2, default=str) + "\n")

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Around what may refuse to go on in this folder: the record of the run that lies there stays as it was."""
        try:
            yield
        except LlmforgeError:
            self._refused = bool(self._before)
            raise

    def _end(self, status: str, code: int) -> None:
        if self._refused:
            for name, content in self._before.items():
                write_atomic(self.path / name, content)
            return
        seconds = self._facts["seconds"]
        assert isinstance(seconds, dict)
        seconds["total"] = round(time.monotonic() - self._started, 3)
        self._facts.update(status=status, exit_code=code, end=_now())
        try:
            self._write()
        except LlmforgeError:
            if status == "finished":
                raise

    def _fail(self, error: BaseException) -> None:
        ours = isinstance(error, LlmforgeError)
        self._facts["error"] = str(error) if ours else f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self._end("failed", error.exit_code if isinstance(error, LlmforgeError) else 1)

    def record(self, **facts: object) -> None:
        """Adds facts to run.json."""
        self._facts.update(facts)
        if not self.passive:
            self._write()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the seconds of a phase into run.json's `seconds`."""
        start = time.monotonic()
        try:
            yield
        finally:
            seconds = self._facts["seconds"]
            assert isinstance(seconds, dict)
            seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - start, 3)

    def log(self, text: str) -> None:
        """Adds a line with the time to log.txt."""
        if self.passive:
            return
        with disk_errors(self.path / "log.txt"), (self.path / "log.txt").open("a", encoding="utf-8") as stream:
            stream.write(f"{_now()} {text}\n")

    def metrics(self, values: dict[str, object]) -> None:
        """Adds one line to metrics.jsonl, and shows it to the listeners."""
        if self.passive:
            return
        path = self.path / "metrics.jsonl"
        with disk_errors(path), path.open("a", encoding="utf-8") as stream:
            new = stream.tell() == 0
            stream.write(json.dumps(values) + "\n")
            if new:  # its name must be on the disk before a state counts on its lines
                sync_file(self.path)
        for listener in self.listeners:
            listener(values)

    def metrics_position(self) -> int:
        """Bytes in metrics.jsonl, which are on the disk now; a checkpoint keeps it."""
        path = self.path / "metrics.jsonl"
        if self.passive or not path.exists():
            return 0
        with disk_errors(path):
            sync_file(path)
            return path.stat().st_size

    def take_metrics(self, origin: Path, position: int) -> list[str]:
        """Makes metrics.jsonl what it was at a checkpoint's position in the run of folder `origin`; notes on that.

        The own file is cut, so that no step stands in it twice; another run's is taken over.
        """
        path, found = self.path / "metrics.jsonl", origin / "metrics.jsonl"
        if self.passive:
            return []
        size = found.stat().st_size if found.exists() else 0
        if origin.resolve() != self.path.resolve():
            kept = b""
            if size:
                with found.open("rb") as stream:
                    kept = stream.read(position)
            write_atomic(path, kept[: kept.rfind(b"\n") + 1])
        elif size:
            with disk_errors(path):
                os.truncate(path, min(position, size))
        lacking = f"{found} has {size:,} bytes and had {position:,} when the state was saved: lines are missing"
        return [lacking] if size < position else []

    def temporary(self, kind: str) -> Path:
        """A new empty folder in which the artefact `kind` is made before `publish`."""
        return temporary_sibling(self.path / kind)

    def publish(
        self,
        temp: Path,
        kind: str,
        *,
        made_from: dict[str, str] | None = None,
        seeds: dict[str, int] | None = None,
        facts: dict[str, object] | None = None,
    ) -> str:
        """Writes a finished artefact's manifest, renames it to `<run>/<kind>`, and returns the manifest's digest."""
        digest = write_manifest(temp, kind, config=self.config, made_from=made_from, seeds=seeds, facts=facts)
        publish_folder(temp, self.path / kind)
        body = {"artefacts": {**self._published(), kind: digest}, "made_from": made_from or {}}
        write_atomic(self.path / "manifest.json", json.dumps({"kind": "run", **body}, indent=2) + "\n")
        return digest

    def _published(self) -> dict[str, str]:
        """The digests of the artefacts that are there, of which one run may make several."""
        try:
            found = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))["artefacts"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {kind: digest for kind, digest in found.items() if (self.path / kind / "manifest.json").is_file()}

    def discard(self, temp: Path) -> None:
        """Removes an unfinished artefact."""
        shutil.rmtree(temp, ignore_errors=True)
