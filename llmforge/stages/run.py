"""`llmforge run`: the steps of a pipeline file in order, each skipped when nothing it depends on has changed."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llmforge.config.qualify import qualified
from llmforge.config.render import render
from llmforge.errors import DataError, LlmforgeError
from llmforge.runtime.console import Console, duration
from llmforge.runtime.run_folder import RunFolder
from llmforge.runtime.stop import StopSignals
from llmforge.stages.held_out import held_out_xz
from llmforge.stages.pipeline import Pipeline, Step, load_pipeline
from llmforge.stages.pipeline_page import closing_page
from llmforge.stages.pipeline_schema import pipeline_schema
from llmforge.stages.request import Request, preview_lines, refuse_output_over_input, require_config, say_json
from llmforge.stages.step_records import (
    Makings,
    Record,
    artefact_digest,
    forget_states,
    makings_of,
    read_record,
    why_redo,
    write_record,
)


def run_request(request: Request) -> None:
    """Runs a pipeline, or shows its schema or what it would do."""
    if request.schema:
        sys.stdout.write(pipeline_schema())
        return
    require_config(request)
    pipeline = load_pipeline(request.config, request.overrides)
    if request.dry_run:
        show(pipeline, request)
        return
    result = run(pipeline, request.console())
    if request.json:
        say_json(result)


def run(pipeline: Pipeline, console: Console) -> dict[str, object]:
    """Works through the steps and shows the closing page; returns each step's result, seconds and whether it ran.

    Raises whatever a step raises, and StopRequested when a signal comes between two; the steps before it stay
    finished, and the same command goes on from there.
    """
    began = time.monotonic()
    values = pipeline.config.model_dump(mode="json")
    with StopSignals() as stop, RunFolder.open(pipeline.output_dir, "run", values) as folder:
        _check_first_inputs(pipeline)
        done: dict[str, _Done] = {}
        for index, step in enumerate(pipeline.steps):
            stop.check()
            progress = f"[{index + 1}/{len(pipeline.steps)}] {step.name}"
            left = _time_left(pipeline, index)
            with folder.phase(step.name):
                done[step.name] = _one(
                    pipeline, step, console, progress, f"{duration(time.monotonic() - began)}, {left}"
                )
            folder.log(f"{step.name}: {done[step.name].status}")
        facts = {name: _facts(entry) for name, entry in done.items()}
        xz = _xz(pipeline)
    console.result(closing_page(pipeline, facts, xz, time.monotonic() - began))
    return {"name": pipeline.config.name, "output_dir": pipeline.config.output_dir, "steps": facts, "xz": xz}


def _xz(pipeline: Pipeline) -> dict[str, float] | None:
    corpora = [step for step in pipeline.steps if step.stage.artefact == "corpus"]
    return held_out_xz(corpora[-1].config.output_dir, pipeline.output_dir / "held_out.json") if corpora else None


@dataclass(frozen=True)
class _Done:
    status: str
    record: Record


def _facts(done: _Done) -> dict[str, Any]:
    return {"status": done.status, "seconds": done.record.seconds, "result": done.record.result}


class _StepConsole(Console):
    """The console of a step inside a pipeline: its own summary is a detail, the closing page says the rest."""

    def __init__(self, outer: Console) -> None:
        super().__init__(quiet=outer.quiet, verbose=outer.verbose, json=outer.json)

    def result(self, text: str) -> None:
        """A step's summary, on stderr and with --verbose only."""
        self.detail(text)


def _one(pipeline: Pipeline, step: Step, console: Console, progress: str, times: str) -> _Done:
    """Skips or runs one step."""
    now = makings_of(step)
    last = read_record(pipeline.output_dir, step.name)
    reason = why_redo(step, now, last)
    if reason is None:
        assert last is not None
        console.say(f"{progress}: unchanged, skipped")
        return _Done("skipped", last)
    console.say(f"{progress} ({times}): runs, because {reason}")
    with _keys_of(step):
        record = _run(pipeline, step, now, last, console)
    console.say(f"{progress}: done in {duration(record.seconds)}")
    return _Done("done", record)


def _run(pipeline: Pipeline, step: Step, now: Makings, last: Record | None, console: Console) -> Record:
    options: dict[str, object] = {}
    same = last is not None and last.makings == now
    if "resume" in inspect.signature(step.stage.run).parameters:
        # What an earlier run of the very same step left is gone on from, also when it ended and only what it made is
        # damaged: its last state gives that again. Anything else begins anew.
        options["resume"] = "auto" if same else "never"
    facts = step.stage.preview(step.config)
    refuse_output_over_input(step.config, facts)
    if options and not same:
        # Before the record says that this run began: if it is killed at once, the next takes what it finds for its own.
        forget_states(step)
    before = last.seconds if last is not None else 0.0
    write_record(pipeline.output_dir, step.name, Record(now, "started", before))
    start = time.monotonic()
    result = step.stage.run(step.config, _StepConsole(console), **options)
    seconds = round(time.monotonic() - start, 3)
    record = Record(now, "finished", seconds, artefact_digest(step), result)
    write_record(pipeline.output_dir, step.name, record)
    return record


def _time_left(pipeline: Pipeline, index: int) -> str:
    """How long the steps from `index` on take: as long as last time, else as long as their budget says."""
    known, unknown = 0.0, 0
    for step in pipeline.steps[index:]:
        last = read_record(pipeline.output_dir, step.name)
        minutes = getattr(getattr(step.config, "train", None), "max_minutes", None)
        if last is not None and last.seconds:
            known += last.seconds
        elif minutes is not None:
            known += 60 * minutes
        else:
            unknown += 1
    if not known:
        return "time left not known yet"
    return f"{'at least' if unknown else 'about'} {duration(known)} left"


def _check_first_inputs(pipeline: Pipeline) -> None:
    """Finds missing inputs of the steps that depend on no earlier one before the first step spends any time."""
    for step in pipeline.steps:
        if not step.after:
            with _keys_of(step):
                refuse_output_over_input(step.config, step.stage.preview(step.config))


@contextmanager
def _keys_of(step: Step) -> Iterator[None]:
    """A step names the keys of its own config; here they are typed behind the step's name."""
    try:
        yield
    except LlmforgeError as error:
        keys = [step.stage.schema]
        error.what = qualified(error.what, keys, step.name)
        error.hint = None if error.hint is None else qualified(error.hint, keys, step.name)
        raise


def show(pipeline: Pipeline, request: Request) -> None:
    """The answer to --dry-run: every step's config with the origins of its values, and what is there to read."""
    steps = [(step, _preview(step)) for step in pipeline.steps]
    if request.json:
        body = [
            {"step": step.name, "config": step.config.model_dump(mode="json"), "origins": step.loaded.origins, **facts}
            for step, facts in steps
        ]
        say_json({"name": pipeline.config.name, "output_dir": pipeline.config.output_dir, "steps": body})
        return
    for index, (step, facts) in enumerate(steps):
        sys.stdout.write(f"# step {index + 1} of {len(steps)}: {step.name}\n")
        sys.stdout.write(render(step.config, step.loaded.origins))
        sys.stdout.write("\n".join(preview_lines(facts)) + "\n\n")


def _preview(step: Step) -> dict[str, object]:
    try:
        facts = step.stage.preview(step.config)
    except DataError:
        if not step.after:
            raise
        return {"waits for": list(step.after)}
    refuse_output_over_input(step.config, facts)
    return facts
