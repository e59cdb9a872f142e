"""Files that are whole or not there: written beside their place, flushed to the disk, renamed.

Makes of bytes or a folder a finished file or folder; does not know what is in it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmforge.errors import MachineError, UsageError

_BLOCK = 1 << 20
_REFUSED = frozenset(
    (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT)
)


@contextmanager
def disk_errors(path: Path, needed: int | None = None, way_out: str = "choose another output_dir") -> Iterator[None]:
    """Turns the operating system's refusal to write into a line that names the path, the `needed` bytes if given, and a
    `way_out`.

    Raises:
        MachineError: the disk is full, read-only or failing.
        UsageError: the place may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS):
            hint = f"free space or {way_out}"
            size = "" if needed is None else f" {needed:,} bytes"
            raise MachineError(f"cannot write{size}: {error.strerror}", path, hint) from error
        if error.errno in _REFUSED:
            raise UsageError(f"cannot write: {error.strerror}", path, way_out) from error
        raise


def sync_file(path: Path) -> None:
    """Returns when a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; when it returns, the name of every new one is on the disk."""
    new, place = [], folder
    while not place.exists():
        new.append(place)
        place = place.parent
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(new):
        sync_file(made.parent)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Puts `content` at `path`, whole: a reader sees the old file or the new one, never a part."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with disk_errors(path):
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.tmp-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_file(path.parent)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """All regular files below a folder, as paths relative to it, in stable order."""
    return sorted(found.relative_to(folder) for found in folder.rglob("*") if found.is_file())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def temporary_sibling(final: Path) -> Path:
    """A new empty folder beside `final`, on the same file system; those that killed processes left are removed."""
    with disk_errors(final):
        make_folder(final.parent)
        for stale in final.parent.glob(f".{final.name}.tmp-*"):
            owner = stale.name.rsplit("-", 1)[-1]
            if owner.isdigit() and int(owner) != os.getpid() and not _alive(int(owner)):
                shutil.rmtree(stale, ignore_errors=True)
        temp = final.parent / f".{final.name}.tmp-{os.getpid()}"
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
    return temp


def sync_folder(folder: Path) -> None:
    """Flushes every file and folder below `folder` to the disk."""
    for name in files_below(folder):
        sync_file(folder / name)
    for inner in [folder, *(found for found in folder.rglob("*") if found.is_dir())]:
        sync_file(inner)


def publish_folder(temp: Path, final: Path) -> None:
    """Renames a finished folder to its place; an older one there is moved aside first and removed last.

    A crash between the two renames leaves the old folder under `.<name>.old`, which the next call puts back
    through `restore_folder`.
    """
    with disk_errors(final):
        sync_folder(temp)
        old = final.parent / f".{final.name}.old"
        restore_folder(final)
        if final.exists():
            os.rename(final, old)
        os.rename(temp, final)
        sync_file(final.parent)
        shutil.rmtree(old, ignore_errors=True)


def restore_folder(final: Path) -> None:
    """Puts back the older folder when a crash hit between the two renames of `publish_folder`."""
    old = final.parent / f".{final.name}.old"
    if old.is_dir():
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, final)
