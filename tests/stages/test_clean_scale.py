"""`llmforge clean` on several machines: Ray's two nodes and datatrove's processes give the bytes of one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmforge.cleaning.pieces import PARTS
from llmforge.runtime.console import Console
from llmforge.stages.clean import run
from tests.cleaning.test_scale import needs, two_nodes  # noqa: F401  (a fixture)
from tests.stages.test_clean_stage import config_of, files, prose

QUIET = Console(quiet=True, json=True)
# Both engines warn of their own insides.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abcdef":
        rows = [{"text": prose(100 * ord(name) + number, 12), "id": f"{number}"} for number in range(1500)]
        rows += [{"text": rows[7]["text"], "id": "copy"}, {"text": "too short", "id": "short"}]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.txt").write_text(prose(7 * ord(name)))
    return folder


def same_as_alone(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: str) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    key = "anonymize={key_file: " + str(tmp_path / "secret") + "}"
    alone = run(config_of(texts, tmp_path / "alone", key, "sources.0.id_key=id"), QUIET)
    monkeypatch.chdir(tmp_path)  # a relative path must mean the same on the other nodes
    scaled = run(config_of(Path("texts"), Path("scaled"), key, "sources.0.id_key=id", scale), QUIET)
    assert scaled["kept"] == alone["kept"] and scaled["dropped"] == alone["dropped"]
    assert files(tmp_path / "scaled" / "corpus") == files(tmp_path / "alone" / "corpus")
    names = {path.name for path in (tmp_path / "alone" / PARTS).iterdir()}
    assert {path.name for path in (tmp_path / "scaled" / PARTS).iterdir()} == names


def test_processes_of_datatrove(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("datatrove")
    same_as_alone(texts, tmp_path, monkeypatch, "scale={engine: processes, shards: 4, max_running: 2}")


def test_two_nodes_of_ray(
    two_nodes: str,  # noqa: F811
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scale = f"scale={{engine: ray, shards: 4, memory_per_cpu_gb: 0.1, ray_address: '{two_nodes}'}}"
    same_as_alone(texts, tmp_path, monkeypatch, scale)
