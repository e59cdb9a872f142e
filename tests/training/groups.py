"""Starts a script on several processes of this machine, as torchrun would, without its second of start-up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def on_ranks(count: int, script: str, *arguments: str, expected: int = 0) -> str:
    """Runs `script` beside this file on `count` ranks and returns what they said."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / script), *arguments],
            env={**os.environ, **place, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        said = "\n".join(rank.communicate(timeout=300)[0] for rank in ranks)
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [expected] * count, said
    return said
