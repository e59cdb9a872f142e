"""Libraries that only some sources need, by the name of the extra that installs them; and libraries' versions."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from importlib import metadata
from typing import Any

from llmforge.errors import MachineError


def load_extra(module: str, extra: str, where: str) -> Any:
    """The imported module.

    Raises:
        MachineError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        hint = f"install it with: pip install 'llmforge[{extra}]'"
        raise MachineError(f"reading this needs the package {module.partition('.')[0]}", where, hint) from None


def has_extra(module: str) -> bool:
    """Whether the module could be imported, found out without importing it."""
    return importlib.util.find_spec(module) is not None


@cache
def version_of(package: str) -> str:
    """`package==version`, or `package==` when it is not installed."""
    try:
        return f"{package}=={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package}=="
