"""Exact match with a model that says what it is told, normalisation, and extraction under a limit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from llmforge.errors import DataError, UsageError
from llmforge.evaluation.exact_match import ExactMatch, item_of, normalised
from llmforge.evaluation.extraction import extract
from llmforge.evaluation.settings import ExactMatchTask
from llmforge.evaluation.task import Examinee


def rows(path: Path, listed: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return str(path)


def quiet(count: int) -> None:
    return


ROWS = [
    {"query": "6 times 7?", "answer": "42"},
    {"question": "Capital of France?", "answer": ["paris", "Paris, France"]},
    {"messages": [{"role": "user", "content": "Two?"}], "answer": "2"},
]


@pytest.mark.parametrize("as_chat", [True, False])
def test_right_and_wrong_answers(
    tmp_path: Path, told_model: Callable[..., object], examinee: Callable[..., Examinee], as_chat: bool
) -> None:
    told = told_model({"6 times 7?": " 42. ", "Capital of France?": "PARIS!", "Two?": "three"})
    score = ExactMatch(ExactMatchTask(path=rows(tmp_path / "q.jsonl", ROWS)), 0, 0).score(
        examinee(told, as_chat=as_chat), quiet
    )
    assert [record["exact_match"] for record in score.records] == [True, True, False]
    assert score.metrics["exact_match"] == pytest.approx(2 / 3)
    assert score.metrics["exact_match_stderr"] == pytest.approx(1 / 3)
    assert (score.metrics["ended"], score.metrics["samples"], score.metrics["chance"]) == (1.0, 3, 0.0)


def test_answers_that_do_not_end(
    tmp_path: Path, told_model: Callable[..., object], examinee: Callable[..., Examinee]
) -> None:
    settings = ExactMatchTask(path=rows(tmp_path / "q.jsonl", ROWS[:1]), max_new_tokens=3)
    score = ExactMatch(settings, 0, 0).score(examinee(told_model({"6 times 7?": "forty two"})), quiet)
    assert score.metrics["ended"] == 0.0 and score.records[0]["text"] == "for"


def test_pattern_takes_the_last_match_of_both(
    tmp_path: Path, told_model: Callable[..., object], examinee: Callable[..., Examinee]
) -> None:
    listed: list[dict[str, object]] = [
        {"question": "How many?", "answer": "First 3, then 1,200.\n#### 1200"},
        {"question": "How long?", "answer": "#### 7"},
    ]
    settings = ExactMatchTask(path=rows(tmp_path / "q.jsonl", listed), answer_pattern=r"#### (-?[\d,.]+)")
    told = told_model({"How many?": "#### 3 or rather #### 1,200.", "How long?": "It is 7"})
    score = ExactMatch(settings, 0, 0).score(examinee(told, as_chat=True), quiet)
    assert [record["extracted"] for record in score.records] == ["1,200.", None]
    assert [record["exact_match"] for record in score.records] == [True, False]


def test_shots_come_as_earlier_turns(
    tmp_path: Path, told_model: Callable[..., object], examinee: Callable[..., Examinee]
) -> None:
    made = ExactMatch(ExactMatchTask(path=rows(tmp_path / "q.jsonl", ROWS)), 0, 2)
    ids, _ = made._prompt(0, examinee(told_model({}), as_chat=True))
    assert ids[-1] == 6 and ids.count(5) == 3 and ids.count(6) == 3
    with pytest.raises(DataError, match="lower num_fewshot"):
        made._prompt(0, examinee(told_model({}, context=32), as_chat=True))


def test_normalisation() -> None:
    assert normalised("  The  Answer.\n") == "the answer"
    assert normalised("1,234,567") == "1234567" and normalised("1,23") == "1,23"
    assert normalised("ﬁne") == "fine" and normalised("STRASSE") == normalised("Straße")
    assert normalised("(a, b)") == "a, b"


@pytest.mark.parametrize(
    "row",
    [
        {"query": "a"},
        {"query": "a", "answer": ""},
        {"query": "a", "answer": 5},
        {"query": "a", "answer": []},
        {"query": "a", "answer": ["b", None]},
        {"query": "", "answer": "b"},
        {"answer": "b"},
        {"query": 5, "answer": "b"},
        {"messages": [], "answer": "b"},
        {"messages": [{"role": "system", "content": "x"}], "answer": "b"},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "answer": "b"},
    ],
)
def test_rows_that_cannot_be_asked(row: dict[str, object]) -> None:
    with pytest.raises(DataError, match="f:3"):
        try:
            item_of(row, "f:3")
        except DataError as error:
            raise DataError(str(error)) from error


def test_extraction() -> None:
    assert extract(r"\d+", ["a 1 b 22", "none", "\ud800 7"]) == ["22", None, "7"]
    assert extract(r"(\w)=(\w)", ["a=b c=d"]) == ["c"]


def test_a_pattern_that_explodes_is_stopped() -> None:
    start = time.monotonic()
    with pytest.raises(UsageError, match="takes longer than 1 s"):
        extract(r"(a+)+$", ["a" * 50_000 + "!"], seconds=1)
    assert time.monotonic() - start < 10


def test_a_wrong_pattern_is_a_config_fault() -> None:
    with pytest.raises(ValidationError, match="not a regular expression"):
        ExactMatchTask(answer_pattern="(")
