"""One side of the GPU bench trains one shape for some seconds, in a process of its own; prints one JSON object.

    python gpu_sides.py SIDE SHAPE SECONDS DEVICE

SIDE of llmforge, llmforge_fp8, transformers, litgpt. Ours is the Trainer that the command uses (Muon, clipping, a line
of metrics every ten steps); transformers' Trainer and litgpt's `pretrain` run as they are, in bf16, compiled, with the
fused AdamW. Every side gets random ids and halves its rows until they fit. Rates are medians of the steps after the
first twenty (after two on a CPU).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from gpu_shapes import SHAPES, Shape  # noqa: E402
from pretrain_watch import peak_memory_bytes  # noqa: E402

_RATE = 1e-4
_LEAST = 3  # steps that are timed at least


class Enough(Exception):
    """Ends a peer's loop."""


class Watch:
    """Times steps by the device's clock; `done()` after each one says when there are enough."""

    def __init__(self, seconds: float, device: str) -> None:
        self.seconds, self.device, self.marks = seconds, device, [time.perf_counter()]
        self.warm = 20 if device == "cuda" else 2

    def start(self) -> None:
        """The steps begin now."""
        self.marks[:] = [time.perf_counter()]

    def done(self) -> bool:
        """Marks the end of a step."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())
        counted = len(self.marks) - 1 - self.warm
        return counted >= _LEAST and self.marks[-1] - self.marks[self.warm] >= self.seconds

    def result(self, tokens: int) -> dict[str, Any]:
        """Tokens a second, memory, and what the first step took beyond a usual one."""
        times = [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]
        usual = statistics.median(times[self.warm :])
        return {"tokens_per_second": tokens / usual, "first_step_seconds": times[0] - usual, "steps": len(times)}


def _memory(device: str) -> int:
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    return peak_memory_bytes()


def llmforge(shape: Shape, watch: Watch, rows: int, fp8: bool = False) -> dict[str, Any]:
    """Our Trainer and our model of this shape, by the parts that the command puts together."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import torch

    from llmforge.model.checkpointing import recompute
    from llmforge.model.config import ModelConfig
    from llmforge.model.fp8 import to_fp8
    from llmforge.model.init import initialize, parameter_roles
    from llmforge.model.transformer import Transformer
    from llmforge.runtime.console import Console
    from llmforge.runtime.distributed import World
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.tokens.batch import Batch
    from llmforge.training.assemble import Bench, Job, Recipe, Start, Trained, make_horizon, make_trainer
    from llmforge.training.objective import CausalLMObjective
    from llmforge.training.settings import OptimizerSettings, ParallelSettings, SchedulerSettings, TrainSettings

    config = ModelConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        head_dim=shape.head_dim,
        intermediate_size=shape.mlp,
        max_position_embeddings=shape.length,
    )
    model = Transformer(config, torch.bfloat16)
    initialize(model, 0)
    recompute(model, shape.checkpointing)  # type: ignore[arg-type]
    if fp8:
        to_fp8(model)
    ids = torch.randint(0, shape.vocabulary, (64 * rows, shape.length + 1))

    def batches(step: int) -> Batch:
        part = ids[step % 64 * rows :][:rows]
        return Batch(part[:, :-1].contiguous(), part[:, 1:].contiguous())

    def watched(_: object) -> None:
        if watch.done():
            raise Enough

    recipe = Recipe(
        TrainSettings(max_steps=10**6, micro_batch_size=rows, max_grad_norm=1.0, save_every=None),
        OptimizerSettings.model_validate({"name": "muon"}),
        SchedulerSettings(name="constant"),
        ParallelSettings(),
    )
    with tempfile.TemporaryDirectory() as place, RunFolder.open(Path(place) / "run", "pretrain", {}) as run:
        horizon = make_horizon(recipe, rows, shape.length, len(ids))
        job = Job(run, recipe, {}, {}, batches, horizon, shape.length, rows)
        bench = Bench(
            World(), torch.device(watch.device, 0) if watch.device == "cuda" else torch.device("cpu"), Console()
        )
        start = Start(None, torch.bfloat16, watch.device == "cuda")
        trained = Trained(CausalLMObjective(model), parameter_roles(model), shape.flops_per_token)
        trainer = make_trainer(job, bench, start, trained, None, [watched])
        watch.start()
        try:
            trainer.train()
        except Enough:
            pass
        # a step always takes `rows` rows; after a shortage it takes them in parts
        at_once = trainer.progress.micro_batch_size or rows
    parameters = sum(value.numel() for value in model.parameters())
    return watch.result(rows * shape.length) | {"rows": at_once, "parameters": parameters}


