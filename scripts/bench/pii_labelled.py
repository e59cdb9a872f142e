#!/usr/bin/env python
"""Precision and recall of the personal-data patterns on microsoft/presidio-research's labelled sentences.

    python scripts/bench/pii_labelled.py [--data FILE] [--half tuning|unseen|both] [--mistakes] [--json FILE]

The sentences are made from 127 templates. A template falls into one of two halves by the SHA-256 of its text with the
blanks in it, so no wording is in both: patterns are tuned by looking at `tuning`, and `unseen` is for the one
measurement at the end. A labelled piece counts as found when every letter and figure of it would be replaced; a hit
counts as right when it overlaps a labelled piece of its kind. Names, places and driving licences (no check digit, no
fixed form) are out of reach of patterns and are not counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from llmforge.cleaning.pii.anonymize import AnonymizeSettings  # noqa: E402
from llmforge.cleaning.pii.find import find  # noqa: E402

DATA = ROOT.parent / "shared" / "data" / "pii-presidio-large.json"
KINDS = {
    "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "national_id",
}


def half_of(row: dict[str, Any]) -> str:
    """`tuning` or `unseen`, by the sentence's template."""
    return "tuning" if hashlib.sha256(row["masked"].encode()).digest()[0] % 2 == 0 else "unseen"


def judge(rows: list[dict[str, Any]], mistakes: bool) -> dict[str, Counter[str]]:
    """Counts of labelled, found, hits and right hits by kind; prints each mistake when asked."""
    settings = AnonymizeSettings()
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS.values()}
    for row in rows:
        text = row["full_text"]
        hits = find(text, settings.kinds, settings.phone_regions)
        labels = [
            (span["start_position"], span["end_position"], KINDS[span["entity_type"]])
            for span in row["spans"]
            if span["entity_type"] in KINDS
        ]
        covered = {place for hit in hits for place in range(hit.start, hit.end)}
        for start, end, kind in labels:
            counts[kind]["labelled"] += 1
            left = [place for place in range(start, end) if text[place].isalnum() and place not in covered]
            counts[kind]["found"] += not left
            if left and mistakes:
                print(f"missed {kind}: {text[start:end]!r} in {text!r}")
        for hit in hits:
            right = any(kind == hit.kind and hit.start < end and start < hit.end for start, end, kind in labels)
            counter = counts.setdefault(hit.kind, Counter())
            counter["hits"] += 1
            counter["right"] += right
            if not right and mistakes:
                print(f"false {hit.kind}: {text[hit.start : hit.end]!r} in {text!r}")
    return counts


def table(counts: dict[str, Counter[str]]) -> dict[str, dict[str, float]]:
    """Precision and recall by kind, and over all kinds together; prints them."""
    everything: Counter[str] = sum(counts.values(), Counter())
    answer: dict[str, dict[str, float]] = {}
    print(f"{'kind':<14}{'labelled':>9}{'found':>7}{'recall':>8}{'hits':>7}{'right':>7}{'precision':>11}")
    for kind, count in [*counts.items(), ("all", everything)]:
        recall = count["found"] / count["labelled"] if count["labelled"] else float("nan")
        precision = count["right"] / count["hits"] if count["hits"] else float("nan")
        answer[kind] = {**count, "recall": recall, "precision": precision}
        print(
            f"{kind:<14}{count['labelled']:>9}{count['found']:>7}{recall:>8.3f}"
            f"{count['hits']:>7}{count['right']:>7}{precision:>11.3f}"
        )
    return answer


def main() -> None:
    """One table a half, and the speed over its text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--half", choices=["tuning", "unseen", "both"], default="tuning")
    parser.add_argument("--mistakes", action="store_true", help="print every miss and every false hit")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args()
    rows = json.loads(options.data.read_text(encoding="utf-8"))
    answer: dict[str, Any] = {}
    for half in ["tuning", "unseen"] if options.half == "both" else [options.half]:
        chosen = [row for row in rows if half_of(row) == half]
        size = sum(len(row["full_text"].encode()) for row in chosen)
        started = time.perf_counter()
        counts = judge(chosen, options.mistakes)
        seconds = time.perf_counter() - started
        templates = len({row["masked"] for row in chosen})
        print(
            f"\n{half}: {len(chosen)} sentences of {templates} templates, {size / seconds / 1e6:.2f} MB/s with judging"
        )
        answer[half] = {"sentences": len(chosen), "templates": templates, "kinds": table(counts)}
    if options.json is not None:
        options.json.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
