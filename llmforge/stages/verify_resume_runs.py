"""The two runs that `verify-resume` compares, as processes of their own: one left alone, one killed and started again.

Watches metrics.jsonl to know where a run is. A kill is SIGKILL for the whole group of processes, at a moment drawn
within a step, a save, the start-up or the publication.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from llmforge.errors import (
    BusyError,
    DamagedError,
    DataError,
    GateError,
    LlmforgeError,
    MachineError,
    StopRequested,
    UsageError,
)
from llmforge.runtime.process_tree import Process, kill_tree

_POLL_SECONDS = 0.002
_TAIL_BYTES = 1 << 16
_START_UP_SHARE = 0.15  # of the kills, which a resume must survive too
_LEAST_PATIENCE, _PATIENCE = 300.0, 20.0  # seconds, and multiples of the undisturbed run, until a run counts as stuck
_ERRORS = {
    error.exit_code: error for error in (UsageError, DataError, MachineError, GateError, DamagedError, BusyError)
}


@dataclass(frozen=True)
class Command:
    """How a run is started: `llmforge <command> -c <config>` on `nproc` processes, into the run folder `output`."""

    command: str
    config: Path
    output: Path
    nproc: int = 1

    def words(self) -> list[str]:
        """The arguments of the process."""
        words = [sys.executable, "-m", "llmforge", self.command, "-c", str(self.config), "--quiet"]
        return [*words, "--nproc", str(self.nproc)] if self.nproc > 1 else words


@dataclass(frozen=True)
class Timing:
    """Seconds of an undisturbed run: to its first line of metrics, from there to the last step, from there to the end.

    `pace` are the seconds of a step with its part of saves and validations, `last` is the number of the last step.
    """

    start_up: float
    steps_seconds: float
    publication: float
    pace: float
    last: int

    @property
    def total(self) -> float:
        """All of it."""
        return self.start_up + self.steps_seconds + self.publication


@dataclass(frozen=True)
class Kill:
    """When to kill: `share` (0 to 1) of the way through the start-up (step None) or of what follows a step's line."""

    step: int | None
    share: float


@dataclass(frozen=True)
class Killed:
    """A kill that was done: at which step the run was, how many processes died, and the state it had then."""

    where: str
    step: int
    seconds: float
    processes: int
    newest_state: str | None

    def as_json(self) -> dict[str, object]:
        """For the certificate."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


def draw_kills(count: int, steps: int, seed: int) -> list[Kill]:
    """Random moments over a run of `steps` steps, in the order in which they come."""
    rng = random.Random(seed)
    within = sorted(rng.randrange(steps + 1) for _ in range(count - round(count * _START_UP_SHARE)))
    kills = [Kill(step, rng.random()) for step in within]
    for _ in range(count - len(kills)):
        kills.insert(rng.randrange(len(kills) + 1), Kill(None, rng.random()))
    return kills


def run_straight(command: Command) -> Timing:
    """The undisturbed run, timed.

    Raises:
        LlmforgeError: it did not end well; the error is the one that the run gave.
    """
    with _started(command) as (process, began):
        first = last = began
        progress = _Progress(command.output)
        steps: list[int] = []
        while process.poll() is None:
            if progress.changed():
                last = time.monotonic()
                steps.append(progress.step)
                first = last if len(steps) == 1 else first
            time.sleep(_POLL_SECONDS)
        ended = time.monotonic()
    _check_end(process, command)
    steps = steps or [0]
    pace = (last - first) / max(1, steps[-1] - steps[0])
    return Timing(first - began, last - first, ended - last, pace, steps[-1])


def run_killed(command: Command, kills: list[Kill], timing: Timing) -> list[Killed]:
    """The other run: killed at each moment, started again each time, and let go to its end at last.

    Raises:
        LlmforgeError: it did not go on after a kill; the line says after which.
    """
    done: list[Killed] = []
    for kill in kills:
        killed = _life(command, kill, timing, done)
        if killed is not None:
            done.append(killed)
    _life(command, None, timing, done)
    return done


def _life(command: Command, kill: Kill | None, timing: Timing, done: list[Killed]) -> Killed | None:
    """One start; None when the run came to its end before the kill."""
    with _started(command) as (process, began):
        progress = _Progress(command.output)
        end = began + max(_LEAST_PATIENCE, _PATIENCE * timing.total)
        due: float | None = None
        if kill is not None and kill.step is None:
            due = began + kill.share * timing.start_up
        while process.poll() is None:
            now = time.monotonic()
            if kill is not None and due is not None and now >= due:
                return _kill(command, process, progress, now - began, kill)
            if now > end:
                raise GateError(f"the run did not end in {end - began:.0f} s{_after(done)}", command.output)
            if progress.changed() and due is None and kill is not None and kill.step is not None:
                due = now + kill.share * _span(kill.step, timing) if progress.step >= kill.step else None
            time.sleep(_POLL_SECONDS)
    _check_end(process, command, _after(done))
    return None


def _span(step: int, timing: Timing) -> float:
    """Seconds that follow a step's line: another step with its part of saves, or the publication after the last."""
    return timing.publication if step >= timing.last else timing.pace


