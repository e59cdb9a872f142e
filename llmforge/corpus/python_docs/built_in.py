"""The built-in corpus by name: `python-docs`, and what is made from it: `python-docs:conversations` and so on.

| part | rows |
|---|---|
| documents | {"id": "stdlib/json.decoder.JSONDecoder", "text", "source", "metadata"} |
| conversations | {"id", "messages": [user, assistant]} for fine-tuning |
| conversations-heldout | the same, about objects that no row of `conversations` is about |
| choices | {"id", "query", "choices": [4], "gold"} about held-out objects |
| questions | {"id", "messages": [user], "answer"} about held-out objects, the best known first |

What is held out was in the pre-training text (`documents`, outside its validation split) but is asked in no
conversation of fine-tuning; questions.py says how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.json_rows import read_json_lines
from llmforge.corpus.python_docs import cache
from llmforge.corpus.python_docs.roots import versions
from llmforge.errors import DataError

if TYPE_CHECKING:
    from llmforge.corpus.python_docs.pages import Page

DOCUMENTS = "documents"
PARTS = ("conversations", "conversations-heldout", "choices", "questions")
_LICENSES = {"stdlib": "PSF-2.0", "topics": "PSF-2.0", "sympy": "BSD-3-Clause", "numpy": "BSD-3-Clause",
             "torch": "BSD-3-Clause", "pandas": "BSD-3-Clause", "networkx": "BSD-3-Clause"}  # fmt: skip

Note = Callable[[str], None]


def read_documents(path: str, on_note: Note | None = None) -> Iterator[Document]:
    """The documents; their `source` is the package each is from. The first call on a machine extracts them."""
    if _part_of(path) != DOCUMENTS:
        raise DataError("holds no documents", path, "python-docs is the corpus itself")
    for row, _ in _rows(path, on_note):
        metadata = row["metadata"]
        assert isinstance(metadata, dict), "written by this file"
        yield Document(str(row["id"]), str(row["text"]), str(row["source"]), metadata)


def read_part(path: str) -> Iterator[tuple[dict[str, object], str]]:
    """(row, "python-docs:part:number") of the named part; DataError for one that does not exist."""
    return _rows(path, None)


def check(path: str) -> int | None:
    """Raises DataError for a part that does not exist; bytes of the documents' text when they are extracted already."""
    _part_of(path)
    folder = cache.cached_folder()
    size = cache.read_facts(folder).get("text_bytes") if folder else None
    return size if isinstance(size, int) else None


def fingerprint() -> str:
    """The digest of everything the corpus is made from: versions of Python and packages, and the extracting code."""
    return cache.key()


def facts(on_note: Note | None = None) -> dict[str, object]:
    """Versions, digests of the content by part, counts by source, and what was missing; extracts when needed."""
    return cache.read_facts(cache.open_folder(lambda: make_parts(on_note)))


def _part_of(path: str) -> str:
    _, colon, part = path.partition(":")
    if not colon:
        return DOCUMENTS
    if part not in PARTS:
        raise DataError(f"has no part {part!r}", "python-docs", f"parts are {', '.join(PARTS)}")
    return part


def _rows(path: str, on_note: Note | None) -> Iterator[tuple[dict[str, object], str]]:
    part = _part_of(path)
    folder = cache.open_folder(lambda: make_parts(on_note))
    missing = cache.read_facts(folder).get("missing")
    if on_note and isinstance(missing, list):
        for what in missing:
            on_note(f"python-docs: not on this machine: {what}")
    for number, row in read_json_lines(Path(folder) / f"{part}.jsonl.zst", path):
        if isinstance(row, BadRow):
            raise DataError(row.reason, row.where, "remove the cache folder")
        yield row, f"{path}:{number}"


def make_parts(on_note: Note | None) -> tuple[cache.Parts, dict[str, object]]:
    """Extract the documentation of this machine and make every part of it."""
    from llmforge.corpus.python_docs.choices import choices
    from llmforge.corpus.python_docs.extract import extract
    from llmforge.corpus.python_docs.pages import build_pages
    from llmforge.corpus.python_docs.questions import asked_objects, conversations, questions

    installed = versions()
    if on_note:
        on_note(f"python-docs: reading the documentation of {', '.join(installed)} (once, then it is cached)")
    found = extract()
    pages, objects = build_pages(found)
    asked = asked_objects(objects)
    documents = [_document_row(page, installed) for page in pages]
    parts: cache.Parts = {
        DOCUMENTS: documents,
        "conversations": conversations(asked, held_out=False),
        "conversations-heldout": conversations(asked, held_out=True),
        "choices": choices(asked),
        "questions": questions(asked),
    }
    sizes: dict[str, int] = {}
    for page in pages:
        sizes[page.source] = sizes.get(page.source, 0) + len(page.text.encode())
    absent = [f"{name} (not installed)" for name in _LICENSES if name not in sizes and name not in ("topics", "stdlib")]
    recorded: dict[str, object] = {"versions": installed, "bytes_by_source": sizes, "text_bytes": sum(sizes.values())}
    return parts, {**recorded, "missing": [*found.missing, *absent]}


def _document_row(page: Page, installed: dict[str, str]) -> dict[str, object]:
    version = installed.get(page.source, installed["python"])
    metadata = {"module": page.module, "version": version, "license": _LICENSES[page.source]}
    return {"id": page.id, "text": page.text, "source": page.source, "metadata": metadata}
