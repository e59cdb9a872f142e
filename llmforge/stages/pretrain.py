"""`llmforge pretrain`: token shards in, a model folder out; the same command again goes on where the last one ended."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from llmforge.config.schema import Config
from llmforge.model.config import ModelConfig, ModelSettings
from llmforge.runtime.console import Console, duration
from llmforge.tokens.settings import PretrainDataSettings
from llmforge.training.settings import (
    OptimizerSettings,
    ParallelSettings,
    SchedulerSettings,
    TrainSettings,
    check_budget,
    check_fp8_rows,
)
from llmforge.training.tracker_settings import JsonlTracking, Tracking

if TYPE_CHECKING:
    from llmforge.model.transformer import Transformer
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.stages.pretrain_data import PretrainData
    from llmforge.training.assemble import Bench, Resume
    from llmforge.training.loop_parts import TrainResult

_STATE_BYTES_A_PARAMETER = 12  # weight and two averages, fp32


class PretrainConfig(Config):
    """A model, its text, and how it is trained."""

    output_dir: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    # what matrices are multiplied in; parameters stay fp32. auto measures on a CPU and takes the faster. fp8 (the extra
    # of that name) is for GPUs that have it and models from about 1B parameters on
    precision: Literal["auto", "fp32", "bf16", "fp8"] = "auto"
    # the same bits from the same run on the same machine; auto: on a CPU, where it costs nothing
    deterministic: bool | Literal["auto"] = "auto"
    # a model folder to go on from, in place of `model`
    init_from: str | None = None
    model: ModelSettings | None = None
    data: PretrainDataSettings
    train: TrainSettings
    optimizer: OptimizerSettings = OptimizerSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    parallel: ParallelSettings = ParallelSettings()
    # who else is told the figures of metrics.jsonl as they are written
    tracking: tuple[Tracking, ...] = (JsonlTracking(name="jsonl"),)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.model is None) == (self.init_from is None):
            raise ValueError("give exactly one of model and init_from")
        check_budget(self.train, self.scheduler)
        check_fp8_rows(self.precision, self.data.seq_len, "data.seq_len")
        return self


def run(
    config: PretrainConfig, console: Console, resume: str = "auto", allow_changed: Sequence[str] = ()
) -> dict[str, object]:
    """Trains and publishes `model/`; returns CLI.md's object with the untrained model's bits per byte.

    Raises:
        UsageError: the saved state belongs to another config.
        DataError: the tokens are missing, too few, changed since the start, or made by different tokenizers.
        DamagedError: a shard is not what was written; found at the start or, in its bytes, while the run goes on.
        StopRequested: a signal came; the state is saved.
    """
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.runtime.stop import StopSignals
    from llmforge.stages.pretrain_data import open_data
    from llmforge.stages.pretrain_recipe import model_config
    from llmforge.training.assemble import Resume, open_bench
    from llmforge.training.trackers import check_trackers

    data = open_data(config)
    shape = model_config(config, data.vocab_size)
    with (
        StopSignals(),
        open_bench(config.device, config.deterministic, console, config.parallel, config.output_dir) as bench,
    ):
        if bench.world.first:
            check_trackers(config.tracking)
        values = config.model_dump(mode="json")
        with (
            RunFolder.open(config.output_dir, "pretrain", values, passive=not bench.world.first) as folder,
            data.watching(bench.world.first),
            bench.world.explained(),
        ):
            start = Resume(resume, allow_changed)
            model, outcome, served = _train(config, data, shape, folder, bench, start)
            data.finish_check(folder, outcome.seconds, config.parallel.timeout_seconds)
            result = _result(outcome, shape, folder, data) | {"sources": served}
            folder.record(result=result)
            if bench.world.first:
                _publish(config, data, model, folder, result)
            bench.world.wait()
    console.result(_summary(result))
    return result


def _train(
    config: PretrainConfig, data: PretrainData, shape: ModelConfig, folder: RunFolder, bench: Bench, resume: Resume
) -> tuple[Transformer, TrainResult, dict[str, dict[str, object]]]:
    from llmforge.model.init import parameter_roles
    from llmforge.runtime.seeding import seed_everything
    from llmforge.stages.lighten import lighten
    from llmforge.stages.pretrain_data import make_validation
    from llmforge.stages.pretrain_recipe import completed
    from llmforge.stages.pretrain_samples import make_observers
    from llmforge.training.assemble import Job, Recipe, Trained, find_start, make_horizon, make_trainer
    from llmforge.training.objective import CausalLMObjective
    from llmforge.training.parallel import gathered
    from llmforge.training.profiling import traced
    from llmforge.training.trackers import tracking

    made = completed(config, shape, lambda: data.train_tokens)
    rows, seq_len = made.train.batch_rows(config.data.seq_len), config.data.seq_len
    batches = data.batches(config, rows)
    recipe = Recipe(made.train, made.optimizer, config.scheduler, config.parallel)
    horizon = make_horizon(recipe, rows, seq_len, batches.num_windows)
    for line in made.lines:
        bench.console.say(f"auto: {line}")
        folder.log(f"auto: {line}")
    for line in data.check_enough(config, batches, horizon.steps):
        bench.console.say(line)
        folder.log(line)
    served_batches = data.check.watched(batches)
    values = config.model_dump(mode="json")
    named, epoch = batches.documents, data.train_tokens
    job = Job(folder, recipe, values, data.digests, served_batches, horizon, seq_len, rows, named, epoch)
    start = find_start(job, bench, config.precision, resume, shape.flops_per_token(seq_len))
    seed_everything(config.seed)
    model = _build(config, shape, start.dtype)
    lighten(model, config.precision, config.parallel, bench)
    trained = Trained(CausalLMObjective(model), parameter_roles(model), shape.flops_per_token(seq_len))
    validation = make_validation(config, data, bench)
    build = partial(_build, config, shape, start.dtype)
    done = start.saved.step if start.saved else 0
    observers = make_observers(config, data, model, folder, done, build)
    profiled = config.train.profile_steps
    with tracking(config.tracking, folder, done), traced(profiled, folder, done, bench.console) as tracers:
        trainer = make_trainer(job, bench, start, trained, validation, [*observers, *tracers])
        with folder.phase("train"):
            outcome = trainer.train(start.saved)
    rows_served = batches.rows.served(outcome.steps + len(outcome.left_out), outcome.left_out)
    served = {entry.source: entry.as_json() for entry in rows_served}
    return gathered(model, build), outcome, served


def _build(config: PretrainConfig, shape: ModelConfig, dtype: Any) -> Transformer:
    from llmforge.checkpoint.model_folder import load_model
    from llmforge.model.init import initialize
    from llmforge.model.transformer import Transformer

    if config.init_from is not None:
        return load_model(config.init_from, "cpu", dtype)
    model = Transformer(shape, dtype)
    initialize(model, config.seed)
    return model


def _result(outcome: TrainResult, shape: ModelConfig, folder: RunFolder, data: PretrainData) -> dict[str, object]:
    from llmforge.stages.closing import closing_figures

    return {
        "state": "stopped early" if outcome.stopped_early else "finished",
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "train_loss": outcome.train_loss,
        "valid_loss": outcome.figures.get("valid_loss"),
        "valid_bits_per_byte": outcome.figures.get("valid_bits_per_byte"),
        "valid_bits_per_byte_by_source": outcome.figures.get("valid_bits_per_byte_by_source", {}),
        "untrained_bits_per_byte": outcome.untrained.get("valid_bits_per_byte"),
        "best_step": outcome.best_step,
        "parameters": shape.num_parameters,
        "epochs": round(outcome.tokens / max(1, data.train_tokens), 3),
        "compile_seconds": round(outcome.compile_seconds, 2),
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "seconds": round(outcome.seconds, 2),
        "model": str(folder.path / "model"),
        **closing_figures(outcome, folder.path, outcome.tokens / max(1, data.train_tokens)),
    }


def _publish(
    config: PretrainConfig, data: PretrainData, model: Transformer, folder: RunFolder, result: dict[str, object]
) -> None:
    """Writes the model folder beside its place and renames it."""
    from llmforge.checkpoint.model_folder import write_model_folder

    facts = {
        "made_by": "pretrain",
        "chat": False,
        **{key: result[key] for key in ("steps", "tokens", "train_loss", "valid_loss", "valid_bits_per_byte")},
    }
    temp = folder.temporary("model")
    try:
        tokenizer = data.tokenizer
        stop_ids = sorted(tokenizer.stop_ids)
        write_model_folder(temp, model, model.config, data.tokenizer_folder, facts=facts, stop_ids=stop_ids)
        folder.publish(temp, "model", made_from=data.digests, seeds={"seed": config.seed}, facts=facts)
    except BaseException:
        folder.discard(temp)
        raise


def _summary(result: dict[str, Any]) -> str:
    from llmforge.stages.closing import closing_lines, opening_lines

    lines = [*opening_lines(result), f"model: {result['model']} ({result['parameters']:,} parameters)"]
    lines.append(
        f"{result['steps']:,} steps, {result['tokens']:,} tokens ({result['epochs']} epochs) "
        f"in {duration(result['seconds'])}"
    )
    if result["valid_loss"] is not None:
        before, after = result["untrained_bits_per_byte"], result["valid_bits_per_byte"]
        bits = "" if before is None or after is None else f", {before:.3f} -> {after:.3f} bits a byte"
        lines.append(f"held-out loss {result['valid_loss']:.4f}{bits}")
    else:
        lines.append("no held-out loss: the tokens have no held-out text")
    if result["best_step"] is not None:
        lines.append(f"{result['state']}: weights of step {result['best_step']}, the best on held-out text")
    return "\n".join([*lines, *closing_lines(result)])


def preview(config: PretrainConfig) -> dict[str, object]:
    """What would be read and written; raises as `run` does when an input is not there."""
    from llmforge.stages.pretrain_data import train_splits
    from llmforge.stages.pretrain_recipe import completed, model_config
    from llmforge.tokens.folder import TokenFolder

    paths = [source.path for source in config.data.sources] + ([config.data.valid] if config.data.valid else [])
    folders = [TokenFolder.open(path) for path in paths]
    shape = model_config(config, folders[0].vocab_size)
    output = Path(config.output_dir)
    reads = [str(folder.path) for folder in folders] + ([config.init_from] if config.init_from else [])
    kept = max(2, config.train.keep_last) + 1  # a new one is whole before the oldest goes
    states = kept * _STATE_BYTES_A_PARAMETER * shape.num_parameters
    made = completed(config, shape, lambda: sum(split.num_tokens for split in train_splits(config, folders)))
    return {
        "reads": reads,
        "writes": [str(output / "model"), str(output / "checkpoints")],
        "bytes": 4 * shape.num_parameters + states,
        "parameters": shape.num_parameters,
        "auto": made.lines,
    }


def inputs_fingerprint(config: PretrainConfig) -> dict[str, str]:
    """The digests of the token folders, and of the model to go on from."""
    from llmforge.stages.pretrain_data import digests

    return digests(config)
