"""A path, folder or pattern to the files that hold text, in an order that never changes.

A folder is walked through links, each real folder once, hidden names skipped; a file is known by its suffix (with .gz,
.zst, .xz or .bz2 behind it); others are counted, not read.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from llmforge.corpus.compressed import COMPRESSIONS
from llmforge.errors import DataError

SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".warc": "warc",
    ".wet": "warc",
    ".pdf": "pdf",
    ".epub": "epub",
    ".docx": "docx",
    ".zip": "zip",
    ".tar": "tar",
}
ARCHIVES = frozenset(["zip", "tar"])
TAR_SUFFIXES = frozenset([".tgz", ".tzst", ".txz", ".tbz2"])  # each stands for .tar and a compression
KNOWN = (
    "txt, md, html, jsonl, json, csv, tsv, parquet, warc, pdf, epub, docx, each also with .gz, .zst, .xz or .bz2, "
    "and zip and tar of them"
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to read: where it is, its name below the root that was asked for, its format, bytes and time of change."""

    path: Path
    name: str
    format: str
    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What a path holds; `skipped` counts the regular files of unknown kind by suffix."""

    files: tuple[FoundFile, ...]
    skipped: dict[str, int]

    @property
    def folders(self) -> frozenset[Path]:
        """Those that the files lie in."""
        return frozenset(file.path.parent for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files as they lie on disk."""
        return sum(file.size for file in self.files)


def format_of(path: PurePath) -> str | None:
    """The format that the file's suffix stands for; None when unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in TAR_SUFFIXES:
        return "tar"
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def find_files(path: str, format: str = "auto") -> Listing:
    """The files of `path`; DataError when there is none. A `format` other than "auto" is taken for every file."""
    root = Path(path).expanduser()
    pairs: Iterator[tuple[Path, str]]
    if root.is_dir():
        pairs = ((found, found.relative_to(root).as_posix()) for found in _walk(root))
    elif _exists(root):
        pairs = iter([(root, root.name)])
    elif glob.has_magic(path):
        pairs = _matches(str(root))
    else:
        raise DataError("does not exist", path, "paths are taken from the current folder")
    listing = _listing(pairs, format)
    if not listing.files:
        raise _nothing(path, root, listing)
    return listing


def covers(path: str, place: Path) -> bool:
    """Whether what lies at `place` (absolute, without links), or would lie there, is read with a folder or pattern."""
    root = Path(path).expanduser()
    if root.is_dir():
        return place.is_relative_to(root.resolve())
    if _exists(root) or not glob.has_magic(path):
        return False
    fixed, pattern = _fixed_part(root)
    fixed = fixed.resolve()
    names = place.relative_to(fixed).parts if place.is_relative_to(fixed) else ()
    if any(name.startswith(".") for name in names):
        return False  # patterns and walks pass over hidden names
    return any(_fits(names[:count], pattern) for count in range(1, len(names) + 1))


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a pattern names a path, both in their parts."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[begin:], pattern[1:]) for begin in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])


def _fixed_part(pattern: Path) -> tuple[Path, Sequence[str]]:
    """The folder before the first part of a pattern that has magic, and the parts from that on."""
    parts = pattern.parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed]), parts[fixed:]


def root_of(path: str) -> Path:
    """What the names of `find_files` are below: the folder itself, a file's folder, or a pattern's fixed part."""
    root = Path(path).expanduser()
    if root.is_dir():
        return root
    if _exists(root):
        return root.parent
    return _fixed_part(root)[0]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", str(path)) from None


def _nothing(path: str, root: Path, listing: Listing) -> DataError:
    if root.exists() and not root.is_dir() and not root.is_file():
        return DataError("is not a regular file", path)
    if root.is_file():
        return DataError("is of no known kind", path, f"known are {KNOWN}; or set the source's format")
    skipped = ", ".join(f"{count} {suffix}" for suffix, count in listing.skipped.items())
    return DataError(f"holds no file to read{f' (only {skipped})' if skipped else ''}", path, f"known are {KNOWN}")


def _listing(pairs: Iterator[tuple[Path, str]], format: str) -> Listing:
    files: list[FoundFile] = []
    skipped: dict[str, int] = {}
    for path, name in pairs:
        try:
            facts = path.stat()
        except OSError:
            skipped["broken links"] = skipped.get("broken links", 0) + 1
            continue
        if not stat.S_ISREG(facts.st_mode):
            continue
        kind = format_of(path)
        if format != "auto" and kind not in ARCHIVES:  # an archive's members are of that format
            kind = format
        if kind is None:
            suffix = path.suffix or "without a suffix"
            skipped[suffix] = skipped.get(suffix, 0) + 1
        else:
            files.append(FoundFile(path, name, kind, facts.st_size, facts.st_mtime_ns))
    files.sort(key=lambda file: file.name.encode("utf-8", "surrogateescape"))
    return Listing(tuple(files), dict(sorted(skipped.items())))


def _matches(pattern: str) -> Iterator[tuple[Path, str]]:
    """Files that the pattern names, by their place below its fixed part; folders among them are walked."""
    root, _ = _fixed_part(Path(pattern))
    seen: set[str] = set()
    for match in glob.iglob(pattern, recursive=True):
        found = Path(match)
        for path in _walk(found) if found.is_dir() and "**" not in pattern else (found,):
            name = path.relative_to(root).as_posix()
            if name not in seen:
                seen.add(name)
                yield path, name


def _walk(root: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    stack = [root]
    while stack:
        folder = stack.pop()
        try:
            facts = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", str(folder)) from None
        if (facts.st_dev, facts.st_ino) in seen:
            continue
        seen.add((facts.st_dev, facts.st_ino))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if _is_folder(path):
                stack.append(path)
            else:
                yield path


def _is_folder(path: Path) -> bool:
    """False for a link that leads to itself, which is counted as broken later."""
    try:
        return path.is_dir()
    except OSError:
        return False
