"""WARC: pages of the web with their address, whole and in blocks, and answers that are no pages passed over."""

import gzip
import random

import pytest

from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.unit_reading import read_unit
from llmforge.corpus.units import plan_units
from llmforge.errors import DataError

warc_rows = pytest.importorskip("llmforge.corpus.warc_rows")
pytest.importorskip("fastwarc", reason="needs the extra warc")


def record(kind: str, url: str, block: bytes, content: str = "application/http; msgtype=response") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-05-06T07:08:09Z\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{abs(hash(url)) % 10**12:012}>\r\n"
        f"Content-Type: {content}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def answer(body: bytes, status: str = "200 OK", kind: str = "text/html; charset=utf-8", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}\r\n".encode() + body


def page(words: str) -> bytes:
    return f"<html><head><title>T</title></head><body><p>{words}</p></body></html>".encode()


RECORDS = [
    record("warcinfo", "", b"software: x\r\n", "application/warc-fields"),
    record("request", "http://a/", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request"),
    record("response", "http://a/", answer(page("Call me Ishmael."))),
    record("response", "http://a/gone", answer(page("Not here."), "404 Not Found")),
    record("response", "http://a/p.png", answer(b"\x89PNG", kind="image/png")),
    record("response", "http://a/t", answer(b"Plain w\xf6rds.", kind="text/plain; charset=latin-1")),
    record("response", "http://a/z", answer(gzip.compress(page("Packed words.")), more="Content-Encoding: gzip\r\n")),
    record(
        "response",
        "http://a/c",
        answer(b"5\r\n<p>ab\r\n6\r\nc</p> \r\n0\r\n\r\n", more="Transfer-Encoding: chunked\r\n"),
    ),
    record("conversion", "http://a/w", b"Text of a WET file.", "text/plain"),
]
TEXTS = ["Call me Ishmael.", "Plain wörds.", "Packed words.", "abc", "Text of a WET file."]
FAST = {"html": {"extractor": "fast"}}


def documents(path) -> tuple[int, list[Document | BadRow]]:
    source = SourceConfig(path=str(path), **FAST)
    units = list(plan_units(source))
    return len(units), [document for unit in units for document in read_unit(unit, source)]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_pages_come_with_their_address_and_date(tmp_path, name):
    packed = b"".join(gzip.compress(one) if name.endswith("gz") else one for one in RECORDS)
    (tmp_path / name).write_bytes(packed)
    _, found = documents(tmp_path / name)
    assert [document.text.strip() for document in found] == TEXTS
    assert found[0].metadata == {
        "file": name,
        "row": 1,
        "encoding": "utf-8",
        "title": "T",
        "url": "http://a/",
        "date": "2024-05-06T07:08:09Z",
        "mime": "text/html",
    }


def test_blocks_of_a_large_archive_give_what_the_whole_gives(tmp_path, monkeypatch):
    (tmp_path / "a.warc").write_bytes(b"".join(RECORDS * 20))
    whole = documents(tmp_path / "a.warc")
    monkeypatch.setattr("llmforge.corpus.units.BLOCK_BYTES", 3000)
    parts = documents(tmp_path / "a.warc")
    assert parts[0] > 5 and whole[0] == 1
    assert parts[1] == whole[1] and len(whole[1]) == 100


def test_a_page_that_is_too_large_is_a_bad_row(tmp_path, monkeypatch):
    monkeypatch.setattr(warc_rows, "MAX_HTML_BYTES", 5000)
    data = record("response", "http://a/", answer(page("x" * 9000)))
    (tmp_path / "a.warc").write_bytes(RECORDS[2] + data + RECORDS[2])
    whole = documents(tmp_path / "a.warc")[1]
    monkeypatch.setattr("llmforge.corpus.units.BLOCK_BYTES", 1000)
    assert documents(tmp_path / "a.warc")[1] == whole
    assert isinstance(whole[1], BadRow) and whole[1].where == "a.warc:2" and whole[2].id == "a.warc#3"


def test_a_body_that_does_not_unpack_is_a_bad_row_and_the_next_page_is_read(tmp_path):
    body = gzip.compress(page("Lost words." * 100))
    body = body[:20] + b"\xff" * 30 + body[50:]
    broken = record("response", "http://a/z", answer(body, more="Content-Encoding: gzip\r\n"))
    (tmp_path / "a.warc").write_bytes(broken + RECORDS[2])
    found = documents(tmp_path / "a.warc")[1]
    assert isinstance(found[0], BadRow) and "its HTTP answer cannot be read" in found[0].reason
    assert isinstance(found[1], Document) and (found[1].text, found[1].id) == (TEXTS[0], "a.warc#2")


def test_a_cut_archive_is_refused_by_name(tmp_path):
    (tmp_path / "a.warc.gz").write_bytes(b"".join(map(gzip.compress, RECORDS))[:-30])
    with pytest.raises(DataError, match=r"a\.warc\.gz: is (cut short|a damaged)"):
        documents(tmp_path / "a.warc.gz")


def both(path, monkeypatch) -> list[Document | BadRow]:
    """What is read, the same by whole files and by blocks."""
    whole = documents(path)[1]
    with monkeypatch.context() as patch:
        patch.setattr("llmforge.corpus.units.BLOCK_BYTES", 1000)
        assert documents(path)[1] == whole
    return whole


@pytest.mark.parametrize("cut", [5, 6, 8, 40, 120, 200, 300])
def test_a_plain_archive_that_is_cut_in_its_last_record_has_a_bad_row(tmp_path, monkeypatch, cut):
    (tmp_path / "a.warc").write_bytes((RECORDS[2] * 6)[:-cut])
    found = both(tmp_path / "a.warc", monkeypatch)
    assert [type(row) for row in found] == [Document] * 5 + [BadRow]
    assert found[5] == BadRow("a.warc:6", "the record is cut", found[5].size)


@pytest.mark.parametrize("cut", [1, 4])
def test_the_line_ends_behind_the_last_record_are_not_missed(tmp_path, monkeypatch, cut):
    (tmp_path / "a.warc").write_bytes((RECORDS[2] * 6)[:-cut])
    assert [type(row) for row in both(tmp_path / "a.warc", monkeypatch)] == [Document] * 6


@pytest.mark.parametrize("more", [len(RECORDS[2]), 10**6])
def test_a_record_that_swallows_the_next_ones_is_a_bad_row(tmp_path, monkeypatch, more):
    length = int(RECORDS[2].split(b"Content-Length: ")[1].split(b"\r")[0])
    wrong = RECORDS[2].replace(b"Content-Length: %d" % length, b"Content-Length: %d" % (length + more))
    (tmp_path / "a.warc").write_bytes(RECORDS[2] + wrong + RECORDS[2] * 3)
    found = both(tmp_path / "a.warc", monkeypatch)
    kept = 2 if more < 10**6 else 0
    assert [type(row) for row in found] == [Document, BadRow, *[Document] * kept]
    assert found[1].where == "a.warc:2" and found[1].reason in (
        "its Content-Length is too large: the next record lies within it",
        "the record is cut",
    )


@pytest.mark.parametrize("large", [False, True])
def test_the_pages_before_a_damage_are_read(tmp_path, monkeypatch, large):
    drawn = random.Random(5)
    pages = [record("response", f"http://a/{n}", answer(page(drawn.randbytes(500).hex()))) for n in range(100)]
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(b"".join(pages))[:-20])
    if large:
        monkeypatch.setattr("llmforge.corpus.units.BLOCK_BYTES", 5000)
    source = SourceConfig(path=str(tmp_path), **FAST)
    found = [row for unit in plan_units(source, forgiving=True) for row in read_unit(unit, source, forgiving=True)]
    assert len(found) >= 100 and isinstance(found[-1], BadRow)
    assert all(isinstance(row, Document) for row in found[:-1])
