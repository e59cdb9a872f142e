"""`evaluate` from end to end on a tiny model that knows its answers: scores, records, configs, bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmforge.config.load import load_config
from llmforge.errors import ConfigError, DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.stages import evaluate

CONFIGS = Path(__file__).parents[2] / "configs" / "evaluate"
QUIET = Console(quiet=True, json=True)


def rows(path: Path, listed: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return str(path)


def choices(path: Path, taught: dict[str, str]) -> str:
    said = list(taught.values())
    return rows(
        path, [{"query": asked, "choices": said, "gold": said.index(answer)} for asked, answer in taught.items()]
    )


def config(model: Path, folder: Path, tasks: list[Any], **changes: Any) -> evaluate.EvaluateConfig:
    values = {"model": str(model), "output_dir": str(folder / "run"), "tasks": tasks, "precision": "fp32"}
    return evaluate.EvaluateConfig.model_validate({**values, "device": "cpu", **changes})


def test_a_model_that_knows_the_answers(talking_model: Path, tmp_path: Path, taught: dict[str, str]) -> None:
    asked = rows(tmp_path / "q.jsonl", [{"query": query, "answer": answer} for query, answer in taught.items()])
    text = rows(tmp_path / "t.jsonl", [{"text": "A list holds values."}, {"text": "日本"}])
    chosen = config(
        talking_model,
        tmp_path,
        [
            {"name": "multiple_choice", "path": choices(tmp_path / "c.jsonl", taught), "label": "choices"},
            {"name": "exact_match", "path": asked},
            f"bits_per_byte={text}",
        ],
    )
    result = evaluate.run(chosen, QUIET)
    tasks: Any = result["tasks"]
    assert result["chat"] is True and set(tasks) == {"choices", "exact_match", f"bits_per_byte={text}"}
    assert tasks["choices"]["acc"] == 1.0 and tasks["choices"]["chance"] == pytest.approx(1 / 3)
    assert tasks["exact_match"]["exact_match"] == 1.0 and tasks["exact_match"]["ended"] == 1.0
    assert tasks[f"bits_per_byte={text}"]["bytes"] == 26
    for metrics in tasks.values():
        assert {"chance", "samples"} <= set(metrics)
        for key in metrics:
            if key.endswith("_stderr"):
                assert key.removesuffix("_stderr") in metrics
    records = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert len(records) == 8 and {record["task"] for record in records} == set(tasks)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["result"]["tasks"] == tasks
    page = evaluate.summary(result)
    assert "choices" in page and "1.0000" in page and "0.3333" in page


def test_the_chat_format_matters_and_can_be_chosen(talking_model: Path, tmp_path: Path, taught: dict[str, str]) -> None:
    path = choices(tmp_path / "c.jsonl", taught)
    scores = []
    for chat in ("auto", True, False):
        result: Any = evaluate.run(config(talking_model, tmp_path, [f"multiple_choice={path}"], chat=chat), QUIET)
        records = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
        scores.append([record["logprobs"] for record in records])
        assert result["chat"] is (chat is not False)
    assert scores[0] == scores[1] != scores[2]


def test_scores_do_not_depend_on_row_tokens(talking_model: Path, tmp_path: Path, taught: dict[str, str]) -> None:
    tasks = [
        f"multiple_choice={choices(tmp_path / 'c.jsonl', taught)}",
        "bits_per_byte=" + rows(tmp_path / "t.jsonl", [{"text": text * 2} for text in taught.values()]),
    ]
    found = []
    for row_tokens in (64, 8192):
        result: Any = evaluate.run(config(talking_model, tmp_path, tasks, row_tokens=row_tokens), QUIET)
        records = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
        found.append([x for record in records for x in record.get("logprobs", [record.get("bits")])])
        assert len(result["tasks"]) == 2
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_limits(talking_model: Path, tmp_path: Path, taught: dict[str, str]) -> None:
    path = choices(tmp_path / "c.jsonl", taught)
    tasks = [
        {"name": "multiple_choice", "path": path},
        {"name": "multiple_choice", "path": path, "label": "b", "limit": 1},
    ]
    result: Any = evaluate.run(config(talking_model, tmp_path, tasks, limit=2), QUIET)
    assert [entry["samples"] for entry in result["tasks"].values()] == [2, 1]
    assert result["tasks"]["b"]["acc_stderr"] is None
    assert "acc" in evaluate.summary(result)


def test_tasks_as_words() -> None:
    made = evaluate.EvaluateConfig.model_validate(
        {"model": "m", "output_dir": "o", "tasks": ["python-docs:choices", "exact_match", "bits_per_byte=a.jsonl"]}
    )
    assert [(task.name, task.path, task.label) for task in made.tasks] == [
        ("multiple_choice", "python-docs:choices", "python-docs:choices"),
        ("exact_match", "python-docs:questions", None),
        ("bits_per_byte", "a.jsonl", "bits_per_byte=a.jsonl"),
    ]


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ("[nothing]", "no task is called 'nothing'"),
        ("['exact_macth=a.jsonl']", "did you mean `exact_match`?"),
        ("[bits_per_byte]", "write bits_per_byte=PATH"),
        ("[{name: nothing}]", "nothing"),
        ("[{path: a}]", "name"),
        ("[exact_match, exact_match]", "two tasks are called exact_match"),
        ("[{name: exact_match, answer_pattern: '('}]", "not a regular expression"),
        ("[{name: multiple_choice, max_new_tokens: 3}]", "max_new_tokens"),
        ("[]", "tasks"),
        ("[{name: multiple_choice, limit: 0}]", "limit"),
    ],
)
def test_wrong_tasks(tasks: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(evaluate.EvaluateConfig, None, ["model=m", "output_dir=o", f"tasks={tasks}"])


def test_bad_rows_show_before_the_model_is_loaded(
    talking_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmforge.inference.loading.open_model", lambda *_: pytest.fail("loaded"))
    path = rows(tmp_path / "c.jsonl", [{"query": "a", "choices": ["b", "c"], "gold": 2}])
    with pytest.raises(DataError, match="gold is 2") as caught:
        evaluate.run(config(talking_model, tmp_path, [f"multiple_choice={path}"]), QUIET)
    assert caught.value.where == "c.jsonl:1"
    assert not (tmp_path / "run" / "samples.jsonl").exists()


def test_missing_inputs(talking_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        evaluate.preview(config(tmp_path / "none", tmp_path, ["python-docs:choices"]))
    with pytest.raises(DataError, match="none.jsonl"):
        evaluate.preview(config(talking_model, tmp_path, [f"exact_match={tmp_path / 'none.jsonl'}"]))
    with pytest.raises(DataError, match="no part"):
        evaluate.preview(config(talking_model, tmp_path, ["exact_match=python-docs:nothing"]))
    path = rows(tmp_path / "c.jsonl", [{"query": "a", "choices": ["b", "c"], "gold": 0}])
    with pytest.raises(UsageError, match="num_fewshot"):
        evaluate.run(config(talking_model, tmp_path, [f"multiple_choice={path}"], num_fewshot=1), QUIET)


def test_preview_and_fingerprint_load_no_torch(talking_model: Path, tmp_path: Path, taught: dict[str, str]) -> None:
    path = choices(tmp_path / "c.jsonl", taught)
    program = f"""
import sys
from llmforge.stages import evaluate
config = evaluate.EvaluateConfig.model_validate(
    {{"model": {str(talking_model)!r}, "output_dir": "o", "tasks": ["multiple_choice={path}"]}})
assert evaluate.preview(config)["reads"] and set(evaluate.inputs_fingerprint(config)) == {{"model", {path!r}}}
heavy = [name for name in ("torch", "numpy", "pyarrow", "pandas", "datasets") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_example_is_whole() -> None:
    loaded = load_config(evaluate.EvaluateConfig, CONFIGS / "quickstart.yaml", [])
    assert [task.name for task in loaded.config.tasks] == ["bits_per_byte", "multiple_choice", "exact_match"]