def llmforge_fp8(shape: Shape, watch: Watch, rows: int) -> dict[str, Any]:
    """The same with the layers' products in fp8."""
    return llmforge(shape, watch, rows, fp8=True)


def transformers(shape: Shape, watch: Watch, rows: int) -> dict[str, Any]:
    """A Llama of the shape under transformers' Trainer: bf16, compiled, fused AdamW, clipping as it does by itself."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.mlp,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.groups,
            head_dim=shape.head_dim,
            max_position_embeddings=shape.length,
            tie_word_embeddings=False,
            use_cache=False,
        )
    )
    ids = torch.randint(0, shape.vocabulary, (64 * rows, shape.length))

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            watch.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            control.should_training_stop = watch.done()

    class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(ids)

        def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
            return {"input_ids": ids[at], "labels": ids[at]}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=rows,
            max_steps=10**6,
            learning_rate=_RATE,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=True,
            torch_compile=watch.device == "cuda",
            optim="adamw_torch_fused",
            use_cpu=watch.device == "cpu",
            gradient_checkpointing=shape.checkpointing == "full",
            dataloader_pin_memory=watch.device == "cuda",
            dataloader_num_workers=2 if watch.device == "cuda" else 0,
        )
        Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[Stop()]).train()
    parameters = sum(value.numel() for value in model.parameters())
    return watch.result(rows * shape.length) | {"rows": rows, "parameters": parameters}


def litgpt(shape: Shape, watch: Watch, rows: int) -> dict[str, Any]:
    """`litgpt pretrain` of a Llama of the shape, bf16-mixed as its recipes have it; it compiles and clips by itself."""
    import torch
    from litgpt import pretrain
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import DataModule
    from litgpt.model import GPT, Config

    ids = torch.randint(0, shape.vocabulary, (64 * rows, shape.length + 1))

    class Batches(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        """Whole batches; being asked for the next one is the end of a step."""

        def __init__(self, watched: bool) -> None:
            self.watched = watched

        def __iter__(self) -> Any:
            for number in range(10**6):
                if self.watched and number == 0:
                    watch.start()
                elif self.watched and watch.done():
                    raise Enough
                yield ids[number % 64 * rows :][:rows]

    class Data(DataModule):  # type: ignore[misc]
        def connect(self, **given: Any) -> None:
            """Needs nothing."""

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(Batches(True), batch_size=None)

        def val_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(Batches(False), batch_size=None)

    config = Config(
        name="bench",
        block_size=shape.length,
        vocab_size=shape.vocabulary,
        padded_vocab_size=shape.vocabulary,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_query_groups=shape.groups,
        head_size=shape.head_dim,
        n_embd=shape.width,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=shape.mlp,
    )
    train = TrainArgs(
        save_interval=None,
        log_interval=10,
        global_batch_size=rows,
        micro_batch_size=rows,
        max_tokens=10**12,
        max_norm=1.0,
        lr_warmup_steps=20,
        tie_embeddings=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            pretrain.setup(
                "bench",
                config,
                out_dir=Path(folder),
                precision="bf16-mixed",
                data=Data(),
                train=train,
                eval=EvalArgs(interval=10**9, max_iters=1, final_validation=False, initial_validation=False),
                devices=1,
                logger_name="csv",
            )
        except Enough:
            pass
    with torch.device("meta"):
        parameters = sum(value.numel() for value in GPT(config).parameters())
    return watch.result(rows * shape.length) | {"rows": rows, "parameters": parameters}


SIDES: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function for function in (llmforge, llmforge_fp8, transformers, litgpt)
}


def main() -> None:
    """One run of one side; a peer that runs out of memory says so, and is started anew with half the rows."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side, name, seconds, device, rows = sys.argv[1:]
    import torch

    torch.set_float32_matmul_precision("high")
    try:
        found = SIDES[side](SHAPES[name], Watch(float(seconds), device), int(rows))
        found["peak_memory_bytes"] = _memory(device)
    except torch.OutOfMemoryError:
        found = {"out_of_memory": True}
    print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
