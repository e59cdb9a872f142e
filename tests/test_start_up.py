"""Ctrl-C while the program is still loading, or already leaving: a line and 130, never Python's traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

WHEN_LEAVING = """
import atexit, os, signal, sys
from llmforge.__main__ import main
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["llmforge", "--help"]
main()
"""


def call(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300)


# Sends SIGINT to itself when a module is looked for.
WHEN_LOADING = """
import os, signal, sys
module, *words = sys.argv[1:]
class Sends:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
from llmforge.__main__ import main
sys.meta_path.insert(0, Sends())
sys.argv = ["llmforge", *words]
main()
"""


@pytest.mark.parametrize("module", ["llmforge.cli", "typer", "llmforge.errors"])
def test_ctrl_c_while_loading(module: str) -> None:
    done = call(WHEN_LOADING, module, "--help")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "llmforge: stopped at once; what was finished before is whole\n"


def test_ctrl_c_while_a_command_loads() -> None:
    done = call(WHEN_LOADING, "llmforge.stages.table", "clean", "--schema")
    assert done.returncode == 130 and "stopped at once" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_while_leaving() -> None:
    done = call(WHEN_LEAVING)
    assert done.returncode == 130 and "Traceback" not in done.stderr and "Usage" in done.stdout


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + WHEN_LEAVING
    done = call(code)
    assert done.returncode == 0 and done.stderr == ""
