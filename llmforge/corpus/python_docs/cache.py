"""The built-in corpus on disk: extracted once for each set of versions, then read from the user's cache folder.

    <cache>/llmforge/python-docs-<key>/  documents.jsonl.zst  conversations.jsonl.zst  ...  facts.json

The key is a digest of the versions of Python and the packages and of the code that extracts. The folder appears whole
or not at all; its files are checked by digest each time, and made again when one has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from llmforge.corpus.python_docs.roots import versions
from llmforge.errors import LlmforgeError, MachineError
from llmforge.runtime.files import digest_file, temporary_sibling

FACTS = "facts.json"
ZSTD_LEVEL = 6
Parts = dict[str, Iterable[dict[str, object]]]
Make = Callable[[], tuple[Parts, dict[str, object]]]


@cache
def key() -> str:
    """What the corpus is a function of, as a digest: versions and code. Reads no documentation."""
    state = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        state.update(path.read_bytes())
    state.update(Path(__file__).parent.parent.joinpath("split.py").read_bytes())
    return state.hexdigest()


def cached_folder() -> Path | None:
    """The folder of this key when it is there and whole, by the sizes of its files."""
    folder = _home() / f"python-docs-{key()[:24]}"
    return folder if _is_whole(folder, digests=False) else None


def open_folder(make: Make) -> Path:
    """The cached folder, made first when it is not there, or when a file of it has changed."""
    home = _home()
    folder = home / f"python-docs-{key()[:24]}"
    if _is_whole(folder, digests=True):
        return folder
    parts, facts = make()
    try:
        return _publish(folder, parts, facts)
    except (OSError, LlmforgeError) as error:
        if home == _fallback():
            raise MachineError(f"cannot keep the built-in corpus ({error})", home, "set XDG_CACHE_HOME") from None
        return _publish(_fallback() / folder.name, parts, facts)


def read_facts(folder: Path) -> dict[str, object]:
    """What is recorded of the extraction: versions, digest, counts, what is missing."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return dict(facts)


def _home() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        home = Path(given) if given and Path(given).is_absolute() else Path.home() / ".cache"
        (home / "llmforge").mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return _fallback()
    return home / "llmforge" if os.access(home / "llmforge", os.W_OK) else _fallback()


@cache
def _fallback() -> Path:
    """A folder of this process alone, for a machine whose cache folder cannot be written."""
    return Path(tempfile.mkdtemp(prefix="llmforge-cache-"))


def _is_whole(folder: Path, digests: bool) -> bool:
    try:
        files = read_facts(folder)["files"]
        if not isinstance(files, dict):
            return False
        for name, (size, digest) in files.items():
            path = folder / name
            if path.stat().st_size != size or (digests and digest_file(path) != digest):
                return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _publish(folder: Path, parts: Parts, facts: dict[str, object]) -> Path:
    temp = temporary_sibling(folder)
    try:
        files: dict[str, tuple[int, str]] = {}
        contents: dict[str, str] = {}
        for name, rows in parts.items():
            path = temp / f"{name}.jsonl.zst"
            contents[name] = _write_rows(path, rows)
            files[path.name] = (path.stat().st_size, digest_file(path))
        whole = {**facts, "key": key(), "digests": contents, "files": files}
        (temp / FACTS).write_text(json.dumps(whole, indent=1), encoding="utf-8")
        if folder.exists() and not _is_whole(folder, digests=True):
            shutil.rmtree(folder, ignore_errors=True)
        try:
            os.rename(temp, folder)
        except OSError:
            if not _is_whole(folder, digests=True):  # otherwise another process was first, with the same content
                raise
        return folder
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _write_rows(path: Path, rows: Iterable[dict[str, object]]) -> str:
    """Write the rows and give the digest of their bytes before compression."""
    import orjson
    import zstandard

    state = hashlib.sha256()
    with path.open("xb") as raw, zstandard.ZstdCompressor(ZSTD_LEVEL, write_checksum=True).stream_writer(raw) as out:
        for row in rows:
            line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
            state.update(line)
            out.write(line)
    return state.hexdigest()
