"""The secret of the pseudonyms: made once, private, never handed on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmforge.cleaning.pii.key_file import KEY_BYTES, key_path, load_key
from llmforge.errors import DataError, UsageError


def test_the_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "settings" / "pseudonym.key"
    key, made = load_key(path)
    assert made and len(key) == KEY_BYTES and path.stat().st_mode & 0o777 == 0o600
    assert load_key(path) == (key, False)
    os.chmod(path, 0o644)
    with pytest.raises(UsageError, match="read by others"):
        load_key(path)
    path.write_text("no key")
    with pytest.raises(DataError, match="cannot be read"):
        load_key(path)


def test_a_key_inside_the_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="handed on"):
        key_path(str(tmp_path / "corpus" / "k"), tmp_path)
    with pytest.raises(UsageError, match="handed on"):
        key_path(str(tmp_path / "x" / ".." / "corpus" / "k"), tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "corpus")
    with pytest.raises(UsageError, match="handed on"):
        key_path(str(tmp_path / "link" / "k"), tmp_path)
    with pytest.raises(UsageError, match="made anew"):
        key_path(str(tmp_path / "parts" / "k"), tmp_path, ("corpus", "parts"))
    assert key_path(str(tmp_path / "k"), tmp_path, ("corpus", "parts")) == tmp_path / "k"
