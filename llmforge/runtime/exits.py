"""How a command ends: every exception as one line on stderr and an exit code.

Our own errors speak for themselves; what nobody expected leaves its traceback in a file that the line names.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from llmforge.errors import LlmforgeError, MachineError, StopRequested
from llmforge.runtime.console import quantity
from llmforge.runtime.memory import shortage

BUG = 1
STOPPED_AT_ONCE = 130
# What a shell shows for a program whose reader went away (128 + SIGPIPE).
NO_READER = 141


def rank() -> int:
    """The number of this process among those of a distributed run; 0 outside of one."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() else 0


def leave(code: int) -> NoReturn:
    """Ends the process.

    One of several goes without C++'s destructors: a run whose model was published has ended with SIGABRT there
    ("terminate called without an active exception", what a thread still at work makes of them; seen once).
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or "RANK" not in os.environ:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader is gone, or it is closed
            stream.flush()
    os._exit(code)


def _say(text: str) -> None:
    number = f" (rank {rank()})" if rank() else ""
    lines = [f"llmforge{number}: {line}\n" for line in text.splitlines()]
    try:
        sys.stderr.write("".join(line.encode("utf-8", "backslashreplace").decode() for line in lines))
        sys.stderr.flush()
    except OSError:
        return


def _keep_traceback(error: BaseException) -> str:
    try:
        handle, name = tempfile.mkstemp(prefix="llmforge-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"{' '.join(sys.argv)}\n{sys.version}\n")
            traceback.print_exception(error, file=stream)
        return name
    except OSError:
        return "no file: none could be written"


def _of_the_machine(error: Exception) -> MachineError | None:
    """Memory and disk running out, which the work below reports in its own words."""
    if (lack := shortage(error)) is not None:
        asked = f": {quantity(lack.asked_bytes, 'B')} more was asked for" if lack.asked_bytes else ""
        return MachineError(f"not enough memory{asked}", hint="make the model, the batch or the vocabulary smaller")
    if isinstance(error, OSError) and error.errno == errno.EIO:  # of a read as well as of a write
        return MachineError(f"a disk fails: {error.strerror}", error.filename, "look at the disk, or use another one")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return MachineError(f"cannot write: {error.strerror}", error.filename, "free space or name another output_dir")
    return None


def _unexpected(error: Exception) -> int:
    ours = _of_the_machine(error)
    if ours is not None:
        _say(str(ours))
        return ours.exit_code
    first = " ".join(str(error).split())[:200]
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    _say(f"a bug of ours: {said}; the traceback is in {_keep_traceback(error)}")
    return BUG


def guarded(work: Callable[[], int | None]) -> int:
    """Runs `work` and returns the exit code; whatever goes wrong is said in a line, without a traceback."""
    try:
        code = work() or 0
        sys.stdout.flush()
        return code
    except LlmforgeError as error:
        if not (error.quiet or (isinstance(error, StopRequested) and rank())):
            _say(str(error))
        return error.exit_code
    except BrokenPipeError:
        # The interpreter flushes once more at its end: give it something that takes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except KeyboardInterrupt:
        _say("stopped at once; what was finished before is whole")
        return STOPPED_AT_ONCE
    except Exception as error:
        return _unexpected(error)
