"""A user's regular expression over texts, with a limit: a pattern that explodes costs seconds, not a night.

Python's matcher cannot be interrupted from outside its thread, so it runs in a child process that is ended when its
time is over. The child imports the standard library only and gets its work as JSON on stdin.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from llmforge.errors import UsageError

SECONDS = 10.0
_CHILD = """
import json, re, sys
work = json.load(sys.stdin)
pattern = re.compile(work["pattern"])
found = []
for text in work["texts"]:
    last = None
    for last in pattern.finditer(text):
        pass
    found.append(None if last is None else (last.group(1) if pattern.groups else last.group()))
json.dump(found, sys.stdout)
"""


def check_pattern(pattern: str) -> str:
    """The pattern itself; ValueError when it is no regular expression."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


def extract(pattern: str, texts: Sequence[str], seconds: float = SECONDS) -> list[str | None]:
    """Of each text the last match (its first group where the pattern has one), or None.

    Raises:
        UsageError: the pattern takes longer than `seconds` on these texts.
    """
    # A lone surrogate cannot go through a pipe as UTF-8; JSON's own escapes can.
    work = json.dumps({"pattern": pattern, "texts": list(texts)})
    command = [sys.executable, "-I", "-c", _CHILD]
    try:
        done = subprocess.run(command, input=work.encode("ascii"), capture_output=True, timeout=seconds, check=True)
    except subprocess.TimeoutExpired as error:
        what = f"the pattern {pattern!r} takes longer than {seconds:g} s on {len(texts)} texts"
        raise UsageError(what, "answer_pattern", "write one without nested repetition") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UsageError(f"the pattern {pattern!r} fails: {last}", "answer_pattern") from error
    found: list[str | None] = json.loads(done.stdout)
    return found
