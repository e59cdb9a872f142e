"""`llmforge evaluate`: a model folder -> scores, each with its standard error and its chance level."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from llmforge.config.explain import near
from llmforge.config.schema import Config
from llmforge.evaluation.settings import (
    NAMES,
    BitsPerByteTask,
    ExactMatchTask,
    MultipleChoiceTask,
    TaskSettings,
)
from llmforge.inference.settings import Device, Precision
from llmforge.runtime.console import Console

if TYPE_CHECKING:
    from llmforge.evaluation.task import Examinee, Score, Task

SAMPLES = "samples.jsonl"
_BUILT_IN = {"python-docs:choices": "multiple_choice", "python-docs:questions": "exact_match"}


def _spelled_out(task: Any) -> Any:
    """A task given as one word: its name, `name=path`, or a part of the built-in corpus."""
    if not isinstance(task, str):
        return task
    if task in _BUILT_IN:
        return {"name": _BUILT_IN[task], "path": task, "label": task}
    name, equals, path = task.partition("=")
    if name not in NAMES:
        known = near(name, (*NAMES, *_BUILT_IN)) or f"known: {', '.join((*NAMES, *_BUILT_IN))}, or NAME=PATH"
        raise ValueError(f"no task is called {task!r}; {known}")
    if not equals and name == "bits_per_byte":  # the one without built-in rows
        raise ValueError(f"{name} needs a text to measure: write {name}=PATH")
    return {"name": name, "path": path, "label": task} if equals else {"name": name}


class EvaluateConfig(Config):
    """Which model takes which tasks."""

    model: str = Field(min_length=1, description="a model folder, a run folder, or a Hugging Face folder")
    output_dir: str = Field(min_length=1, description="a run folder that gets samples.jsonl and the scores in run.json")
    tasks: list[Annotated[TaskSettings, BeforeValidator(_spelled_out)]] = Field(
        min_length=1, description="names, NAME=PATH, or maps with name, path and what else the task takes"
    )
    chat: Literal["auto"] | bool = Field(
        "auto", description="ask in the chat format; auto: when the model was fine-tuned on conversations"
    )
    limit: int | None = Field(None, ge=1, description="a random sample of so many items of each task; null: all")
    num_fewshot: int = Field(0, ge=0, le=1000, description="solved items in front of each question")
    row_tokens: int = Field(
        8192, ge=16, le=2**24, description="most tokens of one forward pass: memory and speed, not the scores"
    )
    precision: Precision = Field("auto", description="of the arithmetic; auto: what is faster on this machine")
    device: Device = Field("auto", description="auto: cuda, then mps, then cpu")
    seed: int = Field(0, ge=0, lt=2**63, description="draws samples of items and solved examples")

    @model_validator(mode="after")
    def _different_labels(self) -> Self:
        counts = Counter(task.label or task.name for task in self.tasks)
        twice = [label for label, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"two tasks are called {twice[0]}: give them labels")
        return self


def run(config: EvaluateConfig, console: Console) -> dict[str, object]:
    """Scores the model; returns `tasks` by label with metrics, their errors, chance level and number of samples.

    Raises:
        DataError: an item that cannot be asked (file and row), no model, or a tokenizer of another model.
        DamagedError: a file of the model was cut or changed.
    """
    from llmforge.inference.loading import open_model
    from llmforge.runtime.files import write_atomic
    from llmforge.runtime.run_folder import RunFolder

    preview(config)
    with RunFolder.open(config.output_dir, "evaluate", config.model_dump(mode="json")) as folder:
        with folder.phase("read"):
            tasks = [_made(settings, config) for settings in config.tasks]
        with folder.phase("load"):
            examinee = _examinee(config, open_model(config.model, config.precision, config.device))
        scores = {}
        for task in tasks:
            with folder.phase(task.name):
                scores[task.name] = _scored(task, examinee, console)
        lines = [
            json.dumps({"task": name, **record}, ensure_ascii=False)
            for name, score in scores.items()
            for record in score.records
        ]
        write_atomic(folder.path / SAMPLES, "\n".join(lines) + "\n")
        result: dict[str, object] = {
            "model": config.model,
            "tasks": {name: score.metrics for name, score in scores.items()},
            "chat": examinee.as_chat,
            "output": str(folder.path / SAMPLES),
        }
        folder.record(result=result)
    console.result(summary(result))
    return result


def preview(config: EvaluateConfig) -> dict[str, object]:
    """What would be read and written; raises as `run` does when it is not there."""
    from llmforge.checkpoint.model_folder import find_model, read_model_config

    folder = find_model(config.model)
    parameters = read_model_config(folder).num_parameters
    sizes = [_check_rows(task.path) for task in config.tasks]
    return {
        "reads": [str(folder), *dict.fromkeys(task.path for task in config.tasks)],
        "writes": [str(Path(config.output_dir) / SAMPLES)],
        "bytes": sum(sizes),
        "parameters": parameters,
    }


def inputs_fingerprint(config: EvaluateConfig) -> dict[str, str]:
    """Digests of the model and of each task's rows."""
    from llmforge.corpus.source_config import SourceConfig
    from llmforge.corpus.sources import source_fingerprint
    from llmforge.evaluation.perplexity import find_corpus
    from llmforge.inference.loading import fingerprint_of_model
    from llmforge.runtime.manifest import manifest_digest

    found = {"model": fingerprint_of_model(config.model)}
    for task in config.tasks:
        corpus = find_corpus(task.path)
        source = SourceConfig.model_validate({"path": task.path})
        found[task.path] = source_fingerprint(source) if corpus is None else manifest_digest(corpus, "corpus")
    return found


