"""The closing page of a pipeline, from what its steps answered: what came in, what was learned, what to type next.

A step that a pipeline leaves out leaves out its section.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from llmforge.report.page import paragraph, section, share
from llmforge.report.table import table
from llmforge.runtime.console import duration, quantity
from llmforge.stages.pipeline import STEPS, Pipeline

Facts = Mapping[str, dict[str, Any]]

_MOST_REASONS = 20
_QUESTIONS = 5
_MEMORISES = 1.3  # held-out loss over training loss, from here up
_ANSWER_LINES = 6
_BITS = "bits_per_byte"


def closing_page(pipeline: Pipeline, facts: Facts, xz: Mapping[str, float] | None, seconds: float) -> str:
    """The page; `facts` holds `status`, `seconds` and `result` of each step, `xz` the compressor's bits per byte."""
    lines = ["", f"{pipeline.config.name}: {len(facts)} steps, {duration(seconds)}", ""]
    for _, result in _results(facts, "clean"):
        lines += section("What came in", _came_in(result))
    for _, result in _results(facts, "tokenizer train"):
        lines += section("Tokenizer", _tokenizer(result, facts))
    lines += section("Bits per byte of held-out text (less is better)", _bits(facts, xz))
    lines += section("Scores", _scores(facts))
    taught = any(True for _ in _results(facts, "finetune"))
    heading = "Held-out questions, and what the model answers" if taught else "What the model writes"
    lines += section(heading, _questions(facts))
    lines += section("Time", _times(facts, seconds))
    lines += section("Next", _next(pipeline))
    return "\n".join(lines).rstrip() + "\n"


