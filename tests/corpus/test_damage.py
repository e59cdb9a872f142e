"""Damaged files beside good ones: one bad row in its place, and all that can be read of the rest, in all units."""

import gzip
import io
import json
import random
import zipfile

import pytest
from made_archives import tarred

from llmforge.corpus import units
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.unit_reading import read_unit
from llmforge.corpus.units import plan_units
from llmforge.errors import DataError

COUNT = 4000


def lines(count: int = COUNT) -> list[bytes]:
    drawn = random.Random(3)
    return [json.dumps({"text": f"row {n} {drawn.randbytes(40).hex()}"}).encode() + b"\n" for n in range(count)]


def read(path, large: bool, monkeypatch) -> tuple[list[Document], list[BadRow], list[Document | BadRow]]:
    """What is read of a path, by small units or by large ones."""
    if large:
        monkeypatch.setattr(units, "BLOCK_BYTES", 20_000)
    source = SourceConfig(path=str(path))
    planned = list(plan_units(source, forgiving=True))
    found = [row for unit in planned for row in read_unit(unit, source, forgiving=True)]
    with pytest.raises(DataError):
        for unit in plan_units(source):
            read_unit(unit, source)
    documents = [row for row in found if isinstance(row, Document)]
    return documents, [row for row in found if isinstance(row, BadRow)], found


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytearray:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return bytearray(out.getvalue())


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_rows_before_a_cut_are_read(tmp_path, monkeypatch, kind, suffix, large):
    import bz2
    import lzma

    import zstandard

    packers = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zst": zstandard.ZstdCompressor().compress,
    }
    rows = lines() if kind == "jsonl" else [b"text\n", *(json.loads(line)["text"].encode() + b"\n" for line in lines())]
    packed = packers[suffix](b"".join(rows))
    (tmp_path / f"a.{kind}.{suffix}").write_bytes(packed[: len(packed) * 3 // 4])
    (tmp_path / "b.txt").write_bytes(b"beside")
    documents, bad, found = read(tmp_path, large, monkeypatch)
    least = 2000 if suffix != "bz2" else 0  # its blocks are of 900 KB, which is more than the file has
    assert len(documents) - 1 >= least and found[-1] is documents[-1] and documents[-1].text == "beside"
    assert [row.where for row in bad] == [f"a.{kind}.{suffix}"]
    assert [d.text.split()[1] for d in documents[:-1]] == [str(n) for n in range(len(documents) - 1)]


@pytest.mark.parametrize("large", [False, True])
def test_all_rows_before_a_missing_end_are_read(tmp_path, monkeypatch, large):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(lines()))[:-20])
    documents, bad, _ = read(tmp_path, large, monkeypatch)
    assert len(documents) >= COUNT - 2 and len(bad) == 1


def test_a_json_file_in_an_archive_is_a_bad_row_as_it_is_in_a_folder(tmp_path, monkeypatch):
    files = {"1.txt": b"1", "broken.json": b"[{", **{f"{n}.txt": b"%d" % n for n in range(2, 6)}}
    (tmp_path / "a.zip").write_bytes(zipped(files))
    documents, bad, _ = read(tmp_path, False, monkeypatch)
    assert [document.text for document in documents] == ["1", "2", "3", "4", "5"]
    assert [row.where for row in bad] == ["a.zip/broken.json:1"] and "is not valid JSON" in bad[0].reason


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_the_rows_around_a_damaged_page_of_parquet_are_read(tmp_path, monkeypatch, large, packed):
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    table = pa.Table.from_pylist([json.loads(line) for line in lines()])
    pq.write_table(table, out, row_group_size=1000, compression="snappy", use_dictionary=False)
    data = bytearray(out.getvalue())
    place = pq.ParquetFile(out).metadata.row_group(1).column(0).data_page_offset + 2000
    data[place : place + 2000] = b"\xff" * 2000
    name = "a.parquet.gz" if packed else "a.parquet"
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    documents, bad, _ = read(tmp_path, large, monkeypatch)
    assert [document.metadata["row"] for document in documents] == [*range(1, 1001), *range(2001, COUNT + 1)]
    assert [row.where for row in bad] == [f"{name}:1001"] and "is not a whole Parquet file" in bad[0].reason


def test_a_member_of_a_zip_that_is_damaged_is_one_bad_row(tmp_path, monkeypatch):
    files = {f"{n:03}.txt": b"member %d" % n for n in range(250)}
    data = zipped(files)
    data[data.index(b"member 249")] ^= 1
    data[data.index(b"100.txt") + 1] ^= 1  # the name before the bytes is another than in the list
    (tmp_path / "a.zip").write_bytes(data)
    documents, bad, found = read(tmp_path, False, monkeypatch)
    assert len(documents) == 248 and [row.where for row in bad] == ["a.zip/100.txt", "a.zip/249.txt"]
    assert found.index(bad[0]) == 100 and "Bad CRC-32" in bad[1].reason


def test_the_members_behind_a_large_one_that_is_damaged_are_read(tmp_path, monkeypatch):
    data = zipped({"a.txt": b"before", "b.jsonl": b"".join(lines()), "c.txt": b"behind"})
    data[data.index(b"row 3000")] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    documents, bad, _ = read(tmp_path, True, monkeypatch)
    assert (documents[0].text, documents[-1].text) == ("before", "behind") and len(documents) > 3500
    assert [row.where for row in bad] == ["a.zip/b.jsonl"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_packed_member_that_is_cut_says_nothing_of_the_others(tmp_path, monkeypatch, kind):
    cut = {"b.jsonl.gz": gzip.compress(b"".join(lines()))[:-20], "b.txt.gz": gzip.compress(b"text")[:-8]}
    files = {"a.txt": b"before", **cut, "c.txt": b"behind"}
    (tmp_path / f"a.{kind}").write_bytes(zipped(files) if kind == "zip" else tarred(files))
    documents, bad, _ = read(tmp_path, False, monkeypatch)
    assert (documents[0].text, documents[-1].text) == ("before", "behind") and len(documents) > COUNT - 3
    assert [row.where for row in bad] == [f"a.{kind}/b.jsonl.gz", f"a.{kind}/b.txt.gz"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_the_members_before_the_cut_of_a_tar_are_read(tmp_path, monkeypatch, name):
    drawn = random.Random(4)
    data = tarred({f"{n:03}.txt": drawn.randbytes(500).hex().encode() for n in range(100)})
    data = gzip.compress(data) if name.endswith("gz") else data
    (tmp_path / name).write_bytes(data[: len(data) * 3 // 4 + 100])
    documents, bad, found = read(tmp_path, False, monkeypatch)
    assert len(documents) >= 70 and [row.where for row in bad] == [name] and found[-1] is bad[0]
    assert [document.metadata["file"] for document in documents] == [
        f"{name}/{n:03}.txt" for n in range(len(documents))
    ]
