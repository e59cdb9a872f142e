"""Starts commands on several processes, finds their ranks, and waits for a step of theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "llmforge"]


@contextmanager
def started(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A started command, which is gone at the end, and with it its ranks."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    child = subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def ended(child: subprocess.Popen[str], code: int) -> str:
    """What it said on stderr, once it has ended with that code."""
    said = child.communicate(timeout=240)[1]
    assert child.returncode == code, said
    return said


def ranks(agent: int) -> dict[int, int]:
    """The pids of an agent's ranks."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
                pairs = (pair.partition("=") for pair in (folder / "environ").read_text().split("\0"))
                values = {key: value for key, _, value in pairs}
            except OSError:
                continue
            if int(parent) == agent and "RANK" in values:
                found[int(values["RANK"])] = int(folder.name)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    """Whether all of them are gone, or are within seconds."""
    end = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


def wait_for_step(output: Path, step: int, child: subprocess.Popen[str]) -> None:
    """Until metrics.jsonl has a line of that step or a later one."""
    end = time.monotonic() + 240
    while child.poll() is None and time.monotonic() < end:
        if any(row["step"] >= step for row in rows(output)):
            return
        time.sleep(0.02)
    raise AssertionError(
        f"it did not come to step {step}: {child.communicate()[1] if child.poll() is not None else 'time is over'}"
    )


def rows(output: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl."""
    try:
        lines = (output / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return []
    return [json.loads(line) for line in lines if line.endswith("}")]


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
