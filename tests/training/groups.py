"""Groups of processes of this machine, as torchrun would start them; all forked from one that has loaded torch.

python groups.py SCRIPT '[[processes, argument, ...], ...]'      each group in turn, until one fails
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 280


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def on_ranks(script: str, *groups: tuple[int | str, ...]) -> str:
    """Calls the `main` of a module beside this file with the arguments of each group on so many processes."""
    command = [sys.executable, str(HERE / "groups.py"), script, json.dumps(groups)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _rank(main: Callable[..., None], arguments: list[str], place: dict[str, str]) -> None:
    """The life of a forked process."""
    signal.alarm(SECONDS)
    os.environ.update(place)
    try:
        main(*arguments)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _group(main: Callable[..., None], count: int, arguments: list[str]) -> bool:
    """Whether all processes of a group ended well."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    pids = []
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            # One process is a group of none, as without torchrun.
            _rank(main, arguments, {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {})
        pids.append(pid)
    return all([os.waitpid(pid, 0)[1] == 0 for pid in pids])


if __name__ == "__main__":
    module = importlib.import_module(sys.argv[1])
    for count, *arguments in json.loads(sys.argv[2]):
        if not _group(module.main, count, arguments):
            sys.exit(1)
