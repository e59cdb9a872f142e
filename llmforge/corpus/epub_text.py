"""An EPUB book to one document: the text of its chapters in reading order, with title, author and language.

Follows the EPUB 3.3 container: META-INF/container.xml names the package file, whose spine lists the chapters.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from llmforge.corpus.compressed import Readable
from llmforge.corpus.decoding import decode
from llmforge.corpus.document import BadRow
from llmforge.corpus.docx_text import read_facts
from llmforge.corpus.html_text import all_text
from llmforge.corpus.xml_events import Parts, UnreadableError, parse_xml

Row = tuple[int, "dict[str, object] | BadRow"]
PAGES = frozenset(["application/xhtml+xml", "text/html"])
_ENCRYPTION = "META-INF/encryption.xml"
_FONTS_ONLY = (b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC")  # mangled fonts, not text


def read_epub(what: Readable, where: str) -> Iterator[Row]:
    """One row: `text`, `chapters` (how many), and `title`, `author`, `language` where the book names them."""
    size = 0
    try:
        parts = Parts(what, where)
        size = parts.size
        yield 1, _book(parts)
    except UnreadableError as error:
        yield 1, BadRow(f"{where}:1", str(error), size)


def _book(parts: Parts) -> dict[str, object]:
    if _ENCRYPTION in parts:
        data = parts.read(_ENCRYPTION)
        if data.count(b"EncryptionMethod") > sum(data.count(name) for name in _FONTS_ONLY) * 2:
            raise UnreadableError("it is encrypted")
    package = _package_name(parts)
    data = parts.read(package)
    texts = []
    for name in _chapters(data, posixpath.dirname(package)):
        decoded = decode(parts.read(name)) if name in parts else None
        if decoded is not None:
            texts.append(all_text(decoded.text))
    texts = [text for text in texts if text]
    if not texts:
        raise UnreadableError("it holds no chapter with text")
    facts: dict[str, object] = {key: value for key, value in read_facts(data).items() if value}
    return {"text": "\n\n".join(texts), "chapters": len(texts), **facts}


def _package_name(parts: Parts) -> str:
    found: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "rootfile" and attributes.get("full-path"):
            found.append(attributes["full-path"])

    parse_xml(parts.read("META-INF/container.xml"), start, _ignore, _ignore)
    if not found:
        raise UnreadableError("its container names no book")
    return found[0]


def _chapters(package: bytes, folder: str) -> list[str]:
    """Names of the pages in the spine's order, each once; those outside the reading order are left out."""
    pages: dict[str, str] = {}
    spine: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "item" and attributes.get("media-type") in PAGES and "nav" not in attributes.get("properties", ""):
            path = unquote(attributes.get("href", "").partition("#")[0])
            pages[attributes.get("id", "")] = posixpath.normpath(posixpath.join(folder, path))
        elif name == "itemref" and attributes.get("linear") != "no":
            spine.append(attributes.get("idref", ""))

    parse_xml(package, start, _ignore, _ignore)
    return list(dict.fromkeys(pages[item] for item in spine if item in pages))


def _ignore(_: str) -> None:
    return
