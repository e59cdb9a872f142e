"""A child process of the extraction: source files named on standard input to JSON lines in the file OUT.

    python -m llmforge.corpus.python_docs.worker OUT  <  {"path": ..., "name": ..., "package": ...} lines

A child of its own, not a pool: it works the same whatever the parent has loaded, and whichever way Python starts
processes.
"""

from __future__ import annotations

import gc
import json
import sys
import warnings
from pathlib import Path

from llmforge.corpus.python_docs.parse import ParsedModule, parse_module
from llmforge.corpus.python_docs.prose import to_prose
from llmforge.corpus.python_docs.signatures import split_call_line

_TELLING = (b'"""', b"'''", b"import ")


def parse_file(path: str, name: str, is_package: bool) -> ParsedModule | None:
    """The module at `path` with its docstrings as prose; None for one that tells nothing or is no Python."""
    try:
        source = Path(path).read_bytes()
        if not any(word in source for word in _TELLING):
            return None
        parsed = parse_module(source, name, is_package)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    for entry in [*parsed.entries, *parsed.absolute]:
        if entry.kind in ("function", "method", "class"):
            signature, parameters, entry.doc = split_call_line(entry.doc, entry.name)
            if not entry.signature:
                entry.signature, entry.parameters = signature, parameters
        entry.doc = to_prose(entry.doc)
    parsed.entries = [entry for entry in parsed.entries if entry.doc]
    parsed.absolute = [entry for entry in parsed.absolute if entry.doc]
    return parsed


def main(out: str) -> None:
    """Read the jobs, write one row a module, and a last line that says the file is whole."""
    warnings.simplefilter("ignore")
    gc.disable()  # syntax trees have no rings, and looking for some takes a third of the time
    sys.setrecursionlimit(5000)
    with open(out, "w", encoding="utf-8", errors="replace") as stream:
        for line in sys.stdin:
            job = json.loads(line)
            parsed = parse_file(job["path"], job["name"], job["package"])
            if parsed is not None:
                stream.write(json.dumps(parsed.as_row()) + "\n")
        stream.write('"done"\n')


if __name__ == "__main__":
    main(sys.argv[1])
