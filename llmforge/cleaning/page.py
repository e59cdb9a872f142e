"""The ledger as one HTML page: what went and why, each signal's distribution beside its threshold, examples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from llmforge.cleaning.sweep import Sweep, Threshold
from llmforge.report import html
from llmforge.report.charts import histogram
from llmforge.report.page import number, share

_BINS = 48
_TAIL = 0.005  # of the documents at either end stand in the outermost bars


def ledger_page(title: str, ledger: Mapping[str, Any], sweep: Sweep | None) -> str:
    """The page; `ledger` is ledger.json, `sweep` the stored measurements (None when no rule measured anything)."""
    came, kept = ledger["input"], ledger["kept"]
    lead = (
        f"{came['documents']:,} documents and {came['bytes'] / 1e6:,.1f} MB came in; {kept['documents']:,} "
        f"({share(kept['documents'], came['documents'])}) and {kept['bytes'] / 1e6:,.1f} MB stayed."
    )
    sections = [
        html.section("Why documents went", _reasons(ledger), html.paragraph(_WAYS)),
        html.section("Examples", *_examples(ledger)),
        html.section("What the steps changed", _edits(ledger), _replaced(ledger)),
        html.section("Sources", _sources(ledger)),
    ]
    if sweep is not None:
        sections.insert(2, html.section("Signals and thresholds", html.paragraph(_CHARTS), *_signals(sweep)))
    return html.page(title, lead, sections)


_WAYS = (
    "First: the reason that decided. Any: the documents that this reason spoke against, whatever came before it. "
    "Only: those that nothing else spoke against, which is what the rule alone costs."
)
_CHARTS = (
    "Each chart shows all documents by the signal that a threshold looks at, the threshold as a dashed line; heights "
    "go by the square root of the count, so that tails are seen. Below: how many documents would fail at other values."
)


def _reasons(ledger: Mapping[str, Any]) -> str:
    whole = ledger["input"]["documents"]
    rows = []
    for name, ways in ledger["reasons"].items():
        numbers = [f"{ways[way]['documents']:,}" for way in ("first", "any", "only")]
        sizes = [f"{ways[way]['bytes'] / 1e6:,.2f}" for way in ("first", "any", "only")]
        rows.append([name, *numbers, share(ways["first"]["documents"], whole), *sizes])
    header = ["reason", "first", "any", "only", "share (first)", "MB first", "MB any", "MB only"]
    return html.table(rows, header, right=range(1, 8))


def _examples(ledger: Mapping[str, Any]) -> Iterator[str]:
    for name in ledger["reasons"]:  # the largest first
        examples = ledger["examples"].get(name, ())
        told = [(f"{example['id']}: {example['because']}", example["text"]) for example in examples]
        yield html.folded(f"{name} ({len(told)})", told)


def _edits(ledger: Mapping[str, Any]) -> str:
    rows = [[step, f"{e['documents']:,}", f"{e['characters_removed']:,}"] for step, e in ledger["edits"].items()]
    return html.table(rows, ["step", "documents changed", "characters removed"], right=(1, 2))


def _replaced(ledger: Mapping[str, Any]) -> str:
    rows = [[kind, f"{count:,}"] for kind, count in ledger["replaced"].items()]
    return html.table(rows, ["personal data replaced", ""], right=(1,))


def _sources(ledger: Mapping[str, Any]) -> str:
    rows = []
    for source, counts in ledger["sources"].items():
        read, kept = counts["read"], counts["kept"]
        sizes = [f"{count['bytes'] / 1e6:,.2f}" for count in (read, kept)]
        numbers = [f"{read['documents']:,}", f"{kept['documents']:,}", share(kept["documents"], read["documents"])]
        rows.append([source, *numbers, *sizes])
    return html.table(rows, ["source", "read", "kept", "share", "MB read", "MB kept"], right=range(1, 6))


def _signals(sweep: Sweep) -> Iterator[str]:
    by_rule: dict[str, list[str]] = {}
    for name, threshold in sweep.thresholds.items():
        by_rule.setdefault(name.partition(".")[0], []).append(_signal(sweep, threshold))
    for name, cells in by_rule.items():
        yield html.titled(name) + html.grid(cells)


def _signal(sweep: Sweep, threshold: Threshold) -> str:
    import numpy as np

    key, value = threshold.key, threshold.value
    values = sweep.values(threshold.name)
    values = values[np.isfinite(values)]
    if not len(values):
        return html.captioned(key, html.paragraph("no document was measured"))
    # np.quantile would load numpy.ma, which takes longer than all charts of a small run.
    cut = int(_TAIL * (len(values) - 1))  # values at each end that may lie outside; none of a few
    ends = [cut, len(values) - 1 - cut]
    low, high = np.partition(values, ends)[ends].tolist()
    low, high = min(low, value), max(high, value)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(values, low, high), bins=_BINS, range=(low, high))
    chart = histogram(edges.tolist(), counts.tolist(), value, number(value))
    most = 1.0 if key.endswith("_ratio") else math.inf
    tried = sorted({0.5 * value, value, min(2 * value, max(value, most))}) if value else [0.0]
    told = [f"{row.failing:,} at {number(row.value)}" for row in sweep.at(threshold.name, tried)]
    return html.captioned(key, chart, html.paragraph("fail: " + ", ".join(told)))
