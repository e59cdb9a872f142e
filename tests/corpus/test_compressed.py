"""Compressed streams: the bytes that went in, and a clear refusal of everything cut, damaged or out of proportion."""

import gzip
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.corpus import compressed
from llmforge.corpus.compressed import open_bytes
from llmforge.errors import DataError

TEXT = b"The cat sat on the mat, and the dog on the log.\n" * 500


def packed(kind: str, data: bytes) -> bytes:
    return gzip.compress(data) if kind == "gz" else zstandard.ZstdCompressor().compress(data)


def read(path: Path) -> bytes:
    with open_bytes(path) as stream:
        return stream.read()


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4), st.sampled_from(["gz", "zst"]))
@settings(max_examples=40, deadline=None)
def test_several_frames_unpack_to_what_was_packed(tmp_path_factory, chunks, kind):
    path = tmp_path_factory.mktemp("packed") / f"x.{kind}"
    path.write_bytes(b"".join(packed(kind, chunk) for chunk in chunks))
    assert read(path) == b"".join(chunks)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_cut_archive_is_refused_by_name(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(packed(kind, TEXT)[:-7])
    with pytest.raises(DataError, match=f"x.{kind}: is cut short"):
        read(path)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_damaged_archive_is_refused_by_name(tmp_path, kind):
    data = bytearray(packed(kind, TEXT))
    data[0] ^= 0xFF
    path = tmp_path / f"x.{kind}"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"x.{kind}: is a damaged archive"):
        read(path)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_bomb_is_stopped_at_its_limit(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    path = tmp_path / f"x.{kind}"
    path.write_bytes(packed(kind, bytes(40 << 20)))
    count = 0
    with pytest.raises(DataError, match="archive bomb"), open_bytes(path) as stream:
        while chunk := stream.read(1 << 16):
            count += len(chunk)
    assert count <= max(1 << 20, compressed.MAX_RATIO * path.stat().st_size)


def test_a_window_that_needs_gigabytes_is_refused(tmp_path):
    frame = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=30)
    ).compressobj()
    path = tmp_path / "x.zst"
    path.write_bytes(frame.compress(TEXT) + frame.flush())
    with pytest.raises(DataError, match="damaged archive"):
        read(path)


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(DataError, match="is not a regular file"):
        open_bytes(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        open_bytes(tmp_path / "none.txt")
