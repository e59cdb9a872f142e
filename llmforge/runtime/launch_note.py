"""A note in a run folder of the launch that works in it, so that a rank which its agent starts again knows whether
`--resume never` or `--resume FOLDER` has been done by now.
"""

from __future__ import annotations

import os
from pathlib import Path

from llmforge.runtime.files import write_atomic

TOGETHER = "llmforge"  # what launches on several machines are all called
_RUN_ID = "TORCHELASTIC_RUN_ID"
_NOT_ONE = frozenset({TOGETHER, "none"})  # the latter is torchrun's default
_BEGUN = ".launch"


def is_launched() -> bool:
    """Whether an agent started this rank."""
    return _RUN_ID in os.environ


def note_begun(folder: Path) -> None:
    """Notes in a run folder that this launch has begun its work there: earlier states are gone, or its own is there."""
    write_atomic(folder / _BEGUN, os.environ[_RUN_ID])


def has_begun(folder: Path) -> bool:
    """Whether `note_begun` was called by this launch, before this rank was started again.

    Launches on several machines have no name of their own, so any note counts there.
    """
    name = os.environ.get(_RUN_ID, TOGETHER)
    try:
        return name in _NOT_ONE or (folder / _BEGUN).read_text(encoding="utf-8") == name
    except OSError:
        return False
