"""One document's story: where it came from, what each step did to it, what was measured, and why it stayed or went."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from llmforge.cleaning.rules.rule_sets import RuleSet
from llmforge.cleaning.signal_store import SignalStore
from llmforge.cleaning.sweep import thresholds_of
from llmforge.corpus.folder import SPLITS, read_corpus
from llmforge.errors import DataError

_EXCERPT = 600


def story(corpus: Path, identity: str, rules: Sequence[RuleSet]) -> dict[str, Any]:
    """All that is known of a document.

    Raises:
        DataError: no document of this id came in.
    """
    told: dict[str, Any] = {"id": identity, "fate": None, "split": None, "metadata": {}, "text": None}
    for split in SPLITS:
        for document in read_corpus(corpus, split):
            if document.id == identity:
                told.update(
                    fate="dropped" if split == "dropped" else "kept",
                    split=split,
                    source=document.source,
                    metadata=document.metadata,
                    text=document.text,
                )
                break
        if told["fate"] is not None:
            break
    store = SignalStore(corpus)
    measured = _measured(store, identity)
    if measured is None and told["fate"] is None:
        hint = _near_id(corpus, store, identity)
        raise DataError("no document of this id came in", identity, hint)
    told["measured"] = measured
    told["thresholds"] = _thresholds(rules, measured) if measured is not None else []
    return told


def _measured(store: SignalStore, identity: str) -> dict[str, Any] | None:
    import orjson

    for row in store.rows():
        if row["id"] == identity:
            for key in ("removed", "replaced"):
                row[key] = orjson.loads(row[key]) if row[key] else {}
            return row
    return None


_ROW = re.compile(r"(.*)[#:]([0-9]+)(?:~[0-9]+)?")  # "#" in a document's id, ":" in that of a row that is none


def _near_id(corpus: Path, store: SignalStore, identity: str) -> str:
    """What to ask for instead: of that file, or of one whose name ends so, the next row that came in, else the last."""
    asked = _ROW.fullmatch(identity)
    file, row = (asked[1], int(asked[2])) if asked else (identity, 0)
    last = None
    for name in chain(store.ids(), (document.id for document in read_corpus(corpus, "dropped"))):
        known = _ROW.fullmatch(name)
        if known is not None and f"/{known[1]}".endswith(f"/{file}"):
            last = name
            if int(known[2]) >= row:
                break
    if last is not None:
        return f"did you mean {last}?"
    return f"ids stand in the corpus's rows and in signals.parquet, such as {', '.join(islice(store.ids(), 2))}"


def _thresholds(rules: Sequence[RuleSet], measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    signals = measured["signals"] or {}
    for name, threshold in thresholds_of(rules).items():
        if threshold.signal not in signals:
            continue
        seen, allowed = signals[threshold.signal], threshold.value
        holds = not threshold.fails(seen, allowed)
        found.append(
            {"threshold": name, "value": allowed, "signal": threshold.signal, "measured": seen, "holds": holds}
        )
    return found


def as_lines(told: Mapping[str, Any]) -> list[str]:
    """The story for a person."""
    from llmforge.report.page import number, paragraph, section
    from llmforge.report.table import table

    metadata, measured = told["metadata"], told["measured"]
    where = [f"source {told.get('source') or (measured or {}).get('source')}"]
    if "file" in metadata:
        where.append(f"{metadata['file']}, row {metadata.get('row', 1)}")
    if metadata.get("license"):
        where.append(f"license {metadata['license']}")
    if measured is not None:
        where.append(f"{measured['bytes']:,} bytes as read")
    lines = [told["id"], "", *section("Where it came from", [", ".join(where)])]
    if measured is not None:
        lines += section("What was done to it", _steps(measured))
        rows = [
            [entry["threshold"], *map(number, (entry["measured"], entry["value"])), "" if entry["holds"] else "fails"]
            for entry in told["thresholds"]
        ]
        lines += section("What was measured", table(rows, ["threshold", "measured", "allowed", ""], right=(1, 2)))
    lines += section("What became of it", _fate(told))
    if told["text"]:
        lines += section("Text", paragraph(told["text"][:_EXCERPT], most_lines=12))
    return lines


def _steps(measured: Mapping[str, Any]) -> list[str]:
    lines = [f"{step}: {_change(characters)}" for step, characters in measured["removed"].items()]
    if measured["replaced"]:
        counts = ", ".join(f"{count} {kind}" for kind, count in measured["replaced"].items())
        lines.append(f"personal data replaced: {counts}")
    if measured["language"]:
        lines.append(f"language: {measured['language']} (score {measured['language_score']:.2f})")
    return lines or ["nothing was changed"]


def _change(characters: int) -> str:
    if not characters:
        return "changed, its length is the same"
    return f"{abs(characters):,} characters {'removed' if characters > 0 else 'added'}"


def _fate(told: Mapping[str, Any]) -> list[str]:
    metadata = told["metadata"]
    if told["fate"] != "dropped":
        return [f"kept, in the split {told['split']}"]
    lines = [f"dropped by {metadata['reason']}: {metadata['detail']}"]
    if "kept" in metadata:
        lines.append(f"the one that stays: {metadata['kept']} (similarity {metadata['similarity']})")
    return [*lines, *(f"and by {reason}" for reason in metadata.get("further_reasons", ()))]
