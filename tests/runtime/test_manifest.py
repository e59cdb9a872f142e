"""A manifest names every file; any change, loss or foreign folder is noticed by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmforge.errors import DamagedError, DataError
from llmforge.runtime.manifest import find_artefact, manifest_digest, read_manifest, write_manifest


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "corpus"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("hello")
    (folder / "sub" / "b.bin").write_bytes(bytes(100))
    write_manifest(folder, "corpus", config={"output_dir": "x"}, made_from={"raw": "1"}, facts={"documents": 2})
    return folder


def test_round_trip(artefact: Path) -> None:
    manifest = read_manifest(artefact, "corpus", verify="digests")
    assert set(manifest.files) == {"a.txt", "sub/b.bin"}
    assert manifest.files["sub/b.bin"][1] == 100
    assert manifest.made_from == {"raw": "1"}
    assert manifest.facts == {"documents": 2}
    assert manifest_digest(artefact.parent, "corpus") == manifest.digest


def test_the_digest_is_of_content_not_of_config(artefact: Path) -> None:
    before = read_manifest(artefact, "corpus").digest
    assert write_manifest(artefact, "corpus", config={"workers": 4}, made_from={"raw": "1"}) == before
    assert write_manifest(artefact, "corpus", config={}, made_from={"raw": "2"}) != before


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip", "manifest", "edit-manifest"])
def test_damage_is_named(artefact: Path, damage: str) -> None:
    file = artefact / "sub" / "b.bin"
    if damage == "truncate":
        file.write_bytes(bytes(99))
    elif damage == "remove":
        file.unlink()
    elif damage == "flip":
        file.write_bytes(bytes(99) + b"\x01")
    elif damage == "manifest":
        (artefact / "manifest.json").write_text("{")
    else:
        text = (artefact / "manifest.json").read_text()
        (artefact / "manifest.json").write_text(text.replace("b.bin", "c.bin"))
    with pytest.raises(DamagedError) as caught:
        read_manifest(artefact, "corpus", verify="digests")
    assert ("b.bin" if damage in ("truncate", "remove", "flip") else "manifest.json") in str(caught.value)


def test_other_kinds_and_empty_folders_are_refused(artefact: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a corpus artefact where a model is needed"):
        read_manifest(artefact, "model")
    with pytest.raises(DataError, match="no such folder"):
        find_artefact(tmp_path / "nowhere", "corpus")
    with pytest.raises(DataError, match="no corpus here"):
        find_artefact(tmp_path, "corpus")


def test_an_artefact_is_found_in_itself_and_in_its_run(artefact: Path) -> None:
    assert find_artefact(artefact, "corpus") == artefact
    assert find_artefact(artefact.parent, "corpus") == artefact
