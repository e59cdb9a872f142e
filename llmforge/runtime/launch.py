"""Starts a command again on several processes of this machine, as `torchrun` does.

The parent (`launch`) loads no torch: it starts this file as a child in a session of its own, so that a Ctrl-C reaches
the ranks once, through the parent. The child runs torch's elastic agent and ends with the exit code of the first rank
that failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
EXIT_AT_ONCE = 130


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Runs `python -m llmforge ARGUMENTS` on that many ranks and returns the exit code."""
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    command = [sys.executable, "-m", "llmforge.runtime.launch", str(processes), *arguments]
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    asked = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        # The agent hands its SIGTERM on to every rank, whose second signal would end it at once.
        os.killpg(child.pid, signal.SIGKILL) if asked else os.kill(child.pid, signal.SIGTERM)
        if asked:
            os._exit(EXIT_AT_ONCE)
        asked = True

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _agent(processes: int, arguments: Sequence[str]) -> int:
    import logging

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # A rank says by itself what went wrong; the agent's tables would bury it.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    # Behind "--" torchrun leaves our flags alone, of which --nproc would be one of its own, shortened.
    options = ["--standalone", f"--nproc-per-node={processes}", "-m", "--", "llmforge", *arguments]
    try:
        run(parse_args(options))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return next((code for code in codes if code > 0), 1)
    except SignalException:
        return 75
    return 0


if __name__ == "__main__":
    sys.exit(_agent(int(sys.argv[1]), sys.argv[2:]))
