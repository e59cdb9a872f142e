"""The experiments' own tools, and a few of their cases at the least size; the whole matrix is scripts/test-chaos.sh."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ROOT / "scripts"

# A save as the product makes it: a file, flushed, renamed, in a process with the hooks of a spec.
SAVE = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import chaos_hooks
chaos_hooks.install(json.loads(sys.argv[2]))
from pathlib import Path
from llmforge.runtime.files import write_atomic
for number in range(3):
    write_atomic(Path(sys.argv[3]) / "below" / "file", str(number))
(Path(sys.argv[3]) / "elsewhere").write_text("not counted")
"""


def save(place: Path, spec: dict[str, object]) -> subprocess.CompletedProcess[str]:
    spec = {"below": str(place / "below"), **spec}
    arguments = [sys.executable, "-c", SAVE, str(SCRIPTS), json.dumps(spec), str(place)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=120)


def test_boundaries_are_counted_and_hit_one_by_one(tmp_path: Path) -> None:
    """Killed at any boundary of three atomic writes, the file is whole: the one before or the new one."""
    whole = tmp_path / "whole"
    whole.mkdir()
    done = save(whole, {"record": str(whole / "events")})
    assert done.returncode == 0, done.stderr
    events = (whole / "events").read_text().splitlines()
    kinds = {event.rsplit(" ", 1)[0] for event in events}
    assert {"before open", "before fsync", "after fsync", "before rename", "after replace"} <= kinds
    assert not any("elsewhere" in event for event in events)
    # The second write's, of which the first is there already.
    second = [number for number, event in enumerate(events, start=1) if event.startswith("after replace")][0]
    for at in range(second + 1, 2 * second + 1, 2):
        place = tmp_path / str(at)
        place.mkdir()
        assert save(place, {"kill_at": at}).returncode == -9, events[at - 1]
        assert (place / "below" / "file").read_text() in ("0", "1"), events[at - 1]


def test_an_error_of_the_disk_is_ours_and_names_the_path(tmp_path: Path) -> None:
    done = save(tmp_path, {"error_at": [2, "ENOSPC"]})
    assert done.returncode == 1 and "MachineError" in done.stderr and "No space left" in done.stderr


@pytest.fixture(scope="module")
def tools() -> Iterator[object]:
    """The scripts' modules, which are no package."""
    sys.path.insert(0, str(SCRIPTS))
    import chaos_damage

    yield chaos_damage
    sys.path.remove(str(SCRIPTS))


def test_every_harm_changes_the_folder(tools: object, tmp_path: Path) -> None:
    """An experiment that breaks nothing would pass whatever the product does."""
    lab = type("Lab", (), {"rng": random.Random(0)})()
    folder = tmp_path / "folder"
    for name in ("_flip", "_truncate", "_zero", "_delete", "_swap"):
        for _ in range(5):
            folder.mkdir()
            for number, file in enumerate(("a.json", "b.json", "c.bin")):
                (folder / file).write_bytes(random.Random(number).randbytes(9000))
            before = {path.name: path.read_bytes() for path in folder.iterdir()}
            getattr(tools, name)(lab, folder)
            after = {path.name: path.read_bytes() for path in folder.iterdir()}
            assert before != after, name
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


def test_other_content_without_a_word_is_a_failure(tools: object, tmp_path: Path) -> None:
    """The judge of F6: noticed, fell back, harmless and WRONG are told apart."""
    from llmforge.errors import DamagedError

    class Lab:
        rng = random.Random(0)

        def place(self, name: str) -> Path:
            return tmp_path / f"{name}-{self.rng.random()}"

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(bytes(100))

    def judged(answer: dict[str, str] | Exception, noticed: bool = True) -> str:
        def read(path: Path) -> dict[str, str]:
            if isinstance(answer, Exception):
                raise answer
            return answer

        target = tools.Target("t", folder, read, lambda _: noticed)  # type: ignore[attr-defined]
        kind, _ = tools._try(Lab(), target, tools._flip, {"version": "2", "content": "x"})  # type: ignore[attr-defined]
        return str(kind)

    assert judged(DamagedError("changed")) == "noticed"
    assert judged({"version": "2", "content": "x"}, noticed=False) == "WRONG"
    assert judged({"version": "2", "content": "x"}) == "harmless"
    assert judged({"version": "2", "content": "y"}) == "WRONG"
    assert judged({"version": "1", "content": "y", "earlier": "1", "notes": "2 is damaged"}) == "fell back"
    assert judged({"version": "1", "content": "y", "earlier": "1", "notes": ""}) == "WRONG"
    assert judged(KeyError("x")) == "WRONG"


@pytest.mark.parametrize(("difference", "survived"), [(None, 1), ("line 3 differs", 0)])
def test_an_error_that_ended_nothing_is_judged_by_what_was_made(
    difference: str | None, survived: int, tools: object, tmp_path: Path
) -> None:
    """The judge of F5: a command that swallows an I/O error and ends well must have made the undisturbed bits."""
    import chaos_disk
    from chaos_lab import Outcome

    lab: Any = type("Lab", (), {})()
    lab.rng, lab.whole, lab.tokens = random.Random(0), (tmp_path / "whole", 1.0), tmp_path
    lab.place, lab.pretrain = lambda name: tmp_path / name, lambda output: {}
    lab.run = lambda *_, **options: type("Child", (), {"returncode": 0})()
    lab.compare, lab.drop = lambda output: difference, lambda *folders: None
    done = Outcome("F5", "")
    chaos_disk._one_error(lab, done, "pretrain", 3, "before fsync file")
    assert (done.tried, done.survived) == (1, survived)


@pytest.mark.slow
def test_a_few_cases_of_the_matrix(tmp_path: Path) -> None:
    """Damage of every kind, changed configs and two owners, each once: about a minute."""
    path = tmp_path / "chaos.json"
    arguments = [
        sys.executable,
        str(SCRIPTS / "chaos.py"),
        "--only",
        "F6,F10,F11",
        "--minutes",
        "1",
        "--json",
        str(path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    faults = json.loads(path.read_text())["faults"]
    assert {fault["fault"] for fault in faults} == {"F6", "F10", "F11"}
    assert all(fault["tried"] == fault["survived"] > 0 for fault in faults)
    assert sum(fault["tried"] for fault in faults) > 100
