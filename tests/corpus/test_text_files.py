"""Text, Markdown and HTML files to rows."""

import random

import pytest

from llmforge.corpus import text_files
from llmforge.corpus.document import BadRow
from llmforge.corpus.html_text import main_text
from llmforge.corpus.text_files import read_html, read_markdown, read_text


def rows(reader, path):
    return list(reader(path, path.name))


def test_a_book_is_one_row_with_plain_newlines(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes("\ufeffCall me Ishmael.\r\nSome years ago\rnever mind.".encode())
    text = "Call me Ishmael.\nSome years ago\nnever mind."
    assert rows(read_text, path) == [(1, {"text": text, "encoding": "utf-8-sig"})]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_parts_of_a_huge_file_are_the_file(tmp_path, monkeypatch, encoding):
    monkeypatch.setattr(text_files, "PART_BYTES", 1000)
    drawn = random.Random(0)
    text = "\n\n".join("Wörter " * drawn.randint(1, 60) for _ in range(100))
    path = tmp_path / "huge.txt"
    path.write_text(text, encoding=encoding, newline="")
    found = rows(read_text, path)
    assert "".join(str(row["text"]) for _, row in found) == text
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    assert encoding == "utf-16" or (len(found) > 10 and all(str(row["text"]).endswith("\n\n") for _, row in found[:-1]))


def test_one_line_without_an_end_is_cut_within_no_character(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PART_BYTES", 1001)
    path = tmp_path / "line.txt"
    path.write_text("ä" * 5000, encoding="utf-8")
    found = rows(read_text, path)
    assert "".join(str(row["text"]) for _, row in found) == "ä" * 5000


def test_a_picture_named_txt_is_a_bad_row(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(bytes(range(256)) * 20)
    assert rows(read_text, path) == [(1, BadRow("a.txt:1", "it is binary, not text", 5120))]


def test_markdown_loses_front_matter_and_comments_only(tmp_path):
    path = tmp_path / "a.md"
    path.write_text('---\ntitle: "The sea"\ntags: [a]\n---\n# Sea\n\n<!-- hidden\nnote -->Blue *water*.\n')
    assert rows(read_markdown, path) == [
        (1, {"text": "# Sea\n\nBlue *water*.\n", "encoding": "utf-8", "title": "The sea"})
    ]


PAGE = """<!doctype html><html><head><title>The  whale</title><style>p{}</style><script>"<p>no</p>"</script></head>
<body><nav><a href=/>Home</a> <a href=/b>Books</a></nav><header><h1>Site</h1></header>
<main><h2>Chapter&nbsp;1</h2><p>Call me <b>Ishmael</b>. Some years ago &amp; far,<br>at sea.</p>
<ul><li>a <a href=x>harpoon</a> of iron</li><li>a boat</li></ul><pre>if x:
    y()</pre><table><tr><th>Name</th><th>Age</th></tr><tr><td>Ahab</td><td>58</td></tr></table>
<p hidden>secret</p><p style="display: none">secret</p></main>
<div><a href=1>one</a> <a href=2>two</a></div><footer>Copyright</footer></body></html>"""


def test_a_page_gives_its_paragraphs_and_nothing_around_them():
    page = main_text(PAGE)
    assert page.title == "The whale"
    assert page.text == (
        "Chapter 1\n\nCall me Ishmael. Some years ago & far,\nat sea.\n\n- a harpoon of iron\n- a boat\n\n"
        "if x:\n    y()\n\nName | Age\nAhab | 58"
    )


def test_a_page_nested_ten_thousand_deep_is_read():
    assert main_text("<div>" * 10_000 + "deep words" + "</div>" * 10_000).text == "deep words"


@pytest.mark.parametrize("html", ["", "plain words", "<p>a", "</div></div>", "<a href='", "\x00<p>b</p>", "<body>"])
def test_no_page_raises(html):
    assert isinstance(main_text(html).text, str)


def test_the_declared_character_set_decides_when_the_bytes_do_not(tmp_path):
    path = tmp_path / "a.html"
    path.write_bytes('<meta charset="iso-8859-2"><p>Łódź jest tu.</p>'.encode("iso-8859-2"))
    assert rows(read_html, path)[0][1]["text"] == "Łódź jest tu."
