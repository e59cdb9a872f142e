"""`llmforge` and `python -m llmforge`: answers Ctrl-C from the first moment on, and only then loads the rest.

Python's own start, which comes before, cannot be reached from here.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_STOPPED_AT_ONCE = 130


def _leave(number: int, frame: FrameType | None) -> None:
    """While nothing has begun or all has ended: no traceback, no work that could be lost."""
    os.write(2, b"llmforge: stopped at once; what was finished before is whole\n")
    os._exit(_STOPPED_AT_ONCE)


def main() -> None:
    """The entry point of `llmforge`."""
    taken = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where SIGINT is ignored
    if taken:
        signal.signal(signal.SIGINT, _leave)
    from llmforge.cli import main as begin

    begin(_leave if taken else None)


if __name__ == "__main__":
    main()
