"""`llmforge finetune`: a model folder and conversations in, a model folder that answers out, by the same trainer.

All weights are trained, or (lora) thin adapters beside them, which are then folded in; `adapter/` keeps them apart too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from llmforge.config.schema import Config
from llmforge.finetune.settings import ConversationData
from llmforge.model.lora_settings import LoraSettings
from llmforge.runtime.console import Console, duration
from llmforge.training.recipe import refuse_auto, with_blocks
from llmforge.training.settings import (
    OptimizerSettings,
    ParallelSettings,
    SchedulerSettings,
    TrainSettings,
    check_budget,
)
from llmforge.training.tracker_settings import JsonlTracking, Tracking

if TYPE_CHECKING:
    from llmforge.model.config import ModelConfig
    from llmforge.model.transformer import Transformer
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.stages.finetune_data import FinetuneData
    from llmforge.training.assemble import Bench, Resume
    from llmforge.training.loop_parts import TrainResult

ADAPTER = "adapter"
_STATE_BYTES_A_PARAMETER = 12  # weight and two averages, fp32
# Gradients of frozen matrices are not computed: two of the six operations a parameter and token fall away.
_LORA_FLOPS_SHARE = 2 / 3


class FinetuneOptimizer(OptimizerSettings):
    """As for pre-training, but AdamW at 3e-4 without decay where nothing is given: weights that are good stay near."""

    name: Literal["muon", "adamw"] = "adamw"

    @model_validator(mode="before")
    @classmethod
    def _gentle(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("name", "adamw") != "adamw":
            return values
        gentle = {"name": "adamw", "lr": 3e-4, "weight_decay": 0.0}
        return values | {key: value for key, value in gentle.items() if values.get(key) is None}


class FinetuneConfig(Config):
    """Which model learns from which conversations, and how it is trained."""

    output_dir: Annotated[str, Field(min_length=1)]
    # a model folder, a run folder, or a Hugging Face folder of a supported family
    base_model: Annotated[str, Field(min_length=1)]
    # full trains all weights, lora thin adapters beside frozen ones
    method: Literal["full", "lora"] = "full"
    lora: LoraSettings = LoraSettings()
    data: ConversationData
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    # what matrices are multiplied in; parameters stay fp32. auto measures on a CPU and takes the faster. fp8 (the extra
    # of that name) is for GPUs that have it and models from about 1B parameters on
    precision: Literal["auto", "fp32", "bf16", "fp8"] = "auto"
    # the same bits from the same run on the same machine; auto: on a CPU, where it costs nothing
    deterministic: bool | Literal["auto"] = "auto"
    train: TrainSettings
    optimizer: FinetuneOptimizer = FinetuneOptimizer()
    scheduler: SchedulerSettings = SchedulerSettings()
    parallel: ParallelSettings = ParallelSettings()
    # who else is told the figures of metrics.jsonl as they are written
    tracking: tuple[Tracking, ...] = (JsonlTracking(name="jsonl"),)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method == "full" and "lora" in self.model_fields_set and self.lora != LoraSettings():
            raise ValueError("lora is given but method is full: set method: lora, or leave lora out")
        if self.method == "lora" and self.parallel.tensor_parallel > 1:
            raise ValueError("parallel.tensor_parallel goes with method: full; adapters are thin enough without")
        if self.method == "lora" and self.precision == "fp8":
            raise ValueError("precision: fp8 is for method: full; with lora set bf16")
        if self.train.sample_every is not None:
            raise ValueError("train.sample_every is for pretrain only: leave it out")
        held_out = self.data.valid is not None or self.data.valid_fraction > 0
        if self.train.early_stopping is not None and not held_out:
            raise ValueError(
                "train.early_stopping needs held-out conversations: give data.valid or data.valid_fraction"
            )
        refuse_auto(self.train, self.optimizer)
        check_budget(self.train, self.scheduler)
        return self


def run(
    config: FinetuneConfig, console: Console, resume: str = "auto", allow_changed: Sequence[str] = ()
) -> dict[str, object]:
    """Trains and publishes `model/` (and `adapter/`); returns CLI.md's object.

    Raises:
        UsageError: the saved state belongs to another config, or rows would be longer than the model's context.
        DataError: a row that is no conversation, nothing to train on, no model, or changed data.
        StopRequested: a signal came; the state is saved.
    """
    from llmforge.checkpoint.model_folder import find_model, read_model_config
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.runtime.stop import StopSignals
    from llmforge.stages.finetune_data import open_data
    from llmforge.training.assemble import Resume, open_bench
    from llmforge.training.trackers import check_trackers

    base = find_model(config.base_model)
    shape = read_model_config(base)
    with (
        StopSignals() as stop,
        open_bench(config.device, config.deterministic, console, config.parallel, config.output_dir) as bench,
    ):
        if bench.world.first:
            check_trackers(config.tracking)
        values = config.model_dump(mode="json")
        with (
            RunFolder.open(config.output_dir, "finetune", values, passive=not bench.world.first) as folder,
            bench.world.explained(),
        ):
            with folder.phase("data"):
                data = open_data(config, base, shape, console)
            if bench.world.size == 1:  # several must leave together
                stop.check()
            model, outcome = _train(config, data, shape, folder, bench, Resume(resume, allow_changed))
            result = _result(config, data, outcome, shape, folder)
            folder.record(result=result)
            if bench.world.first:
                _publish(config, data, model, folder, result)
            bench.world.wait()
    console.result(_summary(result))
    return result


def _train(
    config: FinetuneConfig, data: FinetuneData, shape: ModelConfig, folder: RunFolder, bench: Bench, resume: Resume
) -> tuple[Transformer, TrainResult]:
    from llmforge.model.init import parameter_roles
    from llmforge.runtime.seeding import seed_everything
    from llmforge.stages.lighten import lighten
    from llmforge.training.assemble import Job, Recipe, Trained, find_start, make_horizon, make_trainer
    from llmforge.training.objective import CausalLMObjective
    from llmforge.training.parallel import gathered
    from llmforge.training.profiling import traced
    from llmforge.training.trackers import tracking

    batches = data.batches(config)
    rows, row_tokens = batches.batch_rows, batches.row_tokens
    if config.data.packing:
        bench.console.say(f"packed into {batches.num_rows:,} rows of {row_tokens} tokens, {batches.fill:.0%} full")
    optimizer = with_blocks(config.optimizer, shape.hidden_size, rows * row_tokens)
    recipe = Recipe(config.train, optimizer, config.scheduler, config.parallel)
    horizon = make_horizon(recipe, rows, row_tokens, batches.num_rows)
    values, epoch = config.model_dump(mode="json"), batches.num_rows * row_tokens
    job = Job(folder, recipe, values, data.digests, batches, horizon, row_tokens, rows, batches.documents, epoch)
    flops = shape.flops_per_token(row_tokens) * (_LORA_FLOPS_SHARE if config.method == "lora" else 1)
    start = find_start(job, bench, config.precision, resume, flops)
    seed_everything(config.seed)
    model = _build(config, start.dtype)
    lighten(model, config.precision, config.parallel, bench)
    trained = Trained(CausalLMObjective(model), parameter_roles(model), flops)
    measured = data.validation(config, bench)
    done = start.saved.step if start.saved else 0
    profiled = config.train.profile_steps
    with tracking(config.tracking, folder, done), traced(profiled, folder, done, bench.console) as tracers:
        trainer = make_trainer(job, bench, start, trained, None if measured is None else lambda: measured, tracers)
        with folder.phase("train"):
            outcome = trainer.train(start.saved)
    return gathered(model, lambda: _build(config, start.dtype)), outcome


def _build(config: FinetuneConfig, dtype: Any) -> Transformer:
    from llmforge.checkpoint.model_folder import load_model
    from llmforge.model.lora import add_lora

    model = load_model(config.base_model, "cpu", dtype)
    if config.method == "lora":
        add_lora(model, config.lora, config.seed)
    return model


def _result(
    config: FinetuneConfig, data: FinetuneData, outcome: TrainResult, shape: ModelConfig, folder: RunFolder
) -> dict[str, object]:
    from llmforge.stages.closing import closing_figures

    lora = config.method == "lora"
    return {
        "state": "stopped early" if outcome.stopped_early else "finished",
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "train_loss": outcome.train_loss,
        "valid_loss": outcome.figures.get("valid_loss"),
        "valid_bits_per_byte": outcome.figures.get("valid_bits_per_byte"),
        "base_valid_loss": outcome.untrained.get("valid_loss"),
        "best_step": outcome.best_step,
        "parameters": shape.num_parameters,
        "conversations": len(data.train),
        "cut": data.train.cut,
        "skipped": data.train.skipped,
        "compile_seconds": round(outcome.compile_seconds, 2),
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "seconds": round(outcome.seconds, 2),
        "model": str(folder.path / "model"),
        **({"adapter": str(folder.path / ADAPTER)} if lora else {}),
        **closing_figures(outcome, folder.path, outcome.epochs),
    }


def _publish(
    config: FinetuneConfig, data: FinetuneData, model: Transformer, folder: RunFolder, result: dict[str, object]
) -> None:
    """Writes the adapter and the model folder beside their places and renames them."""
    from llmforge.checkpoint.adapters import write_adapter
    from llmforge.checkpoint.model_folder import find_model, write_model_folder
    from llmforge.model.lora import merge_lora

    base = find_model(config.base_model)
    facts = {
        "made_by": "finetune",
        "chat": True,
        "method": config.method,
        **{key: result[key] for key in ("steps", "tokens", "train_loss", "valid_loss", "conversations")},
    }
    origin: dict[str, Any] = {"made_from": data.digests, "seeds": {"seed": config.seed}, "facts": facts}
    adapter, temp = folder.temporary(ADAPTER), folder.temporary("model")
    try:
        if config.method == "lora":
            write_adapter(adapter, model, config.lora, str(base))
            merge_lora(model)
            folder.publish(adapter, ADAPTER, **origin)
        stop_ids = sorted(data.tokenizer.stop_ids)
        write_model_folder(temp, model, model.config, base, facts=facts, stop_ids=stop_ids)
        data.keep_template(temp)
        folder.publish(temp, "model", **origin)
    finally:
        folder.discard(adapter)
        folder.discard(temp)


def _summary(result: dict[str, Any]) -> str:
    from llmforge.stages.closing import closing_lines, opening_lines

    lines = [*opening_lines(result), f"model: {result['model']} ({result['parameters']:,} parameters)"]
    lines += [f"adapter: {result['adapter']}"] if "adapter" in result else []
    lines.append(
        f"{result['steps']:,} steps over {result['conversations']:,} conversations in {duration(result['seconds'])}"
    )
    if result["valid_loss"] is not None:
        lines.append(f"held-out loss {result['base_valid_loss']:.4f} -> {result['valid_loss']:.4f} a trained token")
    else:
        lines.append("no held-out loss: no conversations are held out")
    if result["best_step"] is not None:
        lines.append(f"{result['state']}: weights of step {result['best_step']}, the best on held-out text")
    return "\n".join([*lines, *closing_lines(result)])


def preview(config: FinetuneConfig) -> dict[str, object]:
    """What would be read and written; raises as `run` does when an input is not there."""
    from llmforge.checkpoint.model_folder import find_model, read_model_config
    from llmforge.corpus.source_config import SourceConfig
    from llmforge.corpus.sources import check_source
    from llmforge.stages.finetune_data import checked_length

    base = find_model(config.base_model)
    shape = read_model_config(base)
    checked_length(config, shape)
    paths = [*config.data.train, *([config.data.valid] if config.data.valid else [])]
    for path in paths:
        check_source(SourceConfig.model_validate({"path": path}))
    output = Path(config.output_dir)
    kept = max(2, config.train.keep_last) + 1  # a new one is whole before the oldest goes
    trained = 0 if config.method == "lora" else shape.num_parameters
    return {
        "reads": [str(base), *paths],
        "writes": [str(output / "model"), *([str(output / ADAPTER)] if config.method == "lora" else [])],
        "bytes": 4 * shape.num_parameters + kept * _STATE_BYTES_A_PARAMETER * trained,
        "parameters": shape.num_parameters,
    }


def inputs_fingerprint(config: FinetuneConfig) -> dict[str, str]:
    """Digests of the base model and of the files of conversations."""
    from llmforge.corpus.source_config import SourceConfig
    from llmforge.corpus.sources import source_fingerprint
    from llmforge.inference.loading import fingerprint_of_model

    found = {"base_model": fingerprint_of_model(config.base_model)}
    for path in [*config.data.train, *([config.data.valid] if config.data.valid else [])]:
        found[path] = source_fingerprint(SourceConfig.model_validate({"path": path}))
    return found
