"""Signals as a question that a loop asks: was a stop requested?

The first SIGINT, SIGTERM, SIGUSR1 or SIGHUP sets a flag, so that the loop can save and leave with code 75; a second one
ends the process at once with code 130, when those who asked for it have had their last words. A SIGHUP that the process
was started to ignore (`nohup`) stays ignored. Knows nothing of what is saved.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from llmforge.errors import StopRequested

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
EXIT_AT_ONCE = 130
# A scheduler signals a whole job, and torchrun then hands its own copy on to its ranks: for a rank that is one request.
_ONE_REQUEST_SECONDS = 5.0
# Of the process, like the signals themselves; the newest is called first.
_last_words: list[Callable[[], None]] = []


class StopSignals:
    """`with StopSignals() as stop:` makes the stop signals set `stop.requested` (only in the main thread).

    One inside another is the other: a signal that came before the inner `with` counts in it.
    """

    def __init__(self) -> None:
        self._outer: StopSignals | None = None
        self._requested = False
        self._signal_name = ""
        self._first = 0.0
        self._before: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self._requested if self._outer is None else self._outer.requested

    @property
    def signal_name(self) -> str:
        """Which one was the first; empty before."""
        return self._signal_name if self._outer is None else self._outer.signal_name

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if isinstance(owner, StopSignals):
            self._outer = owner
            return self
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested and "RANK" in os.environ and time.monotonic() - self._first < _ONE_REQUEST_SECONDS:
            return
        if self._requested:
            _end_at_once()
        self._requested, self._first = True, time.monotonic()
        self._signal_name = signal.Signals(number).name
        if os.environ.get("RANK", "0") == "0":  # one line for a group
            _say(f"{self._signal_name}: stopping as soon as the work is safe; once more stops at once\n")

    def check(self, hint: str = "the same command goes on") -> None:
        """Raises StopRequested (75) when a signal came."""
        if self.requested:
            raise StopRequested(f"stopped by {self.signal_name}", hint=hint)


@contextmanager
def last_words(say: Callable[[], None]) -> Iterator[None]:
    """For the time of a `with`, `say` is called when a second signal ends this process, not a fork of it, at once."""
    own = os.getpid()

    def words() -> None:
        if os.getpid() == own:
            say()

    _last_words.append(words)
    try:
        yield
    finally:
        _last_words.remove(words)


def _end_at_once() -> None:
    """Ends the process; a third signal does so without any last words, should one of them hang on a disk."""
    _say("stopped at once; what was saved last is whole\n")
    try:
        while _last_words:
            _last_words.pop()()
    except BaseException:  # a disk that is full, say: no reason to stay
        pass
    finally:
        os._exit(EXIT_AT_ONCE)


@contextmanager
def sheltered() -> Iterator[None]:
    """For the time of a `with` the programs that this thread starts do not get the stop signals; this process does.

    A compiler that dies of a signal to the whole group would fail the step that is to be saved. A program inherits the
    signals that the starting thread holds back; another thread takes them for the process meanwhile.
    """
    through = threading.Event()
    threading.Thread(target=through.wait, name="llmforge-signals", daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        through.set()


def _say(text: str) -> None:
    # Straight to the descriptor: the signal may have come in the middle of a write to the buffered stream, which does
    # not let itself be entered twice; after a SIGHUP the terminal may be gone.
    try:
        os.write(2, text.encode())
    except OSError:
        return
