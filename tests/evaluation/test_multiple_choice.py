"""Multiple choice against a loop, in text and in chat, and rows that cannot be asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmforge.errors import DataError, UsageError
from llmforge.evaluation.multiple_choice import Item, MultipleChoice, summary
from llmforge.evaluation.settings import MultipleChoiceTask
from llmforge.evaluation.task import Examinee
from llmforge.model.transformer import Transformer
from llmforge.tokenizer.special_tokens import IDS

ROWS = [
    {"query": "What is it?", "choices": ["A cat.", "A dog that barks.", "x"], "gold": 1},
    {"query": "Sky", "choices": ["is blue", "is green"], "gold": 0},
    {"query": "Name:\n", "choices": ["Ann", "Bob", "Cid", "Dee"], "gold": 3},
]


def rows(path: Path, listed: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return str(path)


def task(path: str, limit: int | None = None, shots: int = 0) -> MultipleChoice:
    return MultipleChoice(MultipleChoiceTask(path=path, limit=limit), 0, shots)


def quiet(count: int) -> None:
    return


@pytest.mark.parametrize("row_tokens", [1, 100, 4096])
def test_as_text_equals_a_loop(
    tmp_path: Path,
    naive: Callable[..., float],
    random_model: Callable[..., Transformer],
    examinee: Callable[..., Examinee],
    row_tokens: int,
) -> None:
    model = random_model()
    asked = examinee(model, row_tokens=row_tokens)
    score = task(rows(tmp_path / "c.jsonl", ROWS)).score(asked, quiet)
    encode = asked.tokenizer.encode
    hits, hits_norm = 0, 0
    for row, record in zip(ROWS, score.records, strict=True):
        gap = "" if row["query"].endswith("\n") else " "
        found = [naive(model, [1, *encode(row["query"])], encode(gap + choice)) for choice in row["choices"]]
        assert record["logprobs"] == pytest.approx(found, abs=1e-4)
        hits += found.index(max(found)) == row["gold"]
        norm = [total / len(choice) for total, choice in zip(found, row["choices"], strict=True)]
        hits_norm += norm.index(max(norm)) == row["gold"]
    assert score.metrics["acc"] == hits / 3 and score.metrics["acc_norm"] == hits_norm / 3
    assert score.metrics["chance"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 4) / 3)
    assert score.metrics["samples"] == 3


def test_without_a_query_whole_texts_are_compared(
    tmp_path: Path,
    naive: Callable[..., float],
    random_model: Callable[..., Transformer],
    examinee: Callable[..., Examinee],
) -> None:
    model = random_model()
    asked = examinee(model)
    pair = {"query": "", "choices": ["The cats sleep.", "The cats sleeps."], "gold": 0}
    score = task(rows(tmp_path / "c.jsonl", [pair])).score(asked, quiet)
    found = [naive(model, [1], asked.tokenizer.encode(text)) for text in pair["choices"]]
    assert score.records[0]["logprobs"] == pytest.approx(found, abs=1e-4)


def test_as_chat_the_choice_is_what_the_assistant_says(
    tmp_path: Path,
    naive: Callable[..., float],
    random_model: Callable[..., Transformer],
    examinee: Callable[..., Examinee],
) -> None:
    model = random_model()
    asked = examinee(model, as_chat=True)
    score = task(rows(tmp_path / "c.jsonl", ROWS)).score(asked, quiet)
    encode = asked.tokenizer.encode
    for row, record in zip(ROWS, score.records, strict=True):
        prompt = [IDS["<s>"], IDS["<|user|>"], *encode(row["query"]), IDS["<|end|>"], IDS["<|assistant|>"]]
        found = [naive(model, prompt, encode(choice)) for choice in row["choices"]]
        assert record["logprobs"] == pytest.approx(found, abs=1e-4)


def test_a_uniform_model_is_at_chance_and_takes_the_shortest(
    tmp_path: Path, uniform_model: Callable[[int], object], examinee: Callable[..., Examinee]
) -> None:
    listed = [{"query": f"q{n}", "choices": ["aa", "bb", "cc", "dd"], "gold": n % 4} for n in range(40)]
    score = task(rows(tmp_path / "c.jsonl", listed)).score(examinee(uniform_model(64)), quiet)
    assert score.metrics["acc"] == 0.25 and score.metrics["chance"] == 0.25
    assert score.metrics["acc_stderr"] == pytest.approx((0.25 * 0.75 / 39) ** 0.5)
    low, high = score.metrics["acc_ci95"]  # type: ignore[misc]
    assert low < 0.25 < high


def test_length_in_characters_not_bytes_or_tokens() -> None:
    item = Item("q", ("üüüü", "abcde"), 0, "f:1")
    # per character -1.0 and -0.9; per byte the first would win with -0.5
    score = summary([item], [[-4.0, -4.5]])
    assert score.records[0]["acc"] == 0 and score.records[0]["acc_norm"] == 1


def test_shots_stand_in_front_and_never_the_item_itself(
    tmp_path: Path, random_model: Callable[..., Transformer], examinee: Callable[..., Examinee]
) -> None:
    path = rows(tmp_path / "c.jsonl", ROWS)
    made = task(path, shots=2)
    for as_chat in (False, True):
        request, cut = made._request(1, examinee(random_model(200), as_chat=as_chat))
        text = bytes(token - 9 for token in request.context if token >= 9).decode()
        assert text.count("Sky") == 1 and "A dog that barks." in text and "Dee" in text and not cut
    assert made._request(1, examinee(random_model(200))) == made._request(1, examinee(random_model(200)))
    with pytest.raises(UsageError, match="num_fewshot is 3, but there are only 2"):
        task(path, shots=3).score(examinee(random_model(200)), quiet)


def test_shots_that_do_not_fit(
    tmp_path: Path, random_model: Callable[..., Transformer], examinee: Callable[..., Examinee]
) -> None:
    with pytest.raises(DataError, match="lower num_fewshot") as caught:
        task(rows(tmp_path / "c.jsonl", ROWS), shots=2).score(examinee(random_model(48)), quiet)
    assert caught.value.where == "c.jsonl:1"


def test_a_question_longer_than_the_context_is_cut_on_the_left_and_counted(
    tmp_path: Path,
    naive: Callable[..., float],
    random_model: Callable[..., Transformer],
    examinee: Callable[..., Examinee],
) -> None:
    model = random_model(24)
    asked = examinee(model)
    listed: list[dict[str, object]] = [{"query": "abcdefghij" * 5, "choices": ["no", "yes"], "gold": 0}, ROWS[1]]
    score = task(rows(tmp_path / "c.jsonl", listed)).score(asked, quiet)
    assert score.metrics["cut"] == 1
    kept = asked.tokenizer.encode("abcdefghij" * 5)[-20:]  # 1 + 20 + 4 ids, the last of which is only predicted
    wanted = [naive(model, [1, *kept], asked.tokenizer.encode(f" {choice}")) for choice in ("no", "yes")]
    assert score.records[0]["logprobs"] == pytest.approx(wanted, abs=1e-4)
    long = [{"query": "q", "choices": ["a", "b" * 40], "gold": 0}]
    with pytest.raises(DataError, match="fills the model's context"):
        task(rows(tmp_path / "d.jsonl", long)).score(asked, quiet)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"query": None}, "query"),
        ({"query": " "}, "query"),
        ({"choices": []}, "number of choices is 0"),
        ({"choices": ["one"]}, "number of choices is 1"),
        ({"choices": "ab"}, "not a list of texts"),
        ({"choices": ["a", 2]}, "not a list of texts"),
        ({"choices": ["a", ""]}, "not a list of texts"),
        ({"gold": None}, "gold is missing"),
        ({"gold": True}, "gold is missing"),
        ({"gold": "1"}, "gold is missing"),
        ({"gold": 3}, "gold is 3, the choices are 0 to 2"),
        ({"gold": -1}, "gold is -1"),
    ],
)
def test_rows_that_cannot_be_asked(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        task(rows(tmp_path / "c.jsonl", [ROWS[0], {**ROWS[0], **change}]))
    assert caught.value.where == "c.jsonl:2"
    assert "\n" not in str(caught.value)
