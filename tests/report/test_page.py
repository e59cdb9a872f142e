"""Tables and paragraphs of the terminal page."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from llmforge.report import html
from llmforge.report.charts import histogram
from llmforge.report.page import WIDTH, number, paragraph, section, share
from llmforge.report.table import table, width


def test_a_table_aligns_its_columns() -> None:
    assert table([["a", "1"], ["longer", "23"]], ["name", "n"], right=(1,)) == [
        "name     n",
        "──────  ──",
        "a        1",
        "longer  23",
    ]
    assert table([]) == []


def test_wide_characters_take_two_columns() -> None:
    lines = table([["日本", "x"], ["abcd", "x"]])
    assert [width(line) for line in lines] == [7, 7]
    assert width("e\u0301") == 1


def test_a_section_without_lines_is_left_out() -> None:
    assert section("Scores", []) == []
    assert section("Scores", ["x"])[1:] == ["  x", ""]


def test_paragraphs_keep_line_breaks_and_indents_and_end_in_an_ellipsis() -> None:
    assert paragraph("a\n\n    b\n", "  ") == ["  a", "", "      b"]
    assert paragraph("a\nb\nc", "  ", 2) == ["  a", "  b ..."]
    assert paragraph("") == []


@given(st.text(), st.integers(1, 5))
def test_a_paragraph_never_leaves_the_page(text: str, most: int) -> None:
    lines = paragraph(text, "    ", most)
    assert len(lines) <= most and all(len(line) <= WIDTH - 2 for line in lines)


def test_shares() -> None:
    assert share(1, 8) == "12.5 %" and share(1, 0) == "-"


def test_numbers_have_no_powers_of_ten() -> None:
    told = [number(value) for value in (0, 0.1, 1e7, 26_443.2, 1.38e-5, 12.5, -2000, 1e-12)]
    assert told == ["0", "0.1", "10,000,000", "26,443", "0.0000138", "12.5", "-2,000", "0"]


def test_a_page_asks_for_nothing_and_a_wide_table_scrolls_by_itself() -> None:
    hostile = '<img src="http://a.example/x.png">'
    parts = [html.table([[hostile, "1"]], ["", "n"]), html.folded(hostile, [(hostile, hostile)])]
    page = html.page(hostile, hostile, [html.section("One", *parts), histogram([0, 1, 2], [3, 4], 1.0, hostile)])
    assert "<img" not in page and not re.search(r"<(?:script|link|iframe|object)|@import|url\(", page)
    assert not re.search(r"<[^>]*(?:src|href)=", page)
    assert '<div class="wide"><table>' in page and "default-src 'none'" in page
