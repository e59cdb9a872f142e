"""`llmforge generate`: prompts in, text out; streamed for one prompt, batched for many."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from llmforge.config.schema import Config
from llmforge.inference.settings import Device, Precision, SamplingSettings
from llmforge.runtime.console import Console

if TYPE_CHECKING:
    from llmforge.inference.answer import Sample
    from llmforge.inference.kept_answers import KeptAnswers
    from llmforge.inference.loading import Loaded
    from llmforge.inference.prompts import Prompt
    from llmforge.runtime.stop import StopSignals

SAMPLES = "samples.jsonl"
KEPT = ".samples.partial"  # the answers of a run that is not over
_ANEW = "the same command begins anew"
_BYTES_PER_TOKEN = 4


class GenerateConfig(Config):
    """What is asked of which model; exactly one of `prompt` and `prompts`."""

    model: str = Field(min_length=1, description="a model folder, a run folder, or a Hugging Face folder")
    prompt: str | None = Field(default=None, description="one prompt; - reads it from stdin")
    prompts: str | None = Field(
        default=None,
        min_length=1,
        description="a file of lines, JSONL with messages or prompt, or python-docs:questions",
    )
    limit: int | None = Field(default=None, ge=1, description="only the first prompts")
    chat: Literal["auto"] | bool = Field(
        default="auto",
        description="put texts through the chat template; auto: when the model was fine-tuned on conversations",
    )
    sampling: SamplingSettings = SamplingSettings()
    precision: Precision = Field(default="auto", description="of the arithmetic; auto: what is faster on this machine")
    device: Device = Field(default="auto", description="auto: cuda, then mps, then cpu")
    output_dir: str | None = Field(default=None, min_length=1, description="a run folder that gets samples.jsonl")

    @model_validator(mode="after")
    def _one_source(self) -> GenerateConfig:
        if (self.prompt is None) == (self.prompts is None):
            raise ValueError("give exactly one of prompt and prompts")
        return self


def run(config: GenerateConfig, console: Console) -> dict[str, object]:
    """Writes the answers; returns them as `samples` (CLI.md) with the share that ended by themselves and the speed.

    With an output_dir the answers go to samples.jsonl there and a summary to stdout, else the answers to stdout.

    Raises:
        StopRequested: a signal came; with an output_dir the answers so far are kept, and the same command goes on.
    """
    from llmforge.inference.loading import open_model
    from llmforge.runtime.stop import StopSignals

    prompts = _prompts(config)
    with StopSignals() as stop:
        if config.output_dir is not None:
            return _into_folder(config, config.output_dir, prompts, console, stop)
        loaded = open_model(config.model, config.precision, config.device)
        return _answer(config, prompts, loaded, console, partial(stop.check, _ANEW))


def _into_folder(
    config: GenerateConfig, output_dir: str, prompts: list[Prompt], console: Console, stop: StopSignals
) -> dict[str, object]:
    from llmforge.inference.kept_answers import KeptAnswers
    from llmforge.inference.loading import open_model
    from llmforge.runtime.files import write_atomic
    from llmforge.runtime.run_folder import RunFolder

    with RunFolder.open(output_dir, "generate", config.model_dump(mode="json")) as folder:
        with folder.phase("load"):
            loaded = open_model(config.model, config.precision, config.device)
        kept = KeptAnswers(folder.path / KEPT, _asked(config, prompts), config.sampling.num_samples)
        if kept.found:
            console.say(f"going on: {len(kept.found):,} of {len(prompts):,} prompts were answered before")
        with folder.phase("generate"):
            many = len(prompts) * config.sampling.num_samples > 1
            check = stop.check if many else partial(stop.check, _ANEW)
            result = _answer(config, prompts, loaded, console, check, kept)
        lines = [json.dumps(sample, ensure_ascii=False) for sample in _listed(result["samples"])]
        write_atomic(folder.path / SAMPLES, "\n".join(lines) + "\n")
        kept.forget()
        result["output"] = str(folder.path / SAMPLES)
        folder.record(**{key: result[key] for key in ("ended_by_themselves", "tokens", "tokens_per_second")})
    console.result(f"samples: {result['output']}")
    return result


def _asked(config: GenerateConfig, prompts: list[Prompt]) -> str:
    """A digest of all that the answers depend on but the machine."""
    from llmforge.inference.loading import fingerprint_of_model

    values = config.model_dump(mode="json", exclude={"output_dir", "limit", "prompts"})
    told = [fingerprint_of_model(config.model), values, [asdict(prompt) for prompt in prompts]]
    return sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def preview(config: GenerateConfig) -> dict[str, object]:
    """What would be read and written; raises as `run` does when it is not there."""
    from llmforge.checkpoint.model_folder import find_model, read_model_config
    from llmforge.inference.prompts import check_prompts_path

    folder = find_model(config.model)
    shape = read_model_config(folder)
    reads = [str(folder)]
    if config.prompts is not None:
        check_prompts_path(config.prompts)
        reads.append(config.prompts)
    facts: dict[str, object] = {"reads": reads, "writes": [], "parameters": shape.num_parameters}
    if config.output_dir is not None:
        facts["writes"] = [str(Path(config.output_dir) / SAMPLES)]
        count = (config.limit or 1) * config.sampling.num_samples
        facts["bytes"] = count * min(config.sampling.max_new_tokens, shape.max_position_embeddings) * _BYTES_PER_TOKEN
    return facts


def inputs_fingerprint(config: GenerateConfig) -> dict[str, str]:
    """Digests of the model folder and of the prompts."""
    from llmforge.inference.loading import fingerprint_of_model
    from llmforge.inference.prompts import fingerprint_of_prompts

    found = {"model": fingerprint_of_model(config.model)}
    if config.prompts is not None:
        found["prompts"] = fingerprint_of_prompts(config.prompts)
    return found


def _prompts(config: GenerateConfig) -> list[Prompt]:
    from llmforge.errors import DataError
    from llmforge.inference.prompts import plain_prompt, read_prompts

    if config.prompts is not None:
        return read_prompts(config.prompts, config.limit)
    assert config.prompt is not None, "the config has one of both"
    if config.prompt != "-":
        return [plain_prompt(config.prompt, "prompt")]
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start + 1} is not UTF-8", "stdin", "encode it in UTF-8") from error
    return [plain_prompt(text.removeprefix("\ufeff").removesuffix("\n"), "stdin")]


def _answer(
    config: GenerateConfig,
    prompts: list[Prompt],
    loaded: Loaded,
    console: Console,
    check: Callable[[], None],
    kept: KeptAnswers | None = None,
) -> dict[str, object]:
    from llmforge.inference.answer import check_prompt
    from llmforge.inference.prompts import encode_prompt

    as_chat = loaded.converses if config.chat == "auto" else config.chat
    ids = [encode_prompt(prompt, loaded.tokenizer, as_chat) for prompt in prompts]
    shape = loaded.model.config
    for prompt, tokens in zip(prompts, ids, strict=True):
        check_prompt(tokens, shape.max_position_embeddings, shape.vocab_size, prompt.where)
    check()
    start, before = time.perf_counter(), kept.num_tokens if kept is not None else 0
    if len(prompts) == 1 and config.sampling.num_samples == 1:
        samples = [_streamed(config, ids[0], loaded, console, check)]
    else:
        samples = _batched(config, ids, loaded, console, check, kept)
    seconds = time.perf_counter() - start
    speed = (sum(len(sample.ids) for sample in samples) - before) / max(seconds, 1e-9)  # of what was written now
    return {**_result(config, prompts, samples, speed, console), "seconds": seconds}


def _streamed(
    config: GenerateConfig, ids: list[int], loaded: Loaded, console: Console, check: Callable[[], None]
) -> Sample:
    from llmforge.inference.generate import stream
    from llmforge.inference.terminal import show

    pieces = stream(loaded.model, loaded.tokenizer, ids, config.sampling, loaded.stop_ids)
    shown = not console.json and config.output_dir is None
    try:
        for piece in pieces:
            check()
            if shown and piece:
                show(piece)
    finally:
        if shown:
            show("\n")  # also when it is stopped: what is there ends as a line
    assert pieces.sample is not None, "a stream that is read to its end has a sample"
    return pieces.sample


def _batched(
    config: GenerateConfig,
    ids: list[list[int]],
    loaded: Loaded,
    console: Console,
    check: Callable[[], None],
    kept: KeptAnswers | None,
) -> list[Sample]:
    from llmforge.inference.generate import generate

    each = config.sampling.num_samples
    found, keep = (kept.found, kept.add) if kept is not None else ({}, lambda *answer: None)
    rest = [place for place in range(len(ids)) if place not in found]
    with console.progress("answers", len(ids) * each, "answers", len(found) * each) as bar:

        def on_step(tokens: int, ended: list[tuple[int, Sample]]) -> None:
            for place, sample in ended:
                keep(rest[place // each], place % each, sample)
            check()
            bar.advance(len(ended))

        prompts = [ids[place] for place in rest]
        made = generate(
            loaded.model, loaded.tokenizer, prompts, config.sampling, stop_ids=loaded.stop_ids, on_step=on_step
        )
    answers = {**found, **{place: made[each * at : each * (at + 1)] for at, place in enumerate(rest)}}
    return [sample for place in range(len(ids)) for sample in answers[place]]


def _result(
    config: GenerateConfig, prompts: list[Prompt], samples: list[Sample], speed: float, console: Console
) -> dict[str, object]:
    from llmforge.inference.terminal import show

    each = config.sampling.num_samples
    rows = [_row(prompts[index // each], sample) for index, sample in enumerate(samples)]
    tokens = sum(len(sample.ids) for sample in samples)
    ended = sum(sample.finish_reason == "stop" for sample in samples)
    if len(rows) > 1 and config.output_dir is None and not console.json:
        show("\n\n".join(f"> {row['prompt']}\n{row['text']}" for row in rows) + "\n")
    summary = f"{len(rows)} answers, {ended} ended by themselves, {tokens:,} tokens, {speed:,.0f} tokens/s"
    if config.output_dir is not None:
        console.result(summary)
    else:
        (console.say if len(rows) > 1 else console.detail)(summary)
    return {
        "model": config.model,
        "samples": rows,
        "ended_by_themselves": ended / len(rows),
        "tokens": tokens,
        "tokens_per_second": speed,
    }


def _row(prompt: Prompt, sample: Sample) -> dict[str, object]:
    row: dict[str, object] = {
        "prompt": prompt.text,
        "text": sample.text,
        "tokens": len(sample.ids),
        "finish_reason": sample.finish_reason,
        "seconds": round(sample.seconds, 6),
    }
    known = {"id": prompt.id, "answer": prompt.answer}
    return row | {key: value for key, value in known.items() if value is not None}


def _listed(value: object) -> list[object]:
    assert isinstance(value, list), "samples are a list"
    return value
