"""The cleaning bench: exact similarities, shares of spans met, rounds in turns, and differences explained."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    import clean

    return clean


def test_similar_pairs_are_those_of_all_pairs(bench: ModuleType) -> None:
    chooser = random.Random(3)
    texts = [" ".join(chooser.choice("abcd") for _ in range(30)) for _ in range(6)]
    planted = bench.texts_of.with_near_duplicates(texts)
    assert len(planted) > len(texts) and set(texts) <= set(planted)
    runs = [bench.texts_of.runs_of(text) for text in planted]
    expected = {
        (first, second): len(runs[first] & runs[second]) / len(runs[first] | runs[second])
        for first, second in combinations(range(len(planted)), 2)
    }
    found = bench.texts_of.similar_pairs(planted, 0.05)
    assert found == {pair: share for pair, share in expected.items() if share >= 0.05}


def test_shares_of_spans_met(bench: ModuleType) -> None:
    gold = [[(0, 5, "email"), (7, 9, "ip")], [(1, 4, "phone")]]
    found = [[(3, 6, "email"), (7, 9, "card")], []]
    assert bench._share_met(gold, found) == {"email": 1, "ip": 0, "phone": 0, "all": 0.3333}
    assert bench._share_met(found, gold) == {"card": 0, "email": 1, "all": 0.5}


def test_rows_are_all_different(bench: ModuleType, tmp_path: Path) -> None:
    size = bench.write_rows(tmp_path / "rows.jsonl", ["one text", "another"], 60)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert size == sum(len(row["text"]) for row in rows) >= 60
    assert len({row["text"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)


def test_our_side_answers_rounds(bench: ModuleType, tmp_path: Path) -> None:
    data = tmp_path / "texts.json"
    data.write_text(json.dumps(["The cat sat on the mat. " * 3, "mail me at a.b@gmail.com"]), encoding="utf-8")
    sides = [bench.Side(shape, sys.executable, "clean_ours.py", shape, data) for shape in ("rules", "patterns")]
    bench.in_turns(sides, 2)
    assert [len(side.rounds) for side in sides] == [2, 2]
    assert all(side.median("seconds") > 0 for side in sides)
    assert sides[0].rounds[0]["result"] == {"kept": 0}
    assert sides[1].rounds[0]["result"] == [[], [[11, 24, "email"]]]


def test_differences_are_explained(bench: ModuleType) -> None:
    text = "the cat, and; that: dog! of. 1 2"
    quoted = "\n".join(['"The cat sat here on this fine day"'] * 1 + ["A line that has no end at all"])
    kept = {
        "text": text,
        "sentences": 5,
        "words": text.split(),
        **dict.fromkeys(("gopher_repetition", "c4"), [True, ""]),
    }
    theirs = [
        {**kept, "words": ["the"] * 60 + ["and"] * 2, "gopher_quality": [True, ""], "fineweb": [True, ""]},
        {**kept, "gopher_quality": [False, "gopher_short_doc"], "fineweb": [False, "line_punct_ratio"]},
    ]
    table = bench.compare_verdicts([("a", text), ("b", quoted)], theirs)
    assert table["documents"] == 2
    assert table["gopher_quality"]["agree"] == 1
    assert table["gopher_quality"]["differ"] == {"spaCy's words": 1}
    assert table["fineweb"]["differ"]["a closing quotation mark ends no line"] == 1
    assert len(table["lines"]) == 7


def test_unknown_shape_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / "clean.py"), "--shapes", "rulez"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "no such shape: rulez" in done.stderr
