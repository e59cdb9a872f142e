"""An HTML page to its main text: paragraphs, headings, lists, tables and code; no scripts, menus, forms or footers.

Walks the tree without recursion, so a page nested 10,000 deep is read like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

DROPPED = frozenset(
    "script style noscript template iframe object embed svg canvas math form button select textarea input nav aside "
    "footer dialog audio video picture map menu head title".split()
)
BLOCKS = frozenset(
    "address article blockquote body center dd details div dl dt fieldset figcaption figure h1 h2 h3 h4 h5 h6 header "
    "hr html li main ol p pre section summary table tbody tfoot thead tr ul caption".split()
)
HIDDEN_ROLES = frozenset("navigation banner contentinfo search complementary menu menubar dialog".split())
VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
MAX_LINK_RATIO = 0.6  # a block with more of its letters inside links is a menu
MIN_MAIN_SHARE = 0.3  # an <article> or <main> with less of the page's text is a teaser, not the text
_EMPTY_ELEMENT = re.compile(r"<([a-zA-Z][\w:]*)((?:\s[^<>]*)?)/>")
_SPACE = re.compile(r"[ \t\r\n\f\u00a0]+")


@dataclass(frozen=True, slots=True)
class Page:
    """The main text, blocks divided by blank lines, and the title ("" when there is none)."""

    text: str
    title: str


@dataclass(slots=True)
class _Block:
    text: str
    letters: int
    linked: int
    tag: str


def main_text(html: str) -> Page:
    """The text a reader came for; "" for a page without any."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(html)
    title_node = tree.css_first("title")
    title = _SPACE.sub(" ", title_node.text(deep=True)).strip() if title_node else ""
    body = tree.body
    if body is None:
        return Page("", title)
    blocks = list(_blocks(body))
    chosen = _main_part(tree.css("main, article, [role=main]"), blocks)
    return Page(_join(_without_menus(chosen)), title)


def all_text(xhtml: str) -> str:
    """All of a book's chapter, where nothing is a menu; `<a/>` is an element that ends, as XHTML has it."""
    from selectolax.lexbor import LexborHTMLParser

    body = LexborHTMLParser(_EMPTY_ELEMENT.sub(_with_end, xhtml)).body
    return _join([block for block in _blocks(body) if block.letters]) if body is not None else ""


def _with_end(tag: re.Match[str]) -> str:
    name, attributes = tag.groups()
    return tag.group() if name.lower() in VOID else f"<{name}{attributes}></{name}>"


def _main_part(candidates: list[LexborNode], whole: list[_Block]) -> list[_Block]:
    total = sum(block.letters for block in whole)
    best = whole
    best_letters = 0
    for node in candidates[:50]:
        blocks = list(_blocks(node))
        letters = sum(block.letters for block in blocks)
        if letters > best_letters and letters >= MIN_MAIN_SHARE * total:
            best, best_letters = blocks, letters
    articles = sum(1 for node in candidates if node.tag == "article")
    return whole if articles > 1 and best_letters < 0.6 * total else best


def _without_menus(blocks: list[_Block]) -> list[_Block]:
    return [block for block in blocks if block.letters and block.linked <= MAX_LINK_RATIO * block.letters]


def _join(blocks: list[_Block]) -> str:
    parts: list[str] = []
    for before, block in zip([None, *blocks], blocks, strict=False):
        tight = before is not None and before.tag == block.tag and block.tag in ("li", "tr", "dt", "dd")
        parts.append(("\n" if tight else "\n\n") if parts else "")
        parts.append(block.text)
    return "".join(parts)


def _blocks(root: LexborNode) -> Iterator[_Block]:
    """Runs of inline text between block boundaries, in reading order."""
    pieces: list[str] = []
    letters = linked = 0
    tag = "p"
    for kind, name, text in _walk(root):
        if kind == "text":
            pieces.append(text)
            letters += len(text.strip())
            linked += len(text.strip()) if name == "a" else 0
        elif kind == "break":
            pieces.append("\n")
        elif kind == "cell":
            pieces.append(" | " if pieces and "".join(pieces).strip() else "")
        else:
            yield from _finished(pieces, letters, linked, tag)
            pieces, letters, linked = [], 0, 0
            tag = name
    yield from _finished(pieces, letters, linked, tag)


def _finished(pieces: list[str], letters: int, linked: int, tag: str) -> Iterator[_Block]:
    if not letters:
        return
    text = "".join(pieces)
    if tag == "pre":
        text = text.strip("\n")
    else:
        lines = (" ".join(line.split()) for line in text.split("\n"))
        text = "\n".join(line for line in lines if line)
    yield _Block(f"- {text}" if tag == "li" else text, letters, linked, tag)


def _walk(root: LexborNode) -> Iterator[tuple[str, str, str]]:
    """("text", "a" inside a link, text) | ("break"|"cell"|"block", tag, ""), depth first, on an own stack."""
    stack: list[tuple[LexborNode | None, str, str]] = [(root, "", "")]
    while stack:
        node, context, closing = stack.pop()
        if node is None:
            yield "block", closing, ""
            continue
        tag = node.tag or ""
        if tag == "-text":
            raw = node.text_content or ""
            yield "text", context.partition(" ")[0], raw if "pre" in context else raw.replace("\n", " ")
            continue
        if tag in DROPPED or tag.startswith("-") or tag == "!doctype" or _is_hidden(node):
            continue
        if tag == "br":
            yield "break", tag, ""
        elif tag in ("td", "th"):
            yield "cell", tag, ""
        elif tag in BLOCKS:
            yield "block", tag, ""
            stack.append((None, "", _outer_tag(context)))
        inner = _inner_context(tag, context)
        children = []
        child = node.first_child
        while child is not None:
            children.append((child, inner, ""))
            child = child.next
        stack.extend(reversed(children))


def _inner_context(tag: str, context: str) -> str:
    """ "a" first when inside a link; "pre" last when inside preformatted text."""
    if tag == "pre":
        return f"{context} pre".lstrip() if context != "pre" else context
    return f"a {context}".rstrip() if tag == "a" and not context.startswith("a") else context


def _outer_tag(context: str) -> str:
    return "pre" if "pre" in context else "p"


def _is_hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    style = (attributes.get("style") or "").replace(" ", "").lower()
    return "hidden" in attributes or attributes.get("role") in HIDDEN_ROLES or "display:none" in style
