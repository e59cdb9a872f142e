"""The secret key of the pseudonyms: a file of the user's, readable by them alone, never inside a corpus."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Collection
from pathlib import Path

from llmforge.errors import DataError, UsageError
from llmforge.runtime.files import disk_errors

KEY_BYTES = 32


def default_key_file() -> Path:
    """`llmforge/pseudonym.key` in the user's configuration folder (XDG_CONFIG_HOME, else ~/.config)."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "llmforge" / "pseudonym.key"


def key_path(setting: str | None, output_dir: Path, made: Collection[str] = ("corpus",)) -> Path:
    """The key file that a config means; `made` are the folders in `output_dir` that a run makes.

    Raises:
        UsageError: it lies in one of them: the corpus is handed on, and all are made anew.
    """
    path = Path(setting).expanduser() if setting else default_key_file()
    if any(path.resolve().is_relative_to((output_dir / folder).resolve()) for folder in made):
        what = "the key would be handed on with the corpus, or removed with what is made anew"
        raise UsageError(what, path, f"set anonymize.key_file outside of {output_dir}")
    return path


def name_of_key(key: bytes) -> str:
    """Eight letters that tell keys apart and nothing of them."""
    return hashlib.sha256(b"name" + key).hexdigest()[:8]


def load_key(path: Path) -> tuple[bytes, bool]:
    """The key, and whether it was made just now (32 random bytes as hexadecimal, mode 0600).

    Raises:
        DataError: the file cannot be read or holds no key.
        UsageError: others may read it, or it cannot be made.
    """
    made = _make(path)
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except (OSError, ValueError) as error:
        hint = "restore it, or move it away to begin with new pseudonyms"
        raise DataError("the key of the pseudonyms cannot be read", path, hint) from error
    if len(key) < KEY_BYTES:
        raise DataError(f"the key has {len(key)} bytes, {KEY_BYTES} are needed", path, "restore it or move it away")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError("the key can be read by others", path, f"chmod 600 {path}")
    return key, made


def _make(path: Path) -> bool:
    if path.exists():
        return False
    with disk_errors(path, way_out="name another anonymize.key_file"):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(secrets.token_hex(KEY_BYTES) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            # A link fails where another process was quicker; then its key is the one that counts.
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
    return True
