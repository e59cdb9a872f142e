"""Which library takes the main text out of HTML pages, and what every one of them is kept from.

| extractor | of | F1 on 181 article pages | pages/s |
|---|---|---|---|
| trafilatura (extra html) | Barbaresi 2021, in its fast mode | .962 | 62 |
| resiliparse (extra html) | Bevendorff et al. 2018 | .916 | 469 |
| fast | selectolax's parser and html_text.py | .887 | 347 |

(scrapinghub/article-extraction-benchmark, its own metric over runs of four words, a processor second of one core;
scripts/bench/html_text.py.) A parser's time grows
with the square of a page's depth and of a tag's attributes, so pages far beyond any real one are refused first.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Literal

from pydantic import Field

from llmforge.config.schema import Config
from llmforge.corpus.extras import has_extra, load_extra
from llmforge.corpus.html_text import Page, main_text

Extractor = Literal["auto", "fast", "resiliparse", "trafilatura"]
MAX_DEPTH = 12_000
MAX_ATTRIBUTES = 5_000  # of one tag
MAX_LIBRARY_CHARS = 16 << 20  # a page of 63 MB takes trafilatura 39 s and 2.4 GB, the fast extractor 6 s and 1.1 GB
_LONG_TAG = re.compile(r"<[a-zA-Z][^<>]{20000,}")
_TITLE = re.compile(r"<title[^<>]*>([^<]{0,2000})", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Tags that have no end, or whose end may be left out without the next one lying inside.
_FLAT = frozenset(
    "area base br col embed hr img input link meta param source track wbr p li dd dt tr td th option optgroup tbody "
    "thead tfoot colgroup".split()
)


class HtmlSettings(Config):
    """How HTML pages become text."""

    extractor: Extractor = Field(
        default="auto",
        description="trafilatura and resiliparse need the extra html; auto: trafilatura when installed, else fast",
    )

    @property
    def chosen(self) -> Extractor:
        """The extractor that auto stands for on this machine."""
        if self.extractor != "auto":
            return self.extractor
        return "trafilatura" if has_extra("trafilatura") else "fast"


def extract(html: str, extractor: Extractor, where: str) -> Page | str:
    """The page's main text and title, or, as a plain string, why it cannot be read.

    A page in which the library finds nothing, or one beyond MAX_LIBRARY_CHARS, goes to the fast extractor.

    Raises:
        MachineError: the library is not installed.
    """
    fault = _fault(html)
    if fault is not None:
        return fault
    if extractor in ("fast", "auto") or len(html) > MAX_LIBRARY_CHARS:
        return main_text(html)
    text = _trafilatura(html, where) if extractor == "trafilatura" else _resiliparse(html, where)
    return Page(text, _title(html)) if text.strip() else main_text(html)


def _title(html: str) -> str:
    found = _TITLE.search(html)
    return " ".join(unescape(found.group(1)).split()) if found else ""


def _fault(html: str) -> str | None:
    for tag in _LONG_TAG.finditer(html):
        if tag.group().count("=") > MAX_ATTRIBUTES or tag.group().count(" ") > 10 * MAX_ATTRIBUTES:
            return f"a tag of the page has more than {MAX_ATTRIBUTES:,} attributes"
    if html.count("<") - html.count("</") <= MAX_DEPTH:
        return None  # not enough tags to be so deep, which is all of most pages' cost here
    depth = 0
    for tag in _TAG.finditer(html):
        end, name = tag.groups()
        if name.lower() not in _FLAT:
            depth = max(0, depth - 1) if end else depth + 1
            if depth > MAX_DEPTH:
                return f"the page is nested more than {MAX_DEPTH:,} deep"
    return None


def _trafilatura(html: str, where: str) -> str:
    import logging

    library = load_extra("trafilatura", "html", where)
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs each page that it finds empty
    # Fast mode leaves out two fallback extractors: F1 .963 instead of .960 at 1.5 times the speed.
    text: str | None = library.extract(html, include_comments=False, include_tables=True, fast=True)
    return text or ""


def _resiliparse(html: str, where: str) -> str:
    tree = load_extra("resiliparse.parse.html", "html", where).HTMLTree.parse(html)
    plain = load_extra("resiliparse.extract.html2text", "html", where).extract_plain_text
    text: str = plain(tree, main_content=True, alt_texts=False, links=False)
    return text
