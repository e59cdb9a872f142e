"""Where the documented source files are, and which versions they have: found without importing any package."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "sympy", "numpy", "pandas", "networkx")
SOURCES = ("stdlib", "topics", *PACKAGES)
_SKIPPED_FOLDERS = frozenset(
    "test tests idlelib lib2to3 turtledemo site-packages dist-packages __pycache__ pydoc_data _vendor vendor "
    "ensurepip __phello__ lib-dynload encodings benchmarks".split()
)
_SKIPPED_MODULES = (
    "torch.testing._internal", "torch._inductor", "torch._dynamo", "torch._functorch", "torch._export", "torch._numpy",
    "torch._refs", "torch._decomp", "torch._prims", "torch._subclasses",
    "sympy.parsing.latex._antlr", "sympy.parsing.autolev._antlr",
)  # fmt: skip
_SKIPPED_FILES = frozenset(("antigravity.py", "this.py", "conftest.py", "ntpath.py", "__main__.py", "_pydecimal.py"))


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One Python file to parse: its source (stdlib, torch, ...), module name, and bytes, to share out the work."""

    source: str
    path: str
    name: str
    is_package: bool
    size: int


def versions() -> dict[str, str]:
    """The version of Python and of every documented package that is installed."""
    found = {"python": f"{sys.implementation.name} {sys.version.split()[0]} {sys.platform}"}
    for package in PACKAGES:
        if package_folder(package) is not None:
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                found[package] = "unknown"
    return found


def package_folder(package: str) -> Path | None:
    """The folder of an installed package; a top-level name is found without running any of it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def source_files() -> list[SourceFile]:
    """All files to parse, by source and module name."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [file for file in _below(library, "stdlib", "")]
    for package in PACKAGES:
        folder = package_folder(package)
        if folder is not None:
            files.extend(_below(folder, package, package))
    return sorted(files, key=lambda file: (SOURCES.index(file.source), file.name))


def _below(root: Path, source: str, prefix: str) -> Iterator[SourceFile]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in _SKIPPED_FOLDERS and name.isidentifier()]
        parts = Path(folder).relative_to(root).parts
        module = ".".join(part for part in (prefix, *parts) if part)
        if module.startswith(_SKIPPED_MODULES):
            names.clear()
            continue
        for file in files:
            if not file.endswith(".py") or file in _SKIPPED_FILES or file.startswith("test_"):
                continue
            path = os.path.join(folder, file)
            stem = file[:-3]
            is_package = stem == "__init__"
            name = module if is_package else f"{module}.{stem}" if module else stem
            if name:
                yield SourceFile(source, path, name, is_package, os.path.getsize(path))
