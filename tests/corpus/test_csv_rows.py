"""CSV and TSV: Python's own csv module is the reference, for whole files and for files in blocks."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.corpus import csv_rows
from llmforge.corpus.csv_rows import open_table, parse_table, read_csv, read_tsv, table_blocks
from llmforge.corpus.document import BadRow
from llmforge.errors import DataError

FIELD = st.text(st.sampled_from('ab ",;\n\tä|x'), max_size=12)


def written(rows, **options) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, **options).writerows(rows)
    return out.getvalue().encode()


def in_blocks(data: bytes, size: int, delimiter: str | None = None):
    table, first, lines = open_table(io.BytesIO(data), "a.csv", delimiter)
    found = []
    for number, text in table_blocks(lines, table, first, size):
        if isinstance(text, BadRow):
            found.append((number, text))
        else:
            found.extend(parse_table(text, table, number, "a.csv"))
    return found


@given(st.lists(st.tuples(FIELD, FIELD), max_size=12), st.integers(1, 60))
@settings(max_examples=150, deadline=None)
def test_what_the_csv_module_wrote_comes_back_whole_and_in_blocks(rows, size):
    rows = [(left or "x", right) for left, right in rows]
    data = written([("id", "text"), *rows])
    found = list(read_csv(data, "a.csv", ","))
    plain = [tuple(field.replace("\r\n", "\n").replace("\r", "\n") for field in row) for row in rows]
    assert [tuple(row.values()) for _, row in found] == plain
    assert in_blocks(data, size, ",") == found


@given(st.text(st.sampled_from('ab",\n'), max_size=200), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_quotes_in_wild_places_give_the_same_rows_whole_and_in_blocks(body, size):
    data = b"id,text\n" + body.encode()
    assert in_blocks(data, size, ",") == list(read_csv(data, "a.csv", ","))


def test_a_row_is_known_by_the_line_it_begins_on_and_a_ragged_one_is_named():
    data = b'id,text\n1,"two\nlines"\n\n2\n3,a,b\n4,"he said ""no"""\n'
    assert list(read_csv(data, "a.csv")) == [
        (2, {"id": "1", "text": "two\nlines"}),
        (5, BadRow("a.csv:5", "it has 1 fields and the header names 2", 1)),
        (6, BadRow("a.csv:6", "it has 3 fields and the header names 2", 3)),
        (7, {"id": "4", "text": 'he said "no"'}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter):
    rows = [("id", "text", "n"), ("1", "one, two, three; four", "5"), ("2", "a|b", "6"), ("3", "x\ty", "7")]
    data = written(rows, delimiter=delimiter)
    assert [row["text"] for _, row in read_csv(data, "a.csv")] == [row[1] for row in rows[1:]]


def test_a_tsv_goes_by_tabs_whatever_its_first_line_holds():
    assert list(read_tsv(b"id,no\ttext\n1\ta,b\n", "a.tsv")) == [(2, {"id,no": "1", "text": "a,b"})]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-8"])
def test_line_ends_and_unicode_forms_are_all_alike(end, encoding):
    data = end.join(["id,text", '1,"Wörter', 'hier"', "2,da"]).encode(encoding)
    rows = [row for _, row in read_csv(data, "a.csv")]
    found = [(row["id"], row["text"]) for row in rows]
    assert found == [("1", "Wörter\nhier"), ("2", "da")]
    assert [row["text"] for _, row in in_blocks(data, 5)] == ["Wörter\nhier", "da"]


def test_an_accent_behind_the_first_64_kib_is_read_as_windows_1252():
    data = b"id,text\n" + b"1,plain\n" * 20_000 + "2,café\n".encode("cp1252")
    assert list(read_csv(data, "a.csv"))[-1][1] == {"id": "2", "text": "café"}


def test_nuls_and_huge_fields_pass_and_one_beyond_the_limit_is_a_bad_row(monkeypatch):
    monkeypatch.setattr(csv_rows, "MAX_ROW_CHARS", 200_000)
    data = b"id,text\n1,a\0b\n2," + b"x" * 150_000 + b"\n3," + b"y" * 300_000 + b"\n4,end\n"
    found = list(read_csv(data, "a.csv"))
    assert found[0] == (2, {"id": "1", "text": "a\0b"})
    assert len(found[1][1]["text"]) == 150_000
    assert isinstance(found[2][1], BadRow)
    assert found[-1] == (5, {"id": "4", "text": "end"})
    blocks = in_blocks(data, 1000)
    assert [(number, isinstance(row, BadRow)) for number, row in blocks] == [
        (2, False),
        (3, False),
        (4, True),
        (5, False),
    ]
    assert [row for row in blocks if row[0] != 4] == [row for row in found if row[0] != 4]


def test_a_quote_that_never_ends_loses_its_own_row_alone(monkeypatch):
    monkeypatch.setattr(csv_rows, "MAX_ROW_CHARS", 1000)
    data = b'id,text\n1,a\n2,"open\n' + b"3,b\n" * 1000
    blocks = in_blocks(data, 100)
    assert blocks[0] == (2, {"id": "1", "text": "a"})
    assert blocks[1][0] == 3 and isinstance(blocks[1][1], BadRow)
    assert blocks[-1] == (1003, {"id": "3", "text": "b"})


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,text,a\n", "the column 'a' twice"),
        (bytes(range(30)) * 9, "binary"),
    ],
)
def test_what_is_no_table_is_refused(data, what):
    with pytest.raises(DataError, match=what):
        list(read_csv(data, "a.csv"))
