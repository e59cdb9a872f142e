"""What an agent makes of its ranks' ends, and of what it is asked to start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from llmforge.errors import UsageError
from llmforge.runtime.launch import Fleet, describe, exit_code, process_state, restarted

TERM, KILL = -signal.SIGTERM, -signal.SIGKILL


@pytest.mark.parametrize(
    ("codes", "asked", "wanted"),
    [
        ({0: 75, 1: 75}, True, 75),
        ({1: 75}, False, 75),  # a signal to one rank
        ({0: TERM, 1: TERM}, True, 75),  # before a rank could take it
        ({0: TERM, 1: 4}, True, 75),
        ({0: TERM}, False, 4),
        ({0: KILL, 1: 4}, False, 4),
        ({1: KILL}, True, 4),
        ({0: 3, 1: 4}, False, 3),  # what a rank says of itself counts more than what others suffered by it
        ({0: 4, 1: 2}, False, 2),
        ({0: 1, 1: KILL}, False, 1),
        ({}, False, 4),  # the machines did not come together
    ],
)
def test_one_exit_code_of_many(codes: dict[int, int], asked: bool, wanted: int) -> None:
    assert exit_code(codes, asked) == wanted


def test_killed_ranks_in_words() -> None:
    assert describe({0: KILL, 1: 4, 2: -signal.SIGSEGV}) == (
        "rank 0 was killed by SIGKILL, rank 2 was killed by SIGSEGV"
    )
    assert describe({0: 4}) == ""


def test_machines_need_a_place_to_meet() -> None:
    Fleet(8, 2, "host:29500").check()
    Fleet(8).check()
    with pytest.raises(UsageError, match="needs a place"):
        Fleet(8, 2).check()
    with pytest.raises(UsageError, match="nobody to meet"):
        Fleet(8, 1, "host:29500").check()
    assert Fleet().alone and not Fleet(max_restarts=1).alone and not Fleet(nnodes=2).alone


def test_a_restarted_rank_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    assert not restarted()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert restarted()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_a_stopped_process_is_seen() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert process_state(child.pid) == "T"
    finally:
        child.kill()
        child.communicate()
    assert process_state(child.pid) is None