def _kill(command: Command, process: Process, progress: _Progress, at: float, kill: Kill) -> Killed:
    processes = kill_tree(process)
    progress.changed()
    where = "start-up" if kill.step is None else f"after the line of step {progress.step}"
    return Killed(where, progress.step, at, processes, newest_state(command.output))


def newest_state(run: Path) -> str | None:
    """The name of the newest state of a run folder, whole or not; None without one."""
    found = [path.name for path in (run / "checkpoints").glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return max(found, key=lambda name: int(name.removeprefix("step-")), default=None)


class _Progress:
    """The step of the newest line of metrics.jsonl, and whether there is a new one since the last look."""

    def __init__(self, run: Path) -> None:
        self._path = run / "metrics.jsonl"
        self._seen = self._stamp()
        self.step = 0

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0)
        return (found.st_size, found.st_mtime_ns)

    def changed(self) -> bool:
        now = self._stamp()
        if now == self._seen or now[0] == 0:
            return False
        self._seen = now
        with self._path.open("rb") as stream:
            stream.seek(max(0, now[0] - _TAIL_BYTES))
            lines = stream.read().split(b"\n")[:-1]
        try:
            self.step = int(json.loads(lines[-1])["step"])
        except (IndexError, ValueError, KeyError, TypeError):
            return False
        return True


@contextmanager
def _started(command: Command) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A process whose stderr goes beside the run folder; nothing of it is left when the `with` ends."""
    log = command.output.with_suffix(".stderr")
    with log.open("wb") as stream:
        process = subprocess.Popen(command.words(), stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True)
        try:
            yield process, time.monotonic()
        finally:
            if process.poll() is None:
                kill_tree(process)


def _check_end(process: subprocess.Popen[bytes], command: Command, after: str = "") -> None:
    code = process.returncode
    if code == 0:
        return
    lines = command.output.with_suffix(".stderr").read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.removeprefix("llmforge: ") for line in lines if line.startswith("llmforge")]
    text = said[-1] if said else (lines[-1] if lines else f"it ended with {code} and said nothing")
    if code == StopRequested.exit_code:
        raise StopRequested(f"the run was stopped by somebody else{after}: {text}")
    kind = _ERRORS.get(code, LlmforgeError)
    if after and kind is not DamagedError:
        raise GateError(f"the run did not go on{after} (exit code {code}): {text}", command.output)
    raise kind(f"{text}{after}")


def _after(done: list[Killed]) -> str:
    if not done:
        return ""
    last = done[-1]
    return f" after kill {len(done)} ({last.where}, newest state {last.newest_state or 'none'})"
