"""Two programs measured in turns: each waits for a line, does its work once, and tells seconds and result.

A side is a program `python SIDE.py SHAPE INPUT` that calls `serve`; the bench holds one `Side` for each and asks them
round about, so that what else the machine does falls on both. Needs Python's own library only, since the peers' side
runs in an environment of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def serve(prepare: Callable[[str, str], Callable[[], object]]) -> None:
    """Answers rounds on standard input until it ends; what the work prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = prepare(sys.argv[1], sys.argv[2])
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps({**took, "result": result}), file=answers, flush=True)


class Side:
    """A running side of a comparison."""

    def __init__(self, name: str, python: str, program: str, shape: str, data: Path) -> None:
        self.name, self.rounds = name, []  # type: tuple[str, list[dict[str, Any]]]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "RAYON_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        command = [python, str(Path(__file__).parent / program), shape, str(data)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self._answer()

    def round(self) -> dict[str, Any]:
        """One round's seconds, processor seconds and result."""
        assert self._process.stdin is not None
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._answer())
        self.rounds.append(found)
        return found

    def median(self, key: str) -> float:
        """Of `seconds` or `cpu_seconds` over the rounds."""
        return statistics.median(found[key] for found in self.rounds)

    def close(self) -> None:
        """Ends the program."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise RuntimeError(f"{self.name} ended: {errors[-2000:]}")
        return line


def in_turns(sides: list[Side], rounds: int) -> None:
    """Rounds of all sides one after the other, the first of each not counted."""
    for side in sides:
        side.round()
        side.rounds.clear()
    for _ in range(rounds):
        for side in sides:
            side.round()
    for side in sides:
        side.close()
