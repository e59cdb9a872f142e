"""Signals as a question that a loop asks: was a stop requested?

The first SIGINT, SIGTERM, SIGUSR1 or SIGHUP sets a flag, so that the loop can save and leave with code 75; a second one
ends the process at once with code 130. Knows nothing of what is saved.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

from llmforge.errors import StopRequested

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
EXIT_AT_ONCE = 130
# A scheduler signals a whole job, and torchrun then hands its own copy on to its ranks: for a rank that is one request.
_ONE_REQUEST_SECONDS = 5.0


class StopSignals:
    """`with StopSignals() as stop:` makes the stop signals set `stop.requested` (only in the main thread)."""

    def __init__(self) -> None:
        self.requested = False
        self.signal_name = ""
        self._first = 0.0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and "RANK" in os.environ and time.monotonic() - self._first < _ONE_REQUEST_SECONDS:
            return
        if self.requested:
            sys.stderr.write("stopped at once; what was saved last is whole\n")
            sys.stderr.flush()
            os._exit(EXIT_AT_ONCE)
        self.requested, self._first = True, time.monotonic()
        self.signal_name = signal.Signals(number).name
        if os.environ.get("RANK", "0") == "0":  # one line for a group
            sys.stderr.write(f"{self.signal_name}: stopping as soon as the work is safe; once more stops at once\n")
            sys.stderr.flush()

    def check(self) -> None:
        """Raises StopRequested (75) when a signal came."""
        if self.requested:
            raise StopRequested(f"stopped by {self.signal_name}", hint="the same command goes on")
