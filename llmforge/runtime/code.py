"""Which code made something: a digest of llmforge's own sources, so that what other code made is made again."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def code_digest(*packages: str) -> str:
    """SHA-256 over the names and texts of all of llmforge's own files, or of those of these packages."""
    root = Path(__file__).resolve().parent.parent
    folders = [root / package for package in packages] or [root]
    state = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        state.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()
