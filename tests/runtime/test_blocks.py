"""Checksums of blocks: the changed bytes are found, in small files and in large ones."""

from __future__ import annotations

import hashlib
import json
import random
import zlib
from pathlib import Path

import pytest

from llmforge.runtime.blocks import block_bytes, changed_ranges, digest_with_blocks
from llmforge.runtime.manifest import load_manifest, read_manifest, write_manifest


def test_blocks_are_pages_and_at_most_1024() -> None:
    assert block_bytes(0) == block_bytes(4096 * 1024) == 4096
    assert block_bytes(4096 * 1024 + 1) == 8192
    assert block_bytes(10 << 30) == 16 << 20


def test_the_sums_are_those_of_the_standard(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(10_000)
    (tmp_path / "f").write_bytes(content)
    sha256, sums = digest_with_blocks(tmp_path / "f")
    assert sha256 == hashlib.sha256(content).hexdigest()
    expected = [zlib.crc32(content[at : at + 4096]) for at in (0, 4096, 8192)]
    assert sums == "4096:" + "".join(f"{value:08x}" for value in expected)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_has_an_address(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray(rng.randbytes(rng.randrange(1, 40_000)))
    path = tmp_path / "f"
    path.write_bytes(bytes(content))
    _, sums = digest_with_blocks(path)
    assert changed_ranges(path, sums) == []
    at = rng.randrange(len(content))
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))
    ((start, stop),) = changed_ranges(path, sums)
    assert start <= at < stop <= len(content) and start % 4096 == 0


def test_neighbours_are_one_range_and_what_was_added_counts(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(5 * 4096))
    _, sums = digest_with_blocks(path)
    path.write_bytes(bytes(4096) + b"x" * 8192 + bytes(4096) + b"y" * 4096 + b"more")
    assert changed_ranges(path, sums) == [(4096, 12288), (16384, 20484)]
    assert changed_ranges(path, "") == changed_ranges(path, "nonsense") == []


def test_a_manifest_carries_them_and_its_digest_does_not_depend_on_them(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    digest = write_manifest(tmp_path, "tokens", config={})
    manifest = load_manifest(tmp_path, "tokens")
    assert manifest.blocks == {"a.bin": f"4096:{zlib.crc32(b'abc'):08x}"}
    path = tmp_path / "manifest.json"
    older = json.loads(path.read_text())
    del older["blocks"], older["seal"]
    path.write_text(json.dumps(older))
    assert read_manifest(tmp_path, "tokens", verify="digests").digest == digest
    assert load_manifest(tmp_path, "tokens").blocks == {}
