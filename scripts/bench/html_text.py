"""How well and how fast the main text is taken out of web pages, by each extractor that `clean` can use.

    python scripts/bench/html_text.py --articles DIR [--rounds 3] [--json FILE]

DIR is a checkout of scrapinghub/article-extraction-benchmark (181 article pages with their text). Precision, recall and
F1 are that benchmark's own: runs of four words, a page each, means over the pages. Pages a second are of processor time
on one core, medians of the rounds, the extractors in turns. An extractor whose library is missing is left out by name.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from bench_machine import machine  # noqa: E402

from llmforge.corpus.extras import has_extra  # noqa: E402
from llmforge.corpus.html_extractors import extract  # noqa: E402

EXTRACTORS = ("trafilatura", "resiliparse", "fast")
RUN = 4
_TOKEN = re.compile(r"\w+")
Table = dict[str, Any]


def runs(text: str) -> Counter[tuple[str, ...]]:
    """The runs of four words of a text; a shorter one is one run."""
    words = _TOKEN.findall(text)
    if not words:
        return Counter()
    return Counter(tuple(words[at : at + RUN]) for at in range(max(1, len(words) - RUN + 1)))


def shares(wanted: str, found: str) -> tuple[float, float, float]:
    """Runs that are right, too many and missing, as shares of their sum."""
    true, made = runs(wanted), runs(found)
    both = sum((true & made).values())
    parts = (both, sum(made.values()) - both, sum(true.values()) - both)
    whole = sum(parts)
    return (both / whole, parts[1] / whole, parts[2] / whole) if whole else (0.0, 0.0, 0.0)


def quality(pairs: list[tuple[str, str]]) -> Table:
    """Means over the pages of precision and recall, where they are defined, and F1 of these means."""
    found = [shares(wanted, made) for wanted, made in pairs]
    precision = statistics.mean(good / (good + more) for good, more, _ in found if good + more > 0)
    recall = statistics.mean(good / (good + less) for good, _, less in found if good + less > 0)
    f1 = 2 * precision * recall / (precision + recall)
    return {"f1": round(f1, 3), "precision": round(precision, 3), "recall": round(recall, 3)}


def text_of(page: str, extractor: Any) -> str:
    """What `clean` would make of a page; nothing where it says that it cannot."""
    made = extract(page, extractor, "page")
    return "" if isinstance(made, str) else made.text


def main() -> None:
    """Prints a line for each extractor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=Path, required=True, help="a checkout of the benchmark")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="a file for the same numbers")
    asked = parser.parse_args()
    truth = json.loads((asked.articles / "ground-truth.json").read_text(encoding="utf-8"))
    pages = {name: gzip.decompress((asked.articles / "html" / f"{name}.html.gz").read_bytes()) for name in truth}
    texts = {name: page.decode("utf-8", "replace") for name, page in pages.items()}
    there = [name for name in EXTRACTORS if name == "fast" or has_extra(name)]
    for name in set(EXTRACTORS) - set(there):
        print(f"{name}: not installed, left out (pip install 'llmforge[html]')", file=sys.stderr)
    seconds: dict[str, list[float]] = {name: [] for name in there}
    made: dict[str, dict[str, str]] = {}
    for _ in range(asked.rounds):
        for name in there:
            start = time.process_time()
            made[name] = {key: text_of(page, name) for key, page in texts.items()}
            seconds[name].append(time.process_time() - start)
    facts = machine()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    rows: Table = {}
    for name in there:
        pairs = [(truth[key].get("articleBody", ""), text) for key, text in made[name].items()]
        rows[name] = {**quality(pairs), "pages_per_second": round(len(pages) / statistics.median(seconds[name]), 1)}
        print(f"{name:12} " + "  ".join(f"{key} {value}" for key, value in rows[name].items()))
    if asked.json:
        asked.json.write_text(json.dumps({"machine": facts, "pages": len(pages), "extractors": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
