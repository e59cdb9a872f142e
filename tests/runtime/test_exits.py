"""What the operating system refuses ends with the machine's exit code and a line, wherever it was met."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from llmforge.errors import MachineError
from llmforge.runtime.exits import guarded


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_an_error_of_the_disk_is_the_machines(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise OSError(number, os.strerror(number), "/place/file")

    assert guarded(work) == MachineError.exit_code
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "/place/file" in said and os.strerror(number) in said
    assert ("cannot write" in said) == (number != errno.EIO)  # a failing disk refuses reads as well


@pytest.mark.parametrize(("ranks", "last"), [("1", "destroyed"), ("2", "")])
def test_one_of_several_processes_leaves_without_destructors(ranks: str, last: str) -> None:
    program = """
import atexit
from llmforge.runtime.exits import leave
class Late:
    def __del__(self): print("destroyed", flush=True)
late = Late()
atexit.register(print, "at exit")
print("said")
leave(5)
"""
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": ranks}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split("\n")) == (5, ["said", "at exit", *([last] if last else []), ""])
