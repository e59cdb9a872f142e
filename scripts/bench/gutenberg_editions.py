"""Which edition of each book stays: near duplicates over the folders of a raw Gutenberg archive, as a table.

    python scripts/bench/gutenberg_editions.py ARCHIVE.tar.xz [--keep longest] [--strip]

ARCHIVE has one folder a book, with plain-text and HTML editions that differ in encoding, line wrapping, licence and
notes. Files are read as `llmforge clean` reads them. --strip takes the licence around the START and END marks off
first, to show what it changes.
"""

from __future__ import annotations

import argparse
import re
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

from llmforge.cleaning.dedup.keep import KeepSettings, preference
from llmforge.cleaning.dedup.near import NearSettings, find_near_duplicates, signatures
from llmforge.corpus.document import BadRow
from llmforge.corpus.files import find_files
from llmforge.corpus.rows import read_file

MARKS = re.compile(r"\*\*\* ?(START|END) OF (?:THE|THIS) PROJECT GUTENBERG[^*]*\*\*\*|\*END\*?THE SMALL PRINT.*", re.I)


def stripped(text: str) -> str:
    """What stands between the last mark of a start and the first of an end."""
    marks = list(MARKS.finditer(text))
    ends = [mark.start() for mark in marks if (mark[1] or "").upper() == "END"]
    end = ends[0] if ends else len(text)
    begins = [mark.end() for mark in marks if (mark[1] or "").upper() != "END" and mark.end() < end]
    return text[begins[-1] if begins else 0 : end]


def read(folder: Path, strip: bool) -> list[tuple[str, str, str]]:
    """(book, file, text) of every file that has a text."""
    found = []
    for file in find_files(str(folder)).files:
        for _, row in read_file(file):
            if not isinstance(row, BadRow):
                text = str(row["text"])
                found.append((file.path.parent.name, file.path.name, stripped(text) if strip else text))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--keep", choices=["longest", "first"], default="longest")
    parser.add_argument("--strip", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(given.archive) as archive:
            archive.extractall(folder, filter="data")
        rows = read(Path(folder), given.strip)
    texts = [text for _, _, text in rows]
    sizes = [len(text.encode()) for text in texts]
    chosen = NearSettings()
    start = time.process_time()
    found = np.concatenate([signatures([text], chosen) for text in texts])
    preferred = preference(KeepSettings(keep=given.keep), sizes, [book for book, _, _ in rows])
    dropped = find_near_duplicates(found, preferred, texts.__getitem__, chosen)
    seconds = time.process_time() - start
    print(f"| book | files | stay | dropped, least similarity |\n|{'---|' * 4}")
    across = 0
    for book in dict.fromkeys(book for book, _, _ in rows):
        own = [number for number, row in enumerate(rows) if row[0] == book]
        stay = [rows[number][1] for number in own if number not in dropped]
        gone = [dropped[number] for number in own if number in dropped]
        across += sum(rows[match.kept][0] != book for match in gone)
        names = ", ".join(stay) if len(stay) <= 3 else f"{len(stay)} files"
        least = f"{len(gone)}, {min(match.similarity for match in gone):.3f}" if gone else "0"
        print(f"| {book} | {len(own)} | {names} | {least} |")
    print(f"{across} dropped for a file of another folder; {sum(sizes) / seconds / 1e6:.1f} MB/s of processor time")


if __name__ == "__main__":
    main()
