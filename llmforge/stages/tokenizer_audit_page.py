"""The facts of an audit -> one self-contained HTML page, a column for each tokenizer."""

from __future__ import annotations

from typing import Any

from llmforge.report.charts import histogram
from llmforge.report.html import folded, page, paragraph, section, table

Facts = dict[str, Any]


def audit_page(facts: Facts) -> str:
    """The whole page."""
    found: dict[str, Facts] = facts["tokenizers"]
    read = "held-out" if facts["measured_on"] == "valid" else "training"
    lead = f"{', '.join(found)} on {facts['documents']:,} parts of {read} text"
    sections = [
        section("In short", _short(found)),
        section("By source", *_by(found, "sources", "spread_of_sources")),
        section("By language", *_by(found, "languages", "spread_of_languages")),
        section("Numbers, code and white space", _handling(found)),
        section("What did not come back", *_lost(found)),
        section("Idle pieces", *_pieces(found)),
        section("Ids that training hardly moved", *_undertrained(found)),
    ]
    return page("Tokenizer audit", lead, sections)


def _columns(found: dict[str, Facts], rows: list[tuple[str, Any]]) -> str:
    """Rows of (name, function of a tokenizer's facts), a column for each tokenizer."""
    cells = [[name, *(str(value(facts)) for facts in found.values())] for name, value in rows]
    return table(cells, ["", *found], right=range(1, len(found) + 1))


def _short(found: dict[str, Facts]) -> str:
    return _columns(
        found,
        [
            ("ids", lambda facts: f"{facts['vocab_size']:,}"),
            ("bytes per token", lambda facts: facts["bytes_per_token"]),
            ("lossless", lambda facts: "yes" if facts["lossless"] else "no"),
            ("texts of the corpus that did not come back", lambda facts: facts["corpus_texts_lost"]["count"]),
            ("random texts that did not", lambda facts: f"{facts['fuzz']['lost']} of {facts['fuzz']['texts']:,}"),
            ("control symbols that can be typed", lambda facts: len(facts["fuzz"]["typed_control_symbols"])),
            ("pieces never used here", lambda facts: f"{facts['pieces']['unused']['count']:,}"),
            ("pieces that nothing can reach", lambda facts: f"{facts['pieces']['unreachable']['count']:,}"),
        ],
    )


def _by(found: dict[str, Facts], shares: str, spread: str) -> list[str]:
    names = sorted({name for facts in found.values() for name in facts[shares]})
    if not names:
        return []
    rows = [
        [name, *(f"{facts[shares][name]['bytes_per_token']}" for facts in found.values())]
        + [f"{facts[shares][name]['tokens_per_word']}" for facts in found.values()]
        for name in names
    ]
    header = ["", *(f"{name}: bytes per token" for name in found), *(f"{name}: tokens per word" for name in found)]
    parts = [table(rows, header, right=range(1, len(header)))]
    for name, facts in found.items():
        if facts[spread]:
            best, worst, ratio = (facts[spread][key] for key in ("best", "worst", "ratio"))
            parts.append(paragraph(f"{name}: {worst} takes {ratio} times as many tokens a word as {best}."))
    return parts


def _handling(found: dict[str, Facts]) -> str:
    first: Facts = next(iter(found.values()))["handling"]
    rows: list[tuple[str, Any]] = []
    for key, value in first.items():
        label = key.replace("_", " ")
        if isinstance(value, dict):
            for inner in value:
                rows.append((f"{label}: {inner.replace('_', ' ')}", lambda f, k=key, i=inner: f["handling"][k][i]))
        else:
            rows.append((label, lambda facts, key=key: facts["handling"][key]))
    return _columns(found, rows)


def _lost(found: dict[str, Facts]) -> list[str]:
    parts = []
    for name, facts in found.items():
        texts = [*facts["corpus_texts_lost"]["examples"], *facts["fuzz"]["examples"]]
        parts.append(folded(f"{name}: {len(texts)} examples", [("", repr(text)) for text in texts]))
    return parts


def _pieces(found: dict[str, Facts]) -> list[str]:
    parts = []
    for name, facts in found.items():
        for kind in ("unused", "unreachable"):
            listed = ", ".join(f"{row['id']} {row['text']!r}" for row in facts["pieces"][kind]["examples"])
            if listed:
                parts.append(folded(f"{name}: {facts['pieces'][kind]['count']:,} {kind}", [("the first", listed)]))
    return parts


def _undertrained(found: dict[str, Facts]) -> list[str]:
    parts = []
    for name, facts in found.items():
        if row := facts.get("undertrained"):
            told = f"{name}: {row['count']:,} rows of the embedding are shorter than {row['below']}, half the median."
            parts.append(paragraph(told))
            bars = row["histogram"]
            parts.append(histogram(bars["edges"], bars["counts"], row["below"], "half the median"))
            cells = [[str(one["id"]), repr(one["text"]), str(one["norm"]), str(one["used"])] for one in row["examples"]]
            parts.append(table(cells, ["id", "text", "length", "times in the sample"], right=(0, 2, 3)))
    return parts
