"""A safetensors file of tensors, written so that a full disk is told as every other write tells it.

Knows no artefact: the caller has made the folder, and renames it when all of it is there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.runtime.files import disk_errors

if TYPE_CHECKING:
    from torch import Tensor

# safetensors 0.8 has one exception for everything; an error of the system ends in Rust's own words for it.
_OF_THE_SYSTEM = re.compile(r"\(os error (\d+)\)")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes contiguous tensors on the CPU, no two of them in the same memory.

    Raises:
        MachineError: the disk is full or fails; the line has the bytes that were to be written.
        UsageError: the place may not be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    needed = sum(value.numel() * value.element_size() for value in tensors.values())
    with disk_errors(path, needed):
        try:
            save_file(dict(tensors), path, metadata=metadata)
        except SafetensorError as error:
            found = _OF_THE_SYSTEM.search(str(error))
            if found is None:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
