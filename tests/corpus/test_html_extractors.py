"""Main text of web pages by each library, and what none of them is given."""

import sys
import time

import pytest
from pydantic import ValidationError

from llmforge.corpus import html_extractors
from llmforge.corpus.document import BadRow
from llmforge.corpus.html_extractors import HtmlSettings, extract
from llmforge.corpus.html_text import all_text
from llmforge.corpus.text_files import read_html
from llmforge.errors import MachineError

EXTRACTORS = ["fast", "resiliparse", "trafilatura"]
STORY = [f"Paragraph {n}: the whale swam on through the cold grey sea, and the men rowed after it." for n in range(9)]
PAGE = (
    "<html><head><title>The &amp; Whale</title><script>var x = 1;</script></head><body>"
    "<nav><ul><li><a href=/>Home</a></li><li><a href=/b>Books</a></li></ul></nav><article><h1>The Whale</h1>"
    + "".join(f"<p>{words}</p>" for words in STORY)
    + "</article><footer>Copyright by nobody</footer></body></html>"
)


def need(extractor: str) -> None:
    if extractor != "fast":
        pytest.importorskip(extractor, reason="needs the extra html")


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_each_extractor_gives_the_story_and_not_what_is_around_it(extractor):
    need(extractor)
    page = extract(PAGE, extractor, "a.html:1")
    assert not isinstance(page, str)
    assert all(words in page.text for words in STORY)
    assert page.title == "The & Whale"
    assert not any(words in page.text for words in ("Home", "Books", "Copyright", "var x"))


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("tag", ["div", "b", "table><tr><td"])
def test_a_page_nested_ten_thousand_deep_is_read_in_seconds(extractor, tag):
    need(extractor)
    start = time.process_time()
    page = extract(f"<{tag}>" * (3_000 if "table" in tag else 10_000) + "deep words", extractor, "a")
    assert not isinstance(page, str) and page.text == "deep words"
    assert time.process_time() - start < 30


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize(
    ("html", "reason"),
    [
        ("<div>" * 200_000 + "x" + "</div>" * 200_000, "nested more than 12,000 deep"),
        ("<span>a" * 20_000, "nested more than 12,000 deep"),
        ("<div " + " ".join(f"a{n}=1" for n in range(100_000)) + ">x</div>", "more than 5,000 attributes"),
        ("<div " + " ".join(f"a{n}" for n in range(100_000)) + ">x</div>", "more than 5,000 attributes"),
    ],
)
def test_what_takes_a_parser_minutes_is_refused_in_moments(extractor, html, reason):
    need(extractor)
    start = time.process_time()
    fault = extract(html, extractor, "a")
    assert isinstance(fault, str) and reason in fault
    assert time.process_time() - start < 5
    row = list(read_html(html.encode(), "a.html", extractor))[0][1]
    assert isinstance(row, BadRow) and reason in row.reason


def test_a_page_of_many_megabytes_goes_to_the_fast_extractor(monkeypatch):
    monkeypatch.setattr(html_extractors, "MAX_LIBRARY_CHARS", len(PAGE) - 1)
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    assert extract(PAGE, "trafilatura", "a") == extract(PAGE, "fast", "a")


def test_many_tags_that_need_no_end_are_not_depth():
    html = "<ul>" + "<li>one<br>" * 30_000 + "</ul>" + "<p>two" * 30_000
    page = extract(html, "fast", "a")
    assert not isinstance(page, str) and page.text.count("two") == 30_000


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize(
    "html", ["", "plain words", "<p>a", "</div></div>", "<a href='", "\x00<p>b</p>", "<body>", "<!--"]
)
def test_no_scrap_of_a_page_raises(extractor, html):
    need(extractor)
    page = extract(html, extractor, "a")
    assert not isinstance(page, str) and isinstance(page.text, str)


def test_auto_is_trafilatura_where_it_is_installed_and_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(html_extractors, "has_extra", lambda module: module == "trafilatura")
    assert HtmlSettings().chosen == "trafilatura"
    assert HtmlSettings(extractor="resiliparse").chosen == "resiliparse"
    monkeypatch.setattr(html_extractors, "has_extra", lambda module: False)
    assert HtmlSettings().chosen == "fast"
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(MachineError, match=r"needs the package trafilatura; .*llmforge\[html\]"):
        extract(PAGE, "trafilatura", "a.html:1")
    with pytest.raises(ValidationError):
        HtmlSettings(extractor="lynx")


def test_elements_without_content_end_where_xhtml_ends_them():
    assert all_text("<html><head><title/><script src='x'/></head><body><p>One<br/>two</p><a id='x'/>three</body>") == (
        "One\ntwo\n\nthree"
    )
