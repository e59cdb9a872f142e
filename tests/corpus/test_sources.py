"""Sources to documents: ids, metadata, bad rows, fingerprints, Hugging Face datasets."""

import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from llmforge.corpus.document import BadRow
from llmforge.corpus.rows import read_rows
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import check_source, read_source, source_fingerprint
from llmforge.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_text("One.\n")
    (tmp_path / "sub").mkdir()
    rows = [
        {"text": "two", "id": "x", "license": "MIT", "file": "own.c", "n": 2**70, "score": 1.5},
        {"text": "three", "id": "x"},
        {"text": "four", "id": "x"},
        {"body": "five"},
        {"text": 6},
        {"text": None, "id": "y"},
    ]
    with gzip.open(tmp_path / "sub" / "rows.jsonl.gz", "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "c.exe").write_bytes(b"x")
    return tmp_path


def test_documents_carry_stable_ids_and_where_they_come_from(folder):
    bad: list[BadRow] = []
    notes: list[str] = []
    source = SourceConfig(name="mine", path=str(folder), id_key="id", license="CC0")
    documents = list(read_source(source, bad.append, notes.append))
    assert [(d.id, d.text, d.source) for d in documents] == [
        ("a.txt#1", "One.\n", "mine"),
        ("x", "two", "mine"),
        ("x~2", "three", "mine"),
        ("x~3", "four", "mine"),
    ]
    assert documents[0].metadata == {"file": "a.txt", "row": 1, "encoding": "utf-8", "license": "CC0"}
    assert documents[1].metadata == {
        "file": "sub/rows.jsonl.gz",
        "row": 1,
        "id": "x",
        "license": "MIT",
        "file_": "own.c",
        "n": 2.0**70,
        "score": 1.5,
    }
    assert [(row.where, row.reason) for row in bad] == [
        ("sub/rows.jsonl.gz:4", "it has no text in field 'text' (other fields: body)"),
        ("sub/rows.jsonl.gz:5", "its field 'text' is a number, not text"),
        ("sub/rows.jsonl.gz:6", "it has no text in field 'text' (other fields: id)"),
    ]
    assert notes == [
        "mine: files of unknown kind are skipped: 1 .exe",
        "mine: 2 ids came more than once; copies are named id~2 ...",
    ]
    assert [d.id for d in read_source(source, bad.append)] == [d.id for d in documents]


def test_the_text_key_is_of_rows_and_a_text_beside_them_has_none(tmp_path):
    (tmp_path / "a.txt").write_text("A text.")
    (tmp_path / "b.jsonl").write_text('{"body": "A row.", "text": "no"}\n')
    (tmp_path / "c.csv").write_text("body,n\nA cell.,1\n")
    (tmp_path / "d.html").write_text("<p>A page.</p>")
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("a.md", "# Head")
        archive.writestr("b.jsonl", '{"body": "Packed."}\n')
    source = SourceConfig(path=str(tmp_path), text_key="body", html={"extractor": "fast"})
    texts = ["A text.", "A row.", "A cell.", "A page.", "# Head", "Packed."]
    assert [document.text.strip() for document in read_source(source)] == texts


def test_without_a_place_for_bad_rows_the_first_is_an_error_with_file_and_row(folder):
    with pytest.raises(DataError, match=r"sub/rows.jsonl.gz:4: it has no text") as caught:
        list(read_source(SourceConfig(path=str(folder))))
    assert caught.value.exit_code == 3


def test_a_damaged_file_is_an_error_even_with_a_place_for_bad_rows(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:-9])
    with pytest.raises(DataError, match="a.jsonl.gz: is cut short"):
        list(read_source(SourceConfig(path=str(tmp_path)), lambda row: None))


def test_parquet_rows_become_plain_and_a_bad_footer_is_named(tmp_path):
    import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {"text": ["a", None], "when": [datetime.date(2020, 1, 2)] * 2, "raw": [b"1", b"2"], "x": [float("nan")] * 2}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    bad: list[BadRow] = []
    documents = list(read_source(SourceConfig(path=str(tmp_path)), bad.append))
    assert [(d.id, d.text) for d in documents] == [("a.parquet#1", "a"), ("b.parquet.gz#1", "a")]
    assert documents[0].metadata == {"file": "a.parquet", "row": 1, "when": "2020-01-02", "x": None}
    assert [row.where for row in bad] == ["a.parquet:2", "b.parquet.gz:2"]
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-6])
    with pytest.raises(DataError, match="a.parquet:1: is not a whole Parquet file"):
        list(read_source(SourceConfig(path=str(tmp_path / "a.parquet"))))


