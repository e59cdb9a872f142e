"""The bytes that a document's row stands at, by reading them back from each kind of file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.corpus.csv_rows import read_csv, row_spans
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.raw_spans import raw_spans
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.unit_reading import read_unit
from llmforge.corpus.units import plan_units

TEXTS = [f'Line one of {n}, "quoted".\nLine two, é {n}.' for n in range(3)]
HEAD = b"WARC/1.0\r\nWARC-Type: %s\r\nWARC-Record-ID: <urn:uuid:%032d>\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"


def warc() -> bytes:
    parts = []
    for number, text in enumerate(TEXTS):
        for kind in (b"request", b"conversion"):
            body = text.encode()
            head = HEAD % (kind, number) + b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
            parts.append(head + body + b"\r\n\r\n")
    return b"".join(parts)


def table() -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["text", "n"])
    writer.writerows([text, n] for n, text in enumerate(TEXTS))
    return out.getvalue().encode()


def lines() -> bytes:
    return b"".join(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in TEXTS)


CONTENTS = {"a.txt": TEXTS[0].encode(), "b.csv": table(), "c.jsonl": lines(), "d.warc": warc()}


def documents(folder: Path) -> tuple[SourceConfig, list[Document]]:
    source = SourceConfig(path=str(folder))
    found = [row for unit in plan_units(source) for row in read_unit(unit, source)]
    assert not any(isinstance(row, BadRow) for row in found)
    return source, [row for row in found if isinstance(row, Document)]


def unpacked(path: Path, member: str | None) -> bytes:
    if path.suffix == ".zip":
        assert member is not None
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    if path.suffix == ".tar":
        assert member is not None
        with tarfile.open(path) as archive:
            stream = archive.extractfile(member)
            assert stream is not None
            return stream.read()
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def put(folder: Path, kind: str) -> None:
    for name, content in CONTENTS.items():
        if kind == "gz":
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        elif kind == "plain":
            (folder / name).write_bytes(content)
    if kind == "zip":
        with zipfile.ZipFile(folder / "all.zip", "w") as archive:
            for name, content in CONTENTS.items():
                archive.writestr(f"in/{name}", content)
    if kind == "tar":
        with tarfile.open(folder / "all.tar", "w") as archive:
            for name, content in CONTENTS.items():
                info = tarfile.TarInfo(f"in/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("kind", ["plain", "gz", "zip", "tar"])
def test_the_bytes_hold_the_documents_text(tmp_path: Path, kind: str) -> None:
    put(tmp_path, kind)
    source, found = documents(tmp_path)
    assert len(found) == 1 + 3 * len(TEXTS)
    rows = [(str(one.metadata["file"]), int(str(one.metadata.get("row", 1)))) for one in found]
    spans = raw_spans(source, rows)
    for document, row in zip(found, rows, strict=True):
        span = spans[row]
        assert span.start is not None and span.packed == (kind != "plain")
        raw = unpacked(span.path, span.member)[span.start : span.stop]
        name = row[0]
        if ".jsonl" in name:
            assert json.loads(raw)["text"] == document.text
        elif ".csv" in name:
            assert next(csv.reader(io.StringIO(raw.decode(), newline="")))[0] == document.text
        elif ".warc" in name:
            assert raw.startswith(b"WARC/1.0\r\nWARC-Type: conversion") and raw.endswith(document.text.encode())
        else:
            assert raw.decode() == document.text


def test_what_is_gone_has_no_place_and_a_row_without_bytes_has_its_file(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps([{"text": "one"}, {"text": "two"}]))
    source, found = documents(tmp_path)
    spans = raw_spans(source, [("e.json", 2), ("gone.txt", 1), ("gone.zip/a.txt", 1)])
    assert list(spans) == [("e.json", 2)] and spans["e.json", 2].start is None
    assert [one.text for one in found] == ["one", "two"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.text("a,\"\n\r é;'", max_size=12), st.text('b\n"', max_size=4)), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
)
def test_spans_of_a_table_are_its_rows(rows: list[tuple[str, str]], end: str) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["text", "more"])
    writer.writerows(rows)
    data = out.getvalue().encode()
    spans = {first: data[start:stop] for first, start, stop in row_spans(io.BytesIO(data), ",")}
    for number, row in read_csv(data, "t.csv", ","):
        assert isinstance(row, dict)
        fields = next(csv.reader(io.StringIO(spans[number].decode(), newline="")))
        # The reader makes every line end inside a field a newline.
        assert [field.replace("\r\n", "\n").replace("\r", "\n") for field in fields] == [row["text"], row["more"]]
