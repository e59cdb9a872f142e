"""The manifest of an artefact: what it is, SHA-256 and size of every file, and what it was made from.

Makes of a finished folder a `manifest.json`, and of a folder with one a checked `Manifest`; does not know what the
files mean. The digest of a manifest stands for the artefact wherever another one names what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

from llmforge.errors import DamagedError, DataError
from llmforge.runtime.blocks import digest_with_blocks
from llmforge.runtime.files import digest_file, files_below, restore_folder, write_atomic

NAME = "manifest.json"
FORMAT = 1
_READERS = 4
_PACKAGES = (
    "llmforge",
    "torch",
    "numpy",
    "sentencepiece",
    "tokenizers",
    "safetensors",
    "datasets",
    "pyarrow",
    "pydantic",
)


@dataclass(frozen=True)
class Manifest:
    """A read manifest: `files` maps a relative path to (sha256, bytes); `digest` is the SHA-256 of its content."""

    kind: str
    files: dict[str, tuple[str, int]]
    config: dict[str, object]
    made_from: dict[str, str]
    seeds: dict[str, int]
    facts: dict[str, object]
    digest: str
    # checksums of each file's blocks (runtime.blocks), which say where a changed file was changed; not part of `digest`
    blocks: dict[str, str] = field(default_factory=dict)


@cache
def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that shape an artefact, without importing them."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """The commit of the checkout that the code runs from, with `-dirty` when it was changed; None outside git."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


def _digest(body: dict[str, object]) -> str:
    # Config, versions and commit may differ between two runs that made the same bytes of the same inputs (another
    # output_dir, more workers): the identity leaves them out, so that nothing made from it has to be made again.
    identity = {key: body[key] for key in ("kind", "files", "made_from")}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _seal(body: dict[str, object]) -> str:
    """SHA-256 over everything else in the manifest, so that a flipped bit in its config or counts is noticed too."""
    rest = {key: value for key, value in body.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_manifest(
    folder: Path,
    kind: str,
    *,
    config: dict[str, object],
    made_from: dict[str, str] | None = None,
    seeds: dict[str, int] | None = None,
    facts: dict[str, object] | None = None,
) -> str:
    """Writes `manifest.json` over all files now in `folder` and returns the manifest's digest.

    `config` is the resolved config, `made_from` maps a name to the digest of the artefact's manifest it was made
    from, `facts` are counts worth keeping (they are not part of the digest).
    """
    names = [name for name in files_below(folder) if name.as_posix() != NAME]
    # hashlib and zlib work outside Python's lock, so files are read side by side.
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(digest_with_blocks, [folder / name for name in names])
        sums = dict(zip((name.as_posix() for name in names), found, strict=True))
    files = {name: [sha256, (folder / name).stat().st_size] for name, (sha256, _) in sums.items()}
    body: dict[str, object] = {
        "kind": kind,
        "format": FORMAT,
        "files": files,
        "blocks": {name: blocks for name, (_, blocks) in sums.items()},
        "config": config,
        "made_from": made_from or {},
        "seeds": seeds or {},
        "facts": facts or {},
        "versions": versions(),
        "git_commit": git_commit(),
    }
    body["digest"] = _digest(body)
    body["seal"] = _seal(json.loads(json.dumps(body)))  # as a reader sees it: keys are strings there
    write_atomic(folder / NAME, json.dumps(body, indent=2, sort_keys=True) + "\n")
    return str(body["digest"])


def _load(folder: Path, kind: str) -> Manifest:
    path = folder / NAME
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        files = {name: (str(entry[0]), int(entry[1])) for name, entry in body["files"].items()}
        manifest = Manifest(
            kind=body["kind"],
            files=files,
            config=body["config"],
            made_from=body["made_from"],
            seeds=body["seeds"],
            facts=body["facts"],
            digest=body["digest"],
            blocks={str(name): str(sums) for name, sums in dict(body.get("blocks", {})).items()},
        )
        if _digest(body) != manifest.digest or body.get("seal", "") not in ("", _seal(body)):
            raise DamagedError("the manifest does not match its own digest", path, "make the artefact again")
    except FileNotFoundError as error:
        hint = f"give a {kind} folder that llmforge made"
        raise DataError(f"no {kind} here: there is no {NAME}", folder, hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise DamagedError("the manifest cannot be read", path, "make the artefact again") from error
    if manifest.kind != kind:
        raise DataError(f"a {manifest.kind} artefact where a {kind} is needed", folder, f"give a {kind} folder")
    return manifest


def load_manifest(folder: Path, kind: str) -> Manifest:
    """The manifest itself, checked against its own digest, without a look at the files; raises as `read_manifest`."""
    return _load(folder, kind)


def read_manifest(folder: Path, kind: str, verify: Literal["sizes", "digests"] = "sizes") -> Manifest:
    """Reads and checks an artefact's manifest.

    Raises:
        DataError: the folder holds no artefact, or one of another kind.
        DamagedError: a file is missing, has another size or (verify="digests") other bytes; the line names it.
    """
    manifest = _load(folder, kind)
    for name, (_, size) in manifest.files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DamagedError(f"the manifest names a file outside the folder ({name})", folder / NAME)
        if not path.is_file():
            raise DamagedError("a file of the artefact is missing", path, "make the artefact again")
        if path.stat().st_size != size:
            found = path.stat().st_size
            raise DamagedError(f"the file has {found} bytes, {size} were written", path, "make the artefact again")
    if verify == "digests":
        _check_digests(folder, manifest)
    return manifest


def _check_digests(folder: Path, manifest: Manifest) -> None:
    with ThreadPoolExecutor(_READERS) as pool:
        paths = [folder / name for name in manifest.files]
        found = pool.map(_digest_of, paths)
        for path, digest, (sha256, _) in zip(paths, found, manifest.files.values(), strict=True):
            if digest != sha256:
                pool.shutdown(wait=False, cancel_futures=True)
                raise DamagedError("the file was changed: its SHA-256 differs", path, "make the artefact again")


def _digest_of(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as error:  # a bad sector, most often
        hint = "look at the disk, and make the artefact again"
        raise DamagedError(f"the file cannot be read: {error.strerror}", path, hint) from error


def find_artefact(path: Path | str, kind: str) -> Path:
    """The folder of an artefact, given itself or the run folder that holds it as `<path>/<kind>`.

    Raises:
        DataError: neither is there.
    """
    given = Path(path)
    inner = given / kind
    restore_folder(inner)
    if (inner / NAME).is_file():
        return inner
    if (given / NAME).is_file() and not (given / "run.json").is_file():
        return given
    if not given.exists():
        raise DataError("no such folder", given, f"make it first, or name another {kind} folder")
    raise DataError(f"no {kind} here: neither {NAME} nor {kind}/{NAME} exists", given, f"give a {kind} or run folder")


def manifest_digest(path: Path | str, kind: str) -> str:
    """The digest that stands for an artefact, without checking its files."""
    return _load(find_artefact(path, kind), kind).digest