def test_times_of_parquet_that_are_finer_than_pythons_are_cut_to_microseconds(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    fine, kind = 1_600_000_000_123_456_789, pa.timestamp("ns")
    pairs = [("when", kind), ("deep", pa.list_(pa.struct([("at", kind)])))]
    facts = {"text": "a", "when": fine, "deep": [{"at": fine}, None]}
    table = pa.Table.from_pylist([facts, {"text": "b"}], pa.schema([("text", pa.string()), *pairs]))
    for name in ("new.parquet", "old.parquet"):
        pq.write_table(table, tmp_path / name, use_deprecated_int96_timestamps=name == "old.parquet")
        documents = list(read_source(SourceConfig(path=str(tmp_path / name))))
        # With pandas installed pyarrow gives its own times, whose text is longer: what is read depends on no library.
        when = "2020-09-13T12:26:40.123456"
        assert [d.metadata["when"] for d in documents] == [when, None]
        assert documents[0].metadata["deep"] == [{"at": when}, None]


def test_a_row_of_parquet_that_has_no_value_in_python_is_a_bad_row_and_the_others_stay(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    offsets = pa.array(["aa", "bb", "cc"]).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"aa\xff\xfecc")])
    late = pa.array([0, 1, 10**18], pa.timestamp("us"))
    pq.write_table(pa.table({"text": broken, "when": late}), tmp_path / "a.parquet")
    bad: list[BadRow] = []
    assert [d.id for d in read_source(SourceConfig(path=str(tmp_path)), bad.append)] == ["a.parquet#1"]
    assert [row.where for row in bad] == ["a.parquet:2", "a.parquet:3"]
    assert all("it has a value that cannot be read" in row.reason for row in bad)


def test_the_fingerprint_follows_what_would_be_read(folder):
    source = SourceConfig(path=str(folder))
    before = source_fingerprint(source)
    assert source_fingerprint(source) == before
    assert source_fingerprint(SourceConfig(path=str(folder), text_key="body")) != before
    os.utime(folder / "a.txt", ns=(1, 1))
    touched = source_fingerprint(source)
    assert touched != before
    (folder / "new.txt").write_text("x")
    assert source_fingerprint(source) not in (before, touched)


def test_a_source_is_checked_without_reading(folder):
    found = check_source(SourceConfig(path=str(folder)))
    assert found.files == 2 and found.bytes == sum((folder / n).stat().st_size for n in ("a.txt", "sub/rows.jsonl.gz"))
    assert check_source(SourceConfig(dataset="owner/name")).files is None
    for source in (
        SourceConfig(path=str(folder / "no")),
        SourceConfig(dataset="./no"),
        SourceConfig(path="python-docs:no"),
    ):
        with pytest.raises(DataError):
            check_source(source)


@pytest.mark.parametrize("keys", [{}, {"path": "a", "dataset": "b"}, {"path": ""}, {"path": "a", "colour": 1}])
def test_a_source_is_one_place_and_knows_its_keys(keys):
    with pytest.raises(ValidationError):
        SourceConfig(**keys)


def test_a_saved_dataset_and_a_folder_of_data_files_are_read_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = datasets.Dataset.from_list([{"text": "a", "n": 1}, {"text": "b", "n": 2}])
    rows.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "dict"))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.jsonl").write_text('{"text": "a", "n": 1}\n{"text": "b", "n": 2}\n')
    for name in ("saved", "dict", "files"):
        for streaming in (False, True):
            source = SourceConfig(name="d", dataset=str(tmp_path / name), streaming=streaming)
            documents = list(read_source(source))
            assert [(d.text, d.metadata["n"], d.metadata["row"]) for d in documents] == [("a", 1, 1), ("b", 2, 2)]
            assert check_source(source).files and source_fingerprint(source)
            assert documents[0].id == f"{name}/train#1"  # wherever the folder lies
    with pytest.raises(DataError, match="has no split 'test', only train"):
        list(read_source(SourceConfig(dataset=str(tmp_path / "dict"), split="test")))


def test_rows_are_read_with_their_place_and_the_first_bad_one_raises(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n')
    (tmp_path / "b.json").write_text('[{"a": 3}]')
    (tmp_path / "notes.txt").write_text("no rows")
    assert list(read_rows(str(tmp_path))) == [({"a": 1}, "a.jsonl:1"), ({"a": 2}, "a.jsonl:3"), ({"a": 3}, "b.json:1")]
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("in/d.jsonl", '{"a": 4}\n')
    assert len(list(read_rows(str(tmp_path)))) == 3  # an archive beside files of rows is not opened
    assert list(read_rows(str(tmp_path / "*.zip"))) == [({"a": 4}, "c.zip/in/d.jsonl:1")]
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a"\n')
    with pytest.raises(DataError, match="a.jsonl:2: it is not valid JSON"):
        list(read_rows(str(tmp_path)))
    with pytest.raises(DataError, match="holds no rows"):
        list(read_rows(str(tmp_path / "notes.txt")))
    with pytest.raises(DataError, match="python-docs: has no part 'nothing'; parts are conversations"):
        list(read_rows("python-docs:nothing"))


def test_importing_the_sources_loads_nothing_heavy():
    code = (
        "import sys, llmforge.corpus.sources, llmforge.corpus.folder, llmforge.corpus.python_docs.built_in\n"
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'pandas', 'datasets') if m in sys.modules])"
    )
    home = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=home)
    assert done.stdout.strip() == "[]"
