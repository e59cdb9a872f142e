"""Zip and tar: members as streams, refusals by name, bombs stopped."""

import gzip
import io
import lzma
import random
import struct
import tarfile
import warnings
import zipfile
from collections import Counter

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from made_archives import tarred

from llmforge.corpus import archives, compressed
from llmforge.corpus.document import BadRow
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import read_source
from llmforge.corpus.units import plan_units
from llmforge.errors import DataError

FILES = {"b/one.txt": b"One.\n", "a.jsonl": b'{"text": "two"}\n{"text": 3}\n', "c.md": b"# Three\n"}


def zipped(files, path, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data, **options)


def read(path, **keys):
    bad: list[BadRow] = []
    notes: list[str] = []
    documents = list(read_source(SourceConfig(name="s", path=str(path), **keys), bad.append, notes.append))
    return documents, bad, notes


PACKERS = {
    "a.tar": lambda data: data,
    "a.tar.gz": gzip.compress,
    "a.tgz": gzip.compress,
    "a.tar.xz": lzma.compress,
    "a.tar.zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("name", ["a.zip", *PACKERS])
def test_the_members_are_documents_with_the_archive_in_their_place(tmp_path, name):
    path = tmp_path / name
    if name == "a.zip":
        zipped(FILES, path)
    else:
        path.write_bytes(PACKERS[name](tarred(FILES)))
    documents, bad, _ = read(path)
    assert [(d.id, d.text) for d in documents] == [
        (f"{name}/b/one.txt#1", "One.\n"),
        (f"{name}/a.jsonl#1", "two"),
        (f"{name}/c.md#1", "# Three\n"),
    ]
    assert documents[0].metadata["file"] == f"{name}/b/one.txt"
    assert [row.where for row in bad] == [f"{name}/a.jsonl:2"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_and_archives_within_are_refused_and_the_rest_is_read(tmp_path, kind):
    files = {
        "../up.txt": b"x",
        "/root.txt": b"x",
        "a/../../b.txt": b"x",
        "C:\\c.txt": b"x",
        "in.zip": b"x",
        "ok.txt": b"ok",
    }
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(files, path)
    else:
        path.write_bytes(tarred(files))
    documents, bad, _ = read(path)
    assert [d.text for d in documents] == ["ok"]
    assert [row.reason.split(":")[0] for row in bad] == [
        *["its name leads out of the archive"] * 4,
        "it is an archive within an archive",
    ]
    assert sorted(tmp_path.iterdir()) == [path]


def test_links_devices_hidden_and_unknown_members_are_passed_over_and_counted(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("l.txt", tarfile.SYMTYPE), ("h.txt", tarfile.LNKTYPE), ("d.txt", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for name in ("dir/.hidden.txt", "__MACOSX/x.txt", "pic.png", "real.txt"):
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"hi"))
    (tmp_path / "a.tar").write_bytes(out.getvalue())
    documents, bad, notes = read(tmp_path / "a.tar")
    assert [d.text for d in documents] == ["hi"] and not bad
    assert notes == ["s: passed over in archives: 1 .png, 1 devices, 2 links"]


def test_members_that_are_packed_themselves_are_unpacked(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tarred({"a.jsonl.gz": gzip.compress(b'{"text": "x"}\n'), "b.txt.xz": lzma.compress(b"y")}))
    assert [(d.id, d.text) for d in read(path)[0]] == [("a.tar/a.jsonl.gz#1", "x"), ("a.tar/b.txt.xz#1", "y")]


def test_an_encrypted_or_strangely_packed_member_is_a_bad_row(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a.txt", b"text", zipfile.ZIP_BZIP2)
        out.writestr("b.txt", b"text")
    data = bytearray(path.read_bytes())
    place = data.rfind(b"PK\x01\x02")
    data[place + 8] |= 1
    path.write_bytes(data)
    documents, bad, _ = read(path)
    assert not documents
    assert [row.reason for row in bad] == ["it is packed by method 12, and only deflate is read", "it is encrypted"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "inner.tar"])
def test_a_bomb_is_stopped(tmp_path, monkeypatch, name):
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    path = tmp_path / name
    huge = b"\n" * (30 << 20)
    if name == "a.zip":
        zipped({"a.txt": huge}, path)
    elif name == "a.tar.gz":
        path.write_bytes(gzip.compress(tarred({"a.txt": huge})))
    else:
        path.write_bytes(tarred({"a.txt.gz": gzip.compress(huge)}))
    with pytest.raises(DataError, match="archive bomb"):
        read(path)


def test_too_many_members_and_a_huge_list_of_them_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    zipped({f"{n}.txt": b"" for n in range(50)}, path)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 20)
    with pytest.raises(DataError, match="more than 20 members"):
        read(path)
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(DataError, match="a list of members of"):
        read(path)


def test_a_sparse_member_and_a_header_of_gigabytes_are_refused(tmp_path):
    data = bytearray(tarred({"a.txt": b"x"}))

    def with_header(kind: bytes, size: int) -> bytes:
        head = bytearray(data[:512])
        head[156:157] = kind
        head[124:136] = b"%011o\0" % size
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        return bytes(head)

    (tmp_path / "pax.tar").write_bytes(with_header(b"x", 8_000_000_000) + data)
    with pytest.raises(DataError, match="damaged archive"):
        read(tmp_path / "pax.tar")
    (tmp_path / "sparse.tar").write_bytes(with_header(b"S", 0) + bytes(1024))
    documents, bad, _ = read(tmp_path / "sparse.tar")
    assert not documents and ["sparse" in row.reason for row in bad] == [True]


@pytest.mark.parametrize("cut", [10, 600, 1500])
def test_a_cut_tar_is_refused_by_name(tmp_path, cut):
    path = tmp_path / "a.tar"
    path.write_bytes(tarred({"a.txt": b"x" * 2000})[:cut])
    with pytest.raises(DataError, match=r"a\.tar: is a damaged archive"):
        read(path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = tmp_path / "a.tar"
    data = bytearray(tarred({"a.txt": b"x", "b.txt": b"y", "c.txt": b"z"}))
    data[1024 + 150] ^= 0xFF  # the second member's checksum
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tar: is a damaged archive"):
        read(path)


def test_a_damaged_zip_is_refused_by_name(tmp_path):
    path = tmp_path / "a.zip"
    zipped(FILES, path)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-30])
    with pytest.raises(DataError, match=r"a\.zip: has lost its list of members"):
        read(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"a\.zip: is a damaged archive"):
        read(path)
    data[40] ^= 0xFF  # in the first member's bytes
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip/b/one\.txt: is damaged in the archive \(Bad CRC-32"):
        read(path)
    path.write_bytes(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0))
    assert read(path)[0] == []


