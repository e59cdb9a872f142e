"""What lies in a folder under the names that a run would replace, and is no run's."""

from __future__ import annotations

import os
from pathlib import Path

from llmforge.runtime.owner import LOCK

# What commands put into their run folder, in the place of what has these names.
_WRITTEN = (
    *("config.yaml", "run.json", "manifest.json", "log.txt", "metrics.jsonl", "samples.jsonl", "report.html"),
    *("audit.json", "pseudonyms.vault", "held_out.json"),
    *("corpus", "parts", "classifier", "tokenizer", "tokens", "model", "adapter", "checkpoints"),
)
_PARTS = (".part", ".done")


def foreign_entry(folder: Path) -> str | None:
    """The first name in a folder that was never a run's which a run would replace; None where there is none.

    A folder with a lock is or was a run's. Artefacts and run folders of other commands do not count: a step's folder
    lies in that of its pipeline, and may have been made by itself before.
    """
    if (folder / LOCK).exists():
        return None
    return next((name for name in _WRITTEN if os.path.lexists(folder / name) and not _made(folder / name)), None)


def _made(path: Path) -> bool:
    """Whether a folder is empty, an artefact, a run folder, or what shards of `clean` leave without owning one."""
    if not path.is_dir():
        return False
    if any((path / name).is_file() for name in ("manifest.json", LOCK, "run.json")):
        return True
    return all(entry.suffix in _PARTS for entry in path.iterdir())
