"""Runs the extraction: source files shared out to two child processes, C-written documentation in a third.

Gives parsed modules by source, in an order that does not depend on how the work was shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llmforge
from llmforge.corpus.python_docs.parse import Entry, ParsedModule
from llmforge.corpus.python_docs.prose import to_prose
from llmforge.corpus.python_docs.roots import SourceFile, source_files
from llmforge.corpus.python_docs.signatures import split_call_line
from llmforge.corpus.python_docs.worker import parse_file

MAX_WORKERS = 2
CHILD_SECONDS = 300
_Child = subprocess.Popen[bytes]
_C_SCRIPT = Path(__file__).with_name("c_objects.py")


@dataclass(slots=True)
class Extraction:
    """What was found: modules by source in order, pydoc's topics, and what is missing, in words."""

    modules: dict[str, list[ParsedModule]] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def extract(files: list[SourceFile] | None = None, with_c: bool = True) -> Extraction:
    """Everything that `files` (default: all) document. What cannot be read is left out and said in `missing`."""
    wanted = source_files() if files is None else files
    found = Extraction()
    with tempfile.TemporaryDirectory(prefix="llmforge-docs-") as folder, ExitStack() as children:
        c_child = _start_c(Path(folder), children) if with_c else None
        parsed = _parse_all(wanted, Path(folder), children)
        for file in wanted:
            row = parsed.get((file.source, file.name))
            if row is not None:
                found.modules.setdefault(file.source, []).append(ParsedModule.from_row(row))
        if c_child is not None:
            _add_c_modules(found, c_child, Path(folder) / "c.jsonl")
    if with_c:
        _add_topics(found)
    return found


def _share(files: list[SourceFile], workers: int) -> list[list[SourceFile]]:
    """The files in `workers` parts of about equal bytes, the largest first."""
    parts: list[list[SourceFile]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for file in sorted(files, key=lambda file: -file.size):
        lightest = loads.index(min(loads))
        parts[lightest].append(file)
        loads[lightest] += file.size
    return parts


def _parse_all(files: list[SourceFile], folder: Path, children: ExitStack) -> dict[tuple[str, str], dict[str, Any]]:
    """(source, module) -> row of each file; a part whose child fails is parsed here instead."""
    workers = max(1, min(MAX_WORKERS, _free_cores()))
    shares = [(part, folder / f"{index}.jsonl") for index, part in enumerate(_share(files, workers))]
    started = [(part, out, _start_worker(part, out, children)) for part, out in shares]
    parsed: dict[tuple[str, str], dict[str, Any]] = {}
    for part, out, child in started:
        rows = _finished_rows(child, out)
        if rows is None:
            modules = [parse_file(file.path, file.name, file.is_package) for file in part]
            rows = [module.as_row() for module in modules if module is not None]
        source_of = {file.name: file.source for file in part}
        parsed.update({(source_of[row["name"]], row["name"]): row for row in rows})
    return parsed


def _free_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(part: list[SourceFile], out: Path, children: ExitStack) -> _Child | None:
    environment = dict(os.environ)
    home = str(Path(llmforge.__file__ or "").parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (home, environment.get("PYTHONPATH"))))
    jobs = out.with_suffix(".jobs")
    lines = (json.dumps({"path": file.path, "name": file.name, "package": file.is_package}) for file in part)
    jobs.write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "llmforge.corpus.python_docs.worker", str(out)]
    return _start(command, jobs, environment, children)


def _start(command: list[str], stdin: Path, environment: dict[str, str], children: ExitStack) -> _Child | None:
    """A child of its own session, so that a stop asked for in the terminal reaches the parent alone, which ends it."""
    quiet = subprocess.DEVNULL
    try:
        with stdin.open("rb") as stream:
            child = subprocess.Popen(
                command, stdin=stream, stdout=quiet, stderr=quiet, env=environment, start_new_session=True
            )
    except OSError:
        return None
    children.callback(_end, child)
    return child


def _end(child: _Child) -> None:
    if child.poll() is None:
        child.kill()
        child.wait()


def _finished_rows(child: _Child | None, out: Path) -> list[dict[str, Any]] | None:
    """The child's rows when it ended well and its file is whole."""
    if child is None:
        return None
    try:
        code = child.wait(CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    if code != 0 or not out.is_file():
        return None
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return rows[:-1] if rows and rows[-1] == "done" else None


def _start_c(folder: Path, children: ExitStack) -> _Child | None:
    quiet = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}
    empty = folder / "nothing"
    empty.touch()
    command = [sys.executable, "-I", "-S", "-B", str(_C_SCRIPT), str(folder / "c.jsonl")]
    return _start(command, empty, quiet, children)


def _add_c_modules(found: Extraction, child: _Child, out: Path) -> None:
    rows = _finished_rows(child, out)
    if rows is None:
        found.missing.append("documentation of the standard library's C code (its child process failed)")
        return
    modules = {module.name: module for module in found.modules.get("stdlib", [])}
    for row in rows:
        module = modules.get(row["name"])
        if module is None:
            module = modules[row["name"]] = ParsedModule(row["name"], is_package=False)
            found.modules.setdefault("stdlib", []).append(module)
        known = {entry.name for entry in module.entries}
        for fields in row["entries"]:
            entry = _c_entry(fields)
            if entry.name not in known and entry.doc:
                module.entries.append(entry)
                module.defined.append(entry.name.partition(".")[0])
    found.modules["stdlib"].sort(key=lambda module: module.name)


def _c_entry(fields: dict[str, str]) -> Entry:
    signature, parameters, doc = split_call_line(fields["doc"], fields["name"] or "-")
    if fields["signature"]:
        _, parameters, _ = split_call_line(f"f{fields['signature']}", "f")
    return Entry(fields["kind"], fields["name"], fields["signature"] or signature, to_prose(doc), parameters)


def _add_topics(found: Extraction) -> None:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        found.missing.append("pydoc_data (on Debian: in libpython3-stdlib)")
        return
    found.topics = {name: to_prose(text) for name, text in sorted(topics.items())}
