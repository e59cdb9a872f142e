"""JSON Lines and JSON: every bad row by its line, in bounded memory and time."""

import time
import tracemalloc

import pytest

from llmforge.corpus import json_rows
from llmforge.corpus.document import BadRow
from llmforge.corpus.json_rows import read_json, read_json_lines
from llmforge.errors import DataError


def lines(tmp_path, data: bytes, reader=read_json_lines, name="a.jsonl"):
    path = tmp_path / name
    path.write_bytes(data)
    return list(reader(path, name))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a"', "not valid JSON"),
        (b'{"text": NaN}', "not valid JSON"),
        (b"\xff\xfe\xfd", "not valid JSON"),
        (b'{"text": "caf\xe9"}', "not valid JSON"),
        (b"[1, 2]", "a list, not an object"),
        (b'"text"', "a string, not an object"),
        (b"null", "null, not an object"),
        (b"1.5", "a number, not an object"),
        (b'{"a": ' + b"[" * 2000 + b"]" * 2000 + b"}", "not valid JSON"),
        (b'{"text": "a", "b": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 32 deep"),
        (b'{"text": "\\ud800", "b": ' + b"[" * 90_000 + b"}", "not valid JSON"),
    ],
)
def test_a_bad_line_is_named_and_the_next_is_read(tmp_path, line, reason):
    data = b"\xef\xbb\xbf" + b'{"text": "good"}\n\n' + line + b'\n{"text": "also"}'
    found = lines(tmp_path, data) if not line.startswith(b"\xff") else lines(tmp_path, data)
    assert [number for number, _ in found] == [1, 3, 4]
    bad = found[1][1]
    assert isinstance(bad, BadRow)
    assert bad.where == "a.jsonl:3"
    assert reason in bad.reason


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path):
    found = lines(tmp_path, b'{"text": "a\\ud83d b", "n": ["\\udc00"]}\n{"text": "\\ud83d\\ude00"}')
    assert [row for _, row in found] == [{"text": "a\ufffd b", "n": ["\ufffd"]}, {"text": "😀"}]


def test_a_line_beyond_the_limit_is_passed_over_without_being_held(tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, "MAX_ROW_BYTES", 1 << 20)
    path = tmp_path / "a.jsonl"
    with path.open("wb") as out:
        out.write(b'{"text": "first"}\n{"text": "')
        for _ in range(100):
            out.write(b"x" * (1 << 20))
        out.write(b'"}\n{"text": "last"}\n')
    tracemalloc.start()
    found = list(read_json_lines(path, "a.jsonl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [number for number, _ in found] == [1, 2, 3]
    assert isinstance(found[1][1], BadRow) and "longer than 1 MiB" in found[1][1].reason
    assert found[1][1].size > 100 << 20
    assert peak < 16 << 20


def test_a_million_empty_rows_pass_in_seconds(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text":""}\n' * 1_000_000)
    start = time.process_time()
    assert sum(1 for _ in read_json_lines(path, "a.jsonl")) == 1_000_000
    assert time.process_time() - start < 20


def test_utf_16_lines_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(DataError, match="UTF-16.*save it as UTF-8"):
        lines(tmp_path, '{"text": "a"}\n'.encode("utf-16"))


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b'[{"text": "a"}, {"text": "b"}]', [{"text": "a"}, {"text": "b"}]),
        (b'{"data": [{"text": "a"}], "version": 1}', [{"text": "a"}]),
        (b'{"text": "a"}', [{"text": "a"}]),
        (b'{"text": "a"}\n{"text": "b"}\n', [{"text": "a"}, {"text": "b"}]),
        (b'{"messages": [{"role": "user"}]}', [{"messages": [{"role": "user"}]}]),
    ],
)
def test_a_json_file_is_a_list_an_object_or_lines(tmp_path, data, rows):
    assert [row for _, row in lines(tmp_path, data, read_json, "a.json")] == rows


@pytest.mark.parametrize("data", [b"", b"[1, 2", b"{"])
def test_a_json_file_that_is_none_is_refused(tmp_path, data):
    with pytest.raises(DataError, match="a.json:1: is not valid JSON"):
        lines(tmp_path, data, read_json, "a.json")
