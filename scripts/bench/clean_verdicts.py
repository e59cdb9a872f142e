"""Our verdicts beside datatrove's, and why they differ where they do.

A difference is explained by making our reading datatrove's, one point after the other, until the verdicts agree: the
first points that suffice are the reason. What stays different after all of them is called unexplained.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from llmforge.cleaning.rules.c4 import C4
from llmforge.cleaning.rules.fineweb import FineWeb
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
from llmforge.cleaning.rules.rule_sets import Rules, RuleSet
from llmforge.cleaning.signals.measure import Signals, of_kind
from llmforge.cleaning.signals.repetition import DUPLICATE_SIZES, TOP_SIZES, run_signal, run_signals
from llmforge.cleaning.signals.words import number_words, word_signals

SETS: dict[str, tuple[str, RuleSet]] = {
    "gopher_quality": ("gopher_quality", GopherQuality()),
    "gopher_quality, punctuation": ("gopher_quality", GopherQuality(words="punctuation")),
    "gopher_repetition": ("gopher_repetition", GopherRepetition()),
    "gopher_repetition, punctuation": ("gopher_repetition", GopherRepetition(words="punctuation")),
    "fineweb": ("fineweb", FineWeb()),
    "fineweb, punctuation": ("fineweb", FineWeb(words="punctuation")),
    "c4, datatrove": ("c4", C4.model_validate({"variant": "datatrove"})),
}
Point = tuple[str, Callable[[str, dict[str, Any]], dict[str, float]]]


def _spacy_words(text: str, theirs: dict[str, Any]) -> dict[str, float]:
    words = number_words([theirs["words"]])
    found = word_signals(text, words, "punctuation") | run_signals(text, words, (*TOP_SIZES, *DUPLICATE_SIZES))
    return found | {of_kind(name, "punctuation"): value for name, value in found.items()}


def _marks(text: str, theirs: dict[str, Any]) -> dict[str, float]:
    """datatrove's own list says which words are marks; "+" or "©" are words to it."""
    marks = set("!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»")
    spoken = [word for word in theirs["words"] if not marks.issuperset(word)]
    found = {"num_words": len(spoken), "mean_word_length": sum(map(len, spoken)) / max(len(spoken), 1)}
    return found | {of_kind(name, "punctuation"): value for name, value in found.items()}


def _blank_lines(text: str, theirs: dict[str, Any]) -> dict[str, float]:
    lines = text.splitlines() or [""]
    return {
        "bullet_line_ratio": sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines),
        "ellipsis_line_ratio": sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines),
    }


def _lines_at_the_ends(text: str, theirs: dict[str, Any]) -> dict[str, float]:
    lines = re.split(r"\n+", text)
    again = [line for place, line in enumerate(lines) if line in set(lines[:place])]
    return {
        "duplicate_line_ratio": len(again) / len(lines),
        "duplicate_line_character_ratio": sum(map(len, again)) / max(len(text), 1),
    }


def _runs_that_come_once(text: str, theirs: dict[str, Any]) -> dict[str, float]:
    found = {}
    for size in TOP_SIZES:
        runs = Counter(
            " ".join(theirs["words"][start : start + size]) for start in range(len(theirs["words"]) - size + 1)
        )
        run, count = runs.most_common(1)[0] if runs else ("", 0)
        found[run_signal(size)] = found[of_kind(run_signal(size), "punctuation")] = len(run) * count / max(len(text), 1)
    return found


def _line_ends(text: str, theirs: dict[str, Any]) -> dict[str, float]:
    lines = [line for line in text.split("\n") if line.strip()]
    ends = (".", "!", "?", "‼", "‽", "。", "！", "？", "؟", "।", "۔", "｡", "．")
    return {"punctuated_line_ratio": sum(line.endswith(ends) for line in lines) / max(len(lines), 1)}


def _sentences(text: str, theirs: dict[str, Any]) -> dict[str, float]:
    return {"num_sentences": theirs["sentences"]}


POINTS: dict[str, list[Point]] = {
    "gopher_quality": [
        ("spaCy's words", _spacy_words),
        ("its list of marks", _marks),
        ("blank lines count as lines", _blank_lines),
    ],
    "gopher_repetition": [
        ("spaCy's words", _spacy_words),
        ("blank lines at the ends are lines", _lines_at_the_ends),
        ("a run that comes once counts", _runs_that_come_once),
    ],
    "fineweb": [("a closing quotation mark ends no line", _line_ends), ("spaCy's words", _spacy_words)],
    "c4": [("spaCy's sentences", _sentences)],
}


def compare_verdicts(documents: list[tuple[str, str]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreements, differences and their reasons by rule set; `documents` are (kind, text)."""
    table: dict[str, Any] = {"documents": len(documents), "kinds": dict(Counter(kind for kind, _ in documents))}
    lines = []
    for label, (name, rules) in SETS.items():
        step = Rules([rules])
        reasons: Counter[str] = Counter()
        agree = dropped = dropped_there = 0
        for (_, text), own in zip(documents, theirs, strict=True):
            edited = step.edit(text)
            signals = step.measure(edited.text, text)
            kept, kept_there = not step.judge_all(signals), own[name][0]
            dropped, dropped_there = dropped + (not kept), dropped_there + (not kept_there)
            if kept == kept_there:
                agree += 1
            else:
                reasons[_reason(step, signals, edited.text if name == "c4" else text, own, name)] += 1
        row = {
            "agree": agree,
            "differ": dict(reasons.most_common()),
            "dropped": dropped,
            "dropped_by_datatrove": dropped_there,
        }
        table[label] = row
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "none"
        lines.append(
            f"{label:31} agree {agree:5} of {len(documents)}, dropped {dropped} and {dropped_there}; differ: {told}"
        )
    return {**table, "lines": lines}


def _reason(step: Rules, signals: Signals, text: str, own: dict[str, Any], name: str) -> str:
    """The points that make the verdict datatrove's: one alone where one suffices, else the first ones together."""
    kept_there = own[name][0]
    values = dict(signals.values)
    if str(own[name][1]).startswith(("error", "empty")):
        return "a text without words or lines"
    for label, point in POINTS[name]:
        if (not step.judge_all(Signals({**values, **point(text, own)}))) == kept_there:
            return label
    told = []
    for label, point in POINTS[name]:
        values |= point(text, own)
        told.append(label)
        if (not step.judge_all(Signals(values))) == kept_there:
            return " and ".join(told)
    return f"unexplained ({own[name][1]})"