def test_an_archive_of_small_files_is_few_units_and_reads_them_in_order(tmp_path):
    path = tmp_path / "a.zip"
    zipped({f"{n:04}.txt": b"%d" % n for n in range(600)}, path)
    source = SourceConfig(path=str(path))
    assert len(list(plan_units(source))) == 3
    assert [d.text for d in read_source(source)] == [str(n) for n in range(600)]
    counted = archives.Archive(next(iter(_files(path))), "a.zip", "auto", Counter())
    assert sum(not isinstance(member, BadRow) for member in counted.members()) == 600


def _files(path):
    from llmforge.corpus.files import find_files

    return find_files(str(path)).files


@given(st.integers(0, 2**32), st.sampled_from(["a.zip", *PACKERS]))
@settings(max_examples=150, deadline=None)
def test_random_damage_is_a_data_error_or_changes_texts_but_never_anything_else(tmp_path_factory, seed, name):
    drawn = random.Random(seed)
    path = tmp_path_factory.mktemp("damaged") / name
    if name == "a.zip":
        zipped(FILES, path)
    else:
        path.write_bytes(PACKERS[name](tarred(FILES)[:3072]))
    data = bytearray(path.read_bytes())
    for _ in range(drawn.randint(1, 4)):
        place = drawn.randrange(len(data))
        if drawn.random() < 0.6:
            data[place] = drawn.randrange(256)
        else:
            data[place : place + 9] = drawn.randbytes(drawn.randint(0, 20))
    path.write_bytes(data)
    try:
        documents, bad, _ = read(path)
    except DataError as error:
        assert name in str(error)
    else:
        assert len(documents) + len(bad) <= 8


def test_a_member_that_an_archive_holds_twice_has_two_ids(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text in ("one", "two"):
            archive.writestr("a.txt", text)
    found = {document.id: document.text for document in read_source(SourceConfig(path=str(tmp_path)))}
    assert found == {"a.zip/a.txt#1": "one", "a.zip/a.txt#1~2": "two"}