def summary(result: dict[str, object]) -> str:
    """The scores as a table."""
    from llmforge.report.table import table

    rows = []
    tasks = result["tasks"]
    assert isinstance(tasks, dict)
    for name, metrics in tasks.items():
        for metric in [key.removesuffix("_stderr") for key in metrics if key.endswith("_stderr")]:
            error = metrics[f"{metric}_stderr"]
            noise = "" if error is None else f"{error:.4f}"
            rows.append(
                [name, metric, f"{metrics[metric]:.4f}", noise, f"{metrics['chance']:.4f}", f"{metrics['samples']:,}"]
            )
    header = ["task", "measure", "score", "standard error", "chance", "samples"]
    return "\n".join(table(rows, header, right=(2, 3, 4, 5)))


def _check_rows(path: str) -> int:
    """Bytes on the disk behind a task's path; DataError when nothing is there."""
    from llmforge.corpus.source_config import SourceConfig
    from llmforge.corpus.sources import check_source
    from llmforge.evaluation.perplexity import find_corpus

    if find_corpus(path) is not None:
        return 0
    return check_source(SourceConfig.model_validate({"path": path})).bytes or 0


def _made(settings: TaskSettings, config: EvaluateConfig) -> Task:
    """The task with its items read and checked."""
    from llmforge.evaluation.exact_match import ExactMatch
    from llmforge.evaluation.multiple_choice import MultipleChoice
    from llmforge.evaluation.perplexity import BitsPerByte

    chosen = settings.model_copy(update={"limit": settings.limit or config.limit})
    match chosen:
        case BitsPerByteTask():
            return BitsPerByte(chosen, config.seed)
        case MultipleChoiceTask():
            return MultipleChoice(chosen, config.seed, config.num_fewshot)
        case ExactMatchTask():
            return ExactMatch(chosen, config.seed, config.num_fewshot)


def _examinee(config: EvaluateConfig, loaded: Any) -> Examinee:
    from llmforge.evaluation.task import Examinee

    as_chat = loaded.converses if config.chat == "auto" else config.chat
    return Examinee(loaded.model, loaded.tokenizer, loaded.stop_ids, as_chat, config.row_tokens)


def _scored(task: Task, examinee: Examinee, console: Console) -> Score:
    from llmforge.runtime.stop import StopSignals

    with StopSignals() as stop, console.progress(task.name, task.size, "items") as bar:

        def on_done(count: int) -> None:
            bar.advance(count)
            stop.check()

        score = task.score(examinee, on_done)
    cut = score.metrics.get("cut")
    if cut:
        console.warn(
            f"{task.name}: {cut} of {task.size} questions are longer than the model's context; cut on the left"
        )
    return score
