"""The texts that the cleaning bench runs on: real ones, and copies with words exchanged for near duplicates."""

from __future__ import annotations

import json
import random
import re
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_WORD = re.compile(r"\w+")
_PIECE = 6000


def books(data: Path) -> Iterator[str]:
    """Pieces of plain English prose of about 6,000 characters; Python's documentation where there are no books."""
    path = data / "books-train.jsonl"
    if not path.exists():
        yield from python_docs()
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def up_to(texts: Iterator[str], size: int) -> list[str]:
    """The first texts, of so many UTF-8 bytes together."""
    taken, total = [], 0
    for text in texts:
        taken.append(text)
        total += len(text.encode())
        if total >= size:
            break
    return taken


def size_of(texts: list[str]) -> int:
    """UTF-8 bytes."""
    return sum(len(text.encode()) for text in texts)


def python_docs() -> Iterator[str]:
    """The built-in corpus, through llmforge's own reader."""
    from llmforge.corpus.sources import SourceConfig, read_source

    for document in read_source(SourceConfig(path="python-docs"), on_bad=lambda row: None, on_note=lambda note: None):
        yield document.text


def kinds_of_text(data: Path) -> Iterator[tuple[str, str]]:
    """(kind, text) of real documents, over 2,000 where the data is there: prose, documentation, pages, rows, code."""
    yield from (("prose", text) for text in islice(books(data), 0, None, 6))
    yield from (("documentation", text) for text in islice(python_docs(), 900))
    yield from (("page", text) for text in islice(_pages(data), 500))
    wiki = data / "wikitext2-valid.txt"
    if wiki.exists():
        articles = re.split(r"\n(?= = [^=])", wiki.read_text(encoding="utf-8"))
        yield from (("encyclopedia", text) for text in articles if text.strip())
    for name, keys in (("gsm8k-test.jsonl", ("question", "answer")),):
        path = data / name
        if path.exists():
            for line in islice(path.open(encoding="utf-8"), 300):
                row = json.loads(line)
                yield "exercise", "\n".join(row[key] for key in keys)
    root = Path(json.__file__).parents[1]  # of Python's own library
    yield from (("code", path.read_text(encoding="utf-8")) for path in islice(sorted(root.glob("*.py")), 60))


def _pages(data: Path) -> Iterator[str]:
    """Main texts of HTML books, cut into pieces at paragraphs, tables of contents and licences included."""
    from llmforge.corpus.html_text import main_text

    archive = data / "gutenberg-raw.tar.xz"
    if not archive.exists():
        return
    with tarfile.open(archive) as members:
        for member in members:
            if not member.name.endswith((".htm", ".html")) or member.size > 2 << 20:
                continue
            file = members.extractfile(member)
            text = main_text(file.read().decode("utf-8", "replace")).text if file is not None else ""
            pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
            yield from (piece for piece in [*pieces[:8], *pieces[-8:]] if piece.strip())


def with_near_duplicates(texts: list[str], seed: int = 7) -> list[str]:
    """The texts, and for two in five of them a copy with up to 3.5 % of its words exchanged, shuffled."""
    chooser = random.Random(seed)
    vocabulary = sorted({word for text in texts[:50] for word in text.split()})
    planted = list(texts)
    for text in texts:
        if chooser.random() < 0.4:
            rate = chooser.uniform(0.0005, 0.035)
            parts = re.split(r"(\s+)", text)
            planted.append("".join(chooser.choice(vocabulary) if chooser.random() < rate else part for part in parts))
    chooser.shuffle(planted)
    return planted


def runs_of(text: str, size: int = 5) -> set[str]:
    """The runs of five words in small letters, punctuation left out: what similarity is measured on, for both sides."""
    words = _WORD.findall(text.lower())
    return {" ".join(words[start : start + size]) for start in range(max(1, len(words) - size + 1))}


def similar_pairs(texts: list[str], least: float = 0.6) -> dict[tuple[int, int], float]:
    """The Jaccard similarity of all pairs that share at least this much, by an index of all runs: exact."""
    runs = [runs_of(text) for text in texts]
    where: dict[str, list[int]] = {}
    for number, own in enumerate(runs):
        for run in own:
            where.setdefault(run, []).append(number)
    shared: dict[tuple[int, int], int] = {}
    for numbers in where.values():
        for place, first in enumerate(numbers):
            for second in numbers[place + 1 :]:
                shared[first, second] = shared.get((first, second), 0) + 1
    found = {pair: count / (len(runs[pair[0]]) + len(runs[pair[1]]) - count) for pair, count in shared.items()}
    return {pair: share for pair, share in found.items() if share >= least}
