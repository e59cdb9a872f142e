"""How far an unfinished `tokenize` came, kept beside its shards, so that the same command goes on after a kill.

`progress.json` names every whole shard with its SHA-256, the counts so far and what all of it is made of. A shard is
the unit: the one that was being filled is filled again, from the first document behind the last whole shard.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from llmforge.runtime.files import digest_file, write_atomic

PROGRESS_FILE = "progress.json"


@dataclass
class SplitCounts:
    """What a split holds."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass
class Progress:
    """Whole shards: `files` with their digests, `shards` and `counts` by split, and the names met so far in order."""

    makings: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    counts: dict[str, SplitCounts] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)  # splits that are written to their end

    def save(self, folder: Path) -> None:
        """Puts it beside the shards."""
        write_atomic(folder / PROGRESS_FILE, json.dumps(asdict(self), indent=2) + "\n")


def find_progress(folder: Path, makings: Mapping[str, str]) -> Progress:
    """The progress of an earlier, unfinished run in `folder` made of the very same; else a new one in an empty folder.

    Raises:
        UsageError, MachineError: the folder may not be written.
    """
    found = _read(folder)
    whole = found is not None and found.makings == dict(makings) and _is_whole(folder, found)
    if found is None or not whole:
        shutil.rmtree(folder, ignore_errors=True)
        found = Progress(dict(makings))
        found.save(folder)
    return found


def _read(folder: Path) -> Progress | None:
    try:
        body = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
        counts = {split: SplitCounts(**values) for split, values in body.pop("counts").items()}
        return Progress(**body, counts=counts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_whole(folder: Path, progress: Progress) -> bool:
    try:
        return all(digest_file(folder / name) == digest for name, digest in progress.files.items())
    except OSError:
        return False
