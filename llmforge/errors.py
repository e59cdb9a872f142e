"""Every mistake that is not ours, as an exception that carries its exit code and reads as one line.

    LlmforgeError        1   a bug of ours, when raised as itself
    ├── UsageError       2   wrong usage
    │   └── ConfigError  2   a config with one or more faults, all of them at once
    ├── DataError        3   bad input data: file, line or row
    ├── MachineError     4   the machine cannot: memory, disk, device
    ├── GateError        5   a gate was not met: threshold, forgetting, parity
    ├── DamagedError     6   an artefact is damaged or was changed
    ├── BusyError        7   the run folder is in use
    └── StopRequested   75   stopped on request, state saved: the same command goes on

Knows nothing of configs, files or terminals: the command line prints `str(error)` and exits with `error.exit_code`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class LlmforgeError(Exception):
    """What went wrong, where, and what to do, in one line: `where: what; hint`."""

    exit_code = 1
    quiet = False  # another process of the group has said it

    def __init__(self, what: str, where: object | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"; {self.hint}" if self.hint else ""
        return " ".join(f"{place}{self.what}{advice}".split())


class UsageError(LlmforgeError):
    """The command was called wrongly."""

    exit_code = 2


@dataclass(frozen=True)
class Fault:
    """One fault of a config: where it stands (`file:line` or the override's text), what is wrong, what to do."""

    where: str
    what: str
    hint: str | None = None

    def __str__(self) -> str:
        advice = f"; {self.hint}" if self.hint else ""
        return " ".join(f"{self.where}: {self.what}{advice}".split())


class ConfigError(UsageError):
    """All faults of one config at once; `str` has one line for each."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        assert faults, "a ConfigError needs a fault"
        self.faults = tuple(faults)
        super().__init__(faults[0].what, faults[0].where, faults[0].hint)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class DataError(LlmforgeError):
    """Input data cannot be used as it is."""

    exit_code = 3


class MachineError(LlmforgeError):
    """The machine lacks memory, disk or a device; the text names what was needed."""

    exit_code = 4


class GateError(LlmforgeError):
    """A condition that was asked for was not met."""

    exit_code = 5


class DamagedError(LlmforgeError):
    """A file of an artefact is missing, truncated or changed."""

    exit_code = 6


class BusyError(LlmforgeError):
    """Another process owns the run folder."""

    exit_code = 7


class StopRequested(LlmforgeError):
    """A signal asked for a stop and the state was saved."""

    exit_code = 75
