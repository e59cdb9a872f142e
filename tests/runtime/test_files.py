"""Whole or not there: atomic files and folders under kills, limits and odd places."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmforge.errors import MachineError, UsageError
from llmforge.runtime.files import (
    digest_file,
    files_below,
    publish_folder,
    restore_folder,
    temporary_sibling,
    write_atomic,
)


def test_write_atomic_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomic(path, "one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file.txt"]


def test_digest_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 1_000_000)
    assert digest_file(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_publish_replaces_and_cleans(tmp_path: Path) -> None:
    final = tmp_path / "corpus"
    for text in ("old", "new"):
        temp = temporary_sibling(final)
        (temp / "a").mkdir()
        (temp / "a" / "b.txt").write_text(text)
        publish_folder(temp, final)
        assert (final / "a" / "b.txt").read_text() == text
    assert os.listdir(tmp_path) == ["corpus"]
    assert [name.as_posix() for name in files_below(final)] == ["a/b.txt"]


def test_a_crash_between_the_renames_is_put_back(tmp_path: Path) -> None:
    old = tmp_path / ".corpus.old"
    old.mkdir()
    (old / "x").write_text("kept")
    restore_folder(tmp_path / "corpus")
    assert (tmp_path / "corpus" / "x").read_text() == "kept"


def test_stale_temporaries_of_dead_processes_go(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    stale = tmp_path / f".corpus.tmp-{child.pid}"
    stale.mkdir()
    own = temporary_sibling(tmp_path / "corpus")
    assert own.is_dir()
    assert not stale.exists()


def test_full_disk_is_a_machine_error_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys, signal; from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from llmforge.runtime.files import write_atomic; from llmforge.errors import MachineError\n"
        "try: write_atomic(Path(sys.argv[1]), b'x' * 5000)\n"
        "except MachineError as error: print(error); sys.exit(error.exit_code)\n"
    )
    path = tmp_path / "f"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == MachineError.exit_code, done.stderr
    assert str(path) in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_place_below_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UsageError):
        write_atomic(tmp_path / "f" / "g", "x")


def test_kill_while_publishing_never_leaves_a_half_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from llmforge.runtime.files import publish_folder, temporary_sibling\n"
        "final = Path(sys.argv[1])\n"
        "for round in range(10**6):\n"
        "    temp = temporary_sibling(final)\n"
        "    for name in 'ab': (temp / name).write_text(str(round))\n"
        "    publish_folder(temp, final)\n"
    )
    final = tmp_path / "artefact"
    for attempt in range(6):
        child = subprocess.Popen([sys.executable, "-c", code, str(final)])
        deadline = time.monotonic() + 20
        while not final.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.03 * attempt)
        child.send_signal(signal.SIGKILL)
        child.wait()
        restore_folder(final)
        assert (final / "a").read_text() == (final / "b").read_text() != ""