def _results(facts: Facts, command: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entry in facts.items():
        if STEPS.get(name.split("-")[0]) == command:
            yield name, entry["result"]


def _came_in(result: Mapping[str, Any]) -> list[str]:
    given, kept, dropped = result["input"], result["kept"], result["dropped"]
    rows = [["came in", f"{given['documents']:,}", quantity(given["bytes"], "B"), ""]]
    reasons = sorted(dropped.items(), key=lambda item: -item[1]["bytes"])
    for reason, part in reasons[:_MOST_REASONS]:
        if part["documents"]:
            portion = share(part["bytes"], given["bytes"])
            rows.append([f"dropped: {reason}", f"{part['documents']:,}", quantity(part["bytes"], "B"), portion])
    rest = [part for _, part in reasons[_MOST_REASONS:] if part["documents"]]
    if rest:
        count, size = sum(part["documents"] for part in rest), sum(part["bytes"] for part in rest)
        label = f"dropped: {len(rest)} further reasons"
        rows.append([label, f"{count:,}", quantity(size, "B"), share(size, given["bytes"])])
    portion = share(kept["bytes"], given["bytes"])
    rows.append(["kept", f"{kept['documents']:,}", quantity(kept["bytes"], "B"), portion])
    lines = table(rows, ["", "documents", "text", "of the bytes"], right=(1, 2, 3))
    changed = [f"{step} {count:,}" for step, count in result.get("changed", {}).items() if count]
    return [*lines, *(paragraph("documents changed: " + ", ".join(changed)) if changed else [])]


def _tokenizer(result: Mapping[str, Any], facts: Facts) -> list[str]:
    lossless = "lossless" if result["lossless"] else "NOT lossless"
    lines = [f"{result['vocab_size']:,} tokens, {result['bytes_per_token']:.2f} bytes per token, {lossless}"]
    for _, made in _results(facts, "tokenize"):
        lines.append(f"the corpus has {made['tokens']:,} tokens in {made['documents']:,} documents")
    return lines


def _bits(facts: Facts, xz: Mapping[str, float] | None) -> list[str]:
    rows: list[tuple[str, float | None]] = []
    if xz is not None:
        rows.append(("xz -9", xz["bits_per_byte"]))
    for name, result in _results(facts, "pretrain"):
        rows.append(("untrained model", result.get("untrained_bits_per_byte")))
        rows.append((f"after {name}", result.get("valid_bits_per_byte")))
    for name, result in _results(facts, "evaluate"):
        rows += [(f"{name}: {task}", entry.get(_BITS)) for task, entry in result["tasks"].items()]
    bar = xz["bits_per_byte"] if xz is not None else None
    cells = [
        [label, f"{bits:.3f}", f"{bits / bar:.2f} of xz" if bar else ""] for label, bits in rows if bits is not None
    ]
    size = [f"of {quantity(xz['bytes'], 'B')} that no training step saw"] if xz is not None else []
    return [*table(cells, right=(1, 2)), *size, *_memorised(facts)]


def _memorised(facts: Facts) -> list[str]:
    """Loss on training text against loss on held-out text, in nats a token, and what a wide gap means."""
    lines: list[str] = []
    for name, result in (*_results(facts, "pretrain"), *_results(facts, "finetune")):
        seen, unseen = result.get("train_loss"), result.get("valid_loss")
        if not seen or not unseen:
            continue
        text = f"{name}: loss {seen:.2f} on what it trained on, {unseen:.2f} on what was held out"
        if result.get("best_step") is not None:
            text += f"; {result['state']}: weights of step {result['best_step']}, the best on held-out text"
        if unseen > _MEMORISES * seen:
            text += ": it memorises; give it more text, or a shorter run"
        lines += paragraph(text)
    return lines


def _scores(facts: Facts) -> list[str]:
    rows = []
    for name, result in _results(facts, "evaluate"):
        for task, entry in result["tasks"].items():
            metrics = [key.removesuffix("_stderr") for key in entry if key.endswith("_stderr")]
            rows += [[name, task, metric, *_score(entry, metric)] for metric in metrics if metric != _BITS]
    header = ["step", "task", "measure", "score", "standard error", "chance", "above chance", "samples"]
    return table(rows, header, right=(3, 4, 5, 6, 7)) if rows else []


def _score(entry: Mapping[str, Any], metric: str) -> list[str]:
    """Score, its error, the chance level, how far above it in standard errors, and the number of samples."""
    value, error, chance = entry[metric], entry[f"{metric}_stderr"], entry["chance"]
    above = f"{(value - chance) / error:+.1f} errors" if error else ""
    noise = "" if error is None else f"± {error:.3f}"
    return [f"{value:.3f}", noise, f"{chance:.3f}", above, f"{entry['samples']:,}"]


def _questions(facts: Facts) -> list[str]:
    lines: list[str] = []
    for _, result in _results(facts, "generate"):
        samples = result["samples"]
        for sample in samples[:_QUESTIONS]:
            lines += [*paragraph(f"> {sample['prompt']}", most_lines=2)]
            lines += [*paragraph(sample["text"], "    ", _ANSWER_LINES), ""]
        ended = sum(sample["finish_reason"] == "stop" for sample in samples)
        lines.append(f"{ended} of {len(samples)} answers ended by themselves")
    return lines


def _times(facts: Facts, seconds: float) -> list[str]:
    rows = []
    for name, entry in facts.items():
        note = "then; skipped now" if entry["status"] == "skipped" else ""
        rows.append([name, duration(entry["seconds"]), note])
    rows.append(["in all, now", duration(seconds), ""])
    return table(rows, right=(1,))


def _next(pipeline: Pipeline) -> list[str]:
    """The commands that go on from the last model, or from the last artefact when no model was made."""
    models = [step for step in pipeline.steps if step.stage.artefact == "model"]
    corpora = [step for step in pipeline.steps if step.stage.artefact == "corpus"]
    lines = []
    if shutil.which("llmforge") is None:
        lines.append(f"source {shlex.quote(os.path.join(sys.prefix, 'bin', 'activate'))}")
    if models:
        model = shlex.quote(models[-1].config.output_dir)
        talks = models[-1].stage.command == "finetune"
        lines.append(
            f"llmforge chat --model {model}" if talks else f"llmforge generate --model {model} --prompt 'The '"
        )
        if talks:
            lines.append(f"llmforge generate --model {model} --prompt 'What does str.partition do?'")
        lines.append(f"less {model}/model/README.md")
    if corpora and pipeline.path is not None:
        place = f"{corpora[-1].name}.sources.0.path=MY_FOLDER"
        lines.append(f"llmforge run --config {shlex.quote(str(pipeline.path))} {place} output_dir=runs/mine")
    return lines
