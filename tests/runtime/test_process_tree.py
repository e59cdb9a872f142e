"""A command is killed with all that it started, in other sessions too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from llmforge.runtime.process_tree import descendants, kill_tree

# A child and a grandchild, each in a session of its own, as the ranks of a launcher are.
NESTED = """
import subprocess, sys, time
depth = int(sys.argv[1])
if depth:
    subprocess.Popen([sys.executable, "-c", sys.argv[2], str(depth - 1), *sys.argv[2:]], start_new_session=True)
else:
    open(sys.argv[3], "w").close()
time.sleep(600)
"""


def test_a_whole_tree_ends(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = subprocess.Popen([sys.executable, "-c", NESTED, "2", NESTED, str(ready)], start_new_session=True)
    end = time.monotonic() + 60
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    below = descendants(process.pid)
    assert len(below) == 2
    assert kill_tree(process) == 3
    assert process.returncode == -9
    assert descendants(os.getpid()) == [] or not set(below) & set(descendants(os.getpid()))
    assert not any(Path(f"/proc/{pid}").exists() and "Z" not in _state(pid) for pid in below)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_one_that_has_ended_is_no_mistake() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert kill_tree(process) == 1
