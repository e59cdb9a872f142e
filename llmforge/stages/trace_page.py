"""The answers of `trace` as lines for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmforge.report.page import section
from llmforge.report.table import table

_STEPS_SHOWN = 40


def step_page(told: Mapping[str, Any]) -> list[str]:
    """The documents of a step, a line each, and below what cleaning did to those that it changed."""
    documents = told["documents"]
    heading = (
        f"{len(documents)} documents in the {told['rows']} rows of {told['seq_len']} tokens of step {told['step']:,}"
    )
    lines = [heading, ""]
    rows = [
        [
            entry["id"],
            entry["source"],
            place(entry),
            str(entry.get("license") or ""),
            f"{sum(span['length'] for span in entry['spans']):,}",
            ", ".join(str(row) for row in dict.fromkeys(span["row"] for span in entry["spans"])),
        ]
        for entry in documents
    ]
    lines += table(rows, ["document", "source", "raw input", "licence", "tokens", "rows"], right=(4,))
    changed = [f"{entry['id']}: {cleaned(entry)}" for entry in documents if cleaned(entry)]
    return [*lines, *section("What cleaning did", changed)] if changed else lines


def document_page(told: Mapping[str, Any]) -> list[str]:
    """Every document of an id with the steps that saw it, or its fate."""
    lines = [told["document"], ""]
    for entry in told["found"]:
        facts = [f"source {entry['source']}", place(entry)]
        facts += [f"licence {entry['license']}"] if entry.get("license") else []
        body = [", ".join(fact for fact in facts if fact), *([cleaned(entry)] if cleaned(entry) else [])]
        body.append(_fate(entry, told["steps_done"]))
        lines += section(entry.get("mixture") or entry["source"], body)
    return lines


def place(entry: Mapping[str, Any]) -> str:
    """Where a document stands in the raw input, as far as it is known."""
    if not entry.get("file"):
        module = (entry.get("metadata") or {}).get("module")  # of the built-in corpus
        return f"module {module}" if module else ""
    raw = entry.get("raw") or {}
    if raw.get("bytes"):
        of_what = " unpacked" if raw.get("packed") else ""
        return f"{entry['file']}, bytes {raw['bytes'][0]:,} to {raw['bytes'][1]:,}{of_what}"
    return f"{entry['file']}, row {entry.get('row', 1):,}"


def cleaned(entry: Mapping[str, Any]) -> str:
    """What cleaning changed in a document; empty when nothing is known to have been."""
    cleaning = entry.get("cleaning") or {}
    parts = []
    for key, word in (("removed", "removed"), ("replaced", "replaced"), ("anonymized", "replaced")):
        found = cleaning.get(key)
        if found and not (key == "anonymized" and cleaning.get("replaced")):
            counts = found.items() if isinstance(found, dict) else [("", found)]
            parts.append(f"{word} " + ", ".join(f"{count} {what}".strip() for what, count in counts))
    if cleaning.get("repaired"):
        parts.append(f"repaired {cleaning['repaired']}")
    return "; ".join(parts)


def _fate(entry: Mapping[str, Any], steps_done: int) -> str:
    fate = entry["fate"]
    if fate == "seen":
        steps = entry["steps"]
        shown = ", ".join(
            str(found["step"]) + (f" (in {found['rows']} rows)" if found["rows"] > 1 else "")
            for found in steps[:_STEPS_SHOWN]
        )
        more = f" and {len(steps) - _STEPS_SHOWN:,} more" if len(steps) > _STEPS_SHOWN else ""
        times = sum(found["rows"] for found in steps)
        return f"seen in {len(steps):,} of {steps_done:,} steps, {times:,} rows: {shown}{more}"
    if fate == "dropped":
        kept = f"; the one that stays: {entry['kept']}" if "kept" in entry else ""
        return f"dropped by {entry['reason']}: {entry['detail']}{kept}"
    return {
        "not_reached": f"in the tokens, but none of the {steps_done:,} steps came to it",
        "left_out": "left out with the data of steps whose loss spiked (run.json, rewinds): no step saw it",
        "held_out": "held out for validation: no step sees it",
        "not_in_tokens": "in the corpus, but not in the tokens: it has no text, or is not selected",
    }[fate]
