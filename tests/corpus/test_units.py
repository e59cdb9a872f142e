"""Units of work: the same documents by units, in any order, in other processes and by read_source, for every format."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import random
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import zstandard

from llmforge.corpus import text_files, units
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.parquet_rows import row_groups
from llmforge.corpus.row_documents import Arrivals, UniqueIds
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import read_source
from llmforge.corpus.unit_kinds import Block, FileGroup, ReadyDocuments, RowGroups
from llmforge.corpus.unit_reading import read_unit
from llmforge.corpus.units import plan_units
from llmforge.errors import DataError

FAST = {"html": {"extractor": "fast"}}


def rows(count: int = 300) -> list[dict[str, object]]:
    drawn = random.Random(7)
    return [
        {"id": f"r{n % 250}", "text": "Wörter und words " * drawn.randint(1, 40), "n": n, "tags": ["a", str(n)]}
        for n in range(count)
    ]


def json_lines() -> bytes:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows()]
    lines[5:5] = ["", "{broken", '{"no": "text"}', "[1]"]
    return "\r\n".join(lines).encode()


def csv_file() -> bytes:
    import csv

    out = io.StringIO(newline="")
    csv.writer(out).writerows(
        [("id", "text"), *((row["id"], f'{row["text"]}\n"quoted", {row["n"]}') for row in rows())]
    )
    return out.getvalue().encode() + b"too,many,fields\n"


def parquet_file() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows()), out, row_group_size=40)
    return out.getvalue()


def zip_file() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in (("a.jsonl", json_lines()), ("../x.txt", b""), ("b.txt", b"two"), ("c.csv", csv_file())):
            archive.writestr(name, data)
    return out.getvalue()


def tar_file() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (("one.txt", b"one"), ("a.jsonl", json_lines()), ("b.parquet", parquet_file())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


MAKERS = {
    "a.txt": lambda: ("Ein Absatz mit Wörtern.\n\n" * 900).encode("cp1252"),
    "a.md": lambda: b"---\ntitle: T\n---\n" + b"# Head\n\nWords <!-- no --> here.\n\n" * 500,
    "a.html": lambda: b"<title>T</title><p>Words of a page.</p>" * 50,
    "a.jsonl": json_lines,
    "a.jsonl.gz": lambda: gzip.compress(json_lines()),
    "a.jsonl.zst": lambda: zstandard.ZstdCompressor().compress(json_lines()),
    "a.jsonl.xz": lambda: lzma.compress(json_lines()),
    "a.jsonl.bz2": lambda: bz2.compress(json_lines()),
    "a.json": lambda: json.dumps(rows()).encode(),
    "a.csv": csv_file,
    "a.csv.gz": lambda: gzip.compress(csv_file()),
    "a.parquet": parquet_file,
    "a.parquet.gz": lambda: gzip.compress(parquet_file()),
    "a.zip": zip_file,
    "a.tar.gz": lambda: gzip.compress(tar_file()),
}


def by_units(source: SourceConfig) -> tuple[int, list[Document | BadRow]]:
    planned = list(plan_units(source))
    return len(planned), [document for unit in planned for document in read_unit(unit, source)]


def by_source(source: SourceConfig) -> list[Document | BadRow]:
    found: list[Document | BadRow] = []
    for document in read_source(source, found.append):
        found.append(document)
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_small_units_large_units_and_the_source_give_the_same_documents(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(MAKERS[name]())
    source = SourceConfig(path=str(tmp_path / name), license="MIT", **FAST)
    few, whole = by_units(source)
    assert len(whole) >= 300 or name in ("a.txt", "a.md", "a.html")
    assert by_source(source) == whole
    monkeypatch.setattr(units, "BLOCK_BYTES", 4000)
    many, parts = by_units(source)
    assert parts == whole
    assert many > few or name in ("a.txt", "a.md", "a.html", "a.json")


def test_a_source_in_pieces_read_backwards_in_other_processes_is_the_source(tmp_path, monkeypatch):
    for name, make in MAKERS.items():
        (tmp_path / name).write_bytes(make())
    monkeypatch.setattr(units, "BLOCK_BYTES", 20_000)
    source = SourceConfig(path=str(tmp_path), **FAST)
    planned = list(plan_units(source))
    assert len({unit.key for unit in planned}) == len(planned) > 40
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        backwards = list(pool.map(read_unit, planned[::-1], [source] * len(planned)))
    assert [document for found in backwards[::-1] for document in found] == by_source(source)


def test_keys_follow_what_is_read_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "BLOCK_BYTES", 4000)
    for name in ("a.jsonl.gz", "b.txt", "c.parquet", "d.zip"):
        (tmp_path / name).write_bytes(MAKERS[name.replace(name[0], "a", 1)]())
    source = SourceConfig(path=str(tmp_path), **FAST)
    before = [unit.key for unit in plan_units(source)]
    code = (
        "import sys; from llmforge.corpus import units; from llmforge.corpus.source_config import SourceConfig\n"
        "units.BLOCK_BYTES = 4000\n"
        "source = SourceConfig(path=sys.argv[1], html={'extractor': 'fast'})\n"
        "print(*[unit.key for unit in units.plan_units(source)])"
    )
    home = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=home, check=True
    )
    assert done.stdout.split() == before
    os.utime(tmp_path / "b.txt", ns=(5, 5))
    touched = [unit.key for unit in plan_units(source)]
    assert sum(old != new for old, new in zip(before, touched, strict=True)) == 1
    data = json_lines().replace(b'"n": 299', b'"n": 777')
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data))
    changed = [unit.key for unit in plan_units(source)]
    assert sum(old != new for old, new in zip(touched, changed, strict=True)) == 1


def test_the_bytes_of_all_units_are_about_those_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "BLOCK_BYTES", 4000)
    for name, make in MAKERS.items():
        (tmp_path / name).write_bytes(make())
        source = SourceConfig(path=str(tmp_path / name), **FAST)
        planned = list(plan_units(source))
        size = (tmp_path / name).stat().st_size
        if name != "a.parquet.gz":  # its units stand for text
            assert all(unit.bytes >= 0 for unit in planned)
            assert 0.5 * size <= sum(unit.bytes for unit in planned) <= size, name


def test_units_are_of_the_kind_that_costs_the_parent_least(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "BLOCK_BYTES", 4000)
    monkeypatch.setattr(units, "GROUP_FILES", 3)
    for number in range(8):
        (tmp_path / f"small{number}.txt").write_bytes(b"x" * 10)
    (tmp_path / "t.jsonl").write_bytes(json_lines())
    (tmp_path / "u.parquet").write_bytes(parquet_file())
    kinds = [type(unit) for unit in plan_units(SourceConfig(path=str(tmp_path)))]
    assert kinds[:3] == [FileGroup] * 3 and set(kinds[3:]) == {Block, RowGroups}
    planned = [unit for unit in plan_units(SourceConfig(path=str(tmp_path))) if isinstance(unit, FileGroup)]
    assert [len(unit.files) for unit in planned] == [3, 3, 2]
    assert all(len(pickle.dumps(unit)) < 2000 for unit in planned)


def test_a_row_group_of_gigabytes_is_streamed_and_its_neighbours_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "BLOCK_BYTES", 4000)
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows())
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for start, stop in ((0, 20), (20, 200), (200, 260), (260, 300)):
            writer.write_table(table.slice(start, stop - start))
    source = SourceConfig(path=str(tmp_path / "a.parquet"))
    whole = by_units(source)[1]
    sizes = [group.bytes for group in row_groups(tmp_path / "a.parquet", "a.parquet")]
    monkeypatch.setattr(units, "LARGE_GROUP_BYTES", max(sizes) - 1)
    planned = list(plan_units(source))
    assert {type(unit) for unit in planned} == {RowGroups, ReadyDocuments}
    assert [document for unit in planned for document in read_unit(unit, source)] == whole
    assert [document.metadata["row"] for document in whole] == list(range(1, 301))


def test_a_huge_text_is_cut_by_the_parent_as_it_is_in_a_worker(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(("Ein Satz voller Wörter, über Größe.\n\n" * 500).encode("cp1252"))
    monkeypatch.setattr(text_files, "PART_BYTES", 4000)
    source = SourceConfig(path=str(tmp_path / "a.txt"))
    worker = by_units(source)
    monkeypatch.setattr(units, "LARGE_TEXT_BYTES", 4000)
    parent = by_units(source)
    assert worker[0] == 1 and parent[0] == len(parent[1]) > 3
    assert parent[1] == worker[1]


def test_a_large_file_is_planned_in_bounded_memory(tmp_path):
    import tracemalloc

    drawn = random.Random(0)
    lines = [json.dumps({"text": drawn.randbytes(1000).hex()}).encode() + b"\n" for _ in range(500)]
    with gzip.open(tmp_path / "a.jsonl.gz", "wb", compresslevel=1) as out:
        for _ in range(40):
            out.writelines(lines)  # 40 MB in all
    tracemalloc.start()
    count = sum(
        unit.data.count(b"\n") for unit in plan_units(SourceConfig(path=str(tmp_path))) if isinstance(unit, Block)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000 and peak < 12 << 20


def test_own_ids_are_raw_in_units_and_made_unique_in_order(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "id": 1}\n{"text": "b", "id": "1"}\n{"text": "c"}\n')
    source = SourceConfig(path=str(tmp_path), id_key="id")
    found = by_units(source)[1]
    assert [document.id for document in found] == ["1", "1", "a.jsonl#3"]
    ids = UniqueIds()
    assert [ids.claim(document.id) for document in found] == ["1", "1~2", "a.jsonl#3"]


def test_ids_stay_unique_when_one_comes_very_often_or_looks_like_a_copy():
    ids = UniqueIds()
    assert [ids.claim("x") for _ in range(3000)] == ["x", *(f"x~{number}" for number in range(2, 3001))]
    wanted = ["y~2", "y~4", *"yyyyyy", "y~3", "y~2~2", "y~2"]
    assert len({ids.claim(name) for name in wanted}) == len(wanted)


def test_encodings_other_than_utf_8_are_said_once_with_their_counts(tmp_path):
    russian = "Это обычный русский текст, и в нём достаточно слов для проверки. " * 5
    (tmp_path / "a.txt").write_bytes(russian.encode("koi8-r"))
    (tmp_path / "b.txt").write_bytes(russian.encode("cp1251"))
    (tmp_path / "c.txt").write_bytes(russian.encode("cp1251"))
    (tmp_path / "d.txt").write_text("ASCII")
    (tmp_path / "e.jsonl").write_text('{"text": "own field", "encoding": "morse"}\n')
    notes: list[str] = []
    documents = list(read_source(SourceConfig(name="s", path=str(tmp_path)), on_note=notes.append))
    assert [d.text for d in documents[:3]] == [russian] * 3
    assert [d.metadata["encoding"] for d in documents] == ["koi8-r", "cp1251", "cp1251", "utf-8", "morse"]
    assert notes == ["s: files read by an encoding other than UTF-8: 2 as cp1251, 1 as koi8-r"]
    arrivals = Arrivals(SourceConfig(name="s", path="x"))
    assert arrivals.notes() == []


def test_no_reader_lets_half_a_surrogate_pair_through(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a\\ud800", "t\\udfff": "\\udc00"}\n')
    (tmp_path / "b.txt").write_bytes(b"\xff\xfea\x00\x00\xd8b\x00")
    (tmp_path / "c.html").write_bytes(b"<p>a&#xd800;b</p>")
    (tmp_path / "c2.html").write_bytes(b"<meta charset=unicode_escape><p>a\\ud800b \xe9</p>")
    (tmp_path / "d.csv").write_bytes("text\na".encode("utf-16") + b"\x00\xdc")
    (tmp_path / "e.json").write_bytes(b'{"text": "a"}\n{"text": "\\ud83d"}')
    (tmp_path / "f.txt").write_bytes("Wörter ".encode() * 20 + b"\xed\xa0\x80")
    documents = list(read_source(SourceConfig(path=str(tmp_path), **FAST)))
    assert len(documents) == 8
    for document in documents:
        json.dumps([document.text, document.metadata], ensure_ascii=False).encode()


def test_a_damaged_file_stops_the_plan_or_the_reading_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "BLOCK_BYTES", 4000)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json_lines())[:-20])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: is cut short"):
        list(plan_units(SourceConfig(path=str(tmp_path))))
