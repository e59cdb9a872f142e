"""Paths, folders and patterns: order, links, unknown kinds, what cannot be read."""

import os

import pytest

from llmforge.corpus.files import find_files, format_of
from llmforge.errors import DataError


def names(path, **options):
    return [file.name for file in find_files(str(path), **options).files]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a.md", "sub/c.jsonl.gz", "sub/d.parquet", "sub/deep/e.html", "x.bin", "y.o.gz", "noname"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "z.txt").write_bytes(b"x")
    return tmp_path


def test_a_folder_is_read_in_byte_order_and_unknown_kinds_are_counted(folder):
    listing = find_files(str(folder))
    assert [file.name for file in listing.files] == [
        "a.md",
        "b.txt",
        "sub/c.jsonl.gz",
        "sub/d.parquet",
        "sub/deep/e.html",
    ]
    assert listing.skipped == {".bin": 1, ".gz": 1, "without a suffix": 1}
    assert listing.size == 5


def test_a_ring_of_links_ends_and_a_broken_link_is_counted(folder):
    (folder / "sub" / "ring").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone.txt").symlink_to(folder / "nothing")
    listing = find_files(str(folder))
    assert len(listing.files) == 5
    assert listing.skipped["broken links"] == 2


def test_a_pattern_names_files_below_its_fixed_part(folder):
    assert names(folder / "sub" / "*") == ["c.jsonl.gz", "d.parquet", "deep/e.html"]
    assert names(folder / "**" / "*.html") == ["sub/deep/e.html"]
    assert names(folder / "*.txt") == ["b.txt"]


def test_a_file_may_have_any_name_when_its_format_is_given(folder):
    assert names(folder / "noname", format="text") == ["noname"]
    with pytest.raises(DataError, match="noname: is of no known kind.*set the source's format"):
        find_files(str(folder / "noname"))


@pytest.mark.parametrize(("name", "what"), [("nothing", "does not exist"), ("*.nothing", "holds no file to read")])
def test_what_is_not_there_is_said(folder, name, what):
    with pytest.raises(DataError, match=what):
        find_files(str(folder / name))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match="not a regular file"):
        find_files(str(tmp_path / "pipe.txt"))
    (tmp_path / "a.txt").write_text("x")
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_of_unknown_files_says_which(tmp_path):
    (tmp_path / "a.exe").write_bytes(b"x")
    with pytest.raises(DataError, match=r"only 1 \.exe"):
        find_files(str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DataError, match="closed: cannot be read"):
        find_files(str(tmp_path))


def test_formats_go_by_the_suffix_before_the_compression(tmp_path):
    expected = {
        "a.TXT": "text",
        "a.html.zst": "html",
        "a.gz": None,
        "a": None,
        "a.ndjson": "jsonl",
        "a.tar.gz": "tar",
        "a.tgz": "tar",
        "a.tar": "tar",
        "a.csv.xz": "csv",
        "a.tsv.bz2": "tsv",
        "CC-MAIN-1.warc.wet.gz": "warc",
        "a.zip": "zip",
        "a.v2.epub": "epub",
    }
    assert {name: format_of(tmp_path / name) for name in expected} == expected


def test_a_given_format_is_that_of_an_archives_members(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"x")
    (tmp_path / "b.log").write_bytes(b"x")
    assert [file.format for file in find_files(str(tmp_path), "text").files] == ["zip", "text"]
