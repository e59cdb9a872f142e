"""The peers' side of the training bench, in environments of their own: each trains a GPT or Llama of the shape.

    python pretrain_peers.py PEER SHAPE SECONDS PRECISION [CHECKOUT]

PEER of transformers, transformers_compiled, litgpt, nanogpt, nanochat; PRECISION of bf16, fp32 (transformers' defaults
are fp32 anyway). transformers' Trainer and litgpt's `pretrain` are run as they are. nanoGPT and nanochat are a model
and an optimizer with a script around them, so their part here is the script's own step (compiled, clipped where they
clip) on random ids. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from pretrain_shapes import SHAPES, Shape  # noqa: E402
from pretrain_watch import Watch  # noqa: E402

_RATE = 1e-3


def _count(model: Any) -> int:
    return sum(value.numel() for value in model.parameters())


def transformers(shape: Shape, watch: Watch, precision: str, better: bool = False) -> int:
    """A Llama under transformers' Trainer: by its defaults (fp32), or compiled in the precision."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.length,
    )
    model = LlamaForCausalLM(config)
    ids = torch.randint(0, shape.vocabulary, (512, shape.length))
    rows = [{"input_ids": row, "labels": row} for row in ids]

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            control.should_training_stop = watch.done()

    class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
            return rows[at]

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=shape.rows,
            max_steps=1_000_000,
            learning_rate=_RATE,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            **({"bf16": precision == "bf16", "torch_compile": True} if better else {}),
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[Stop()])
        watch.begin()
        trainer.train()
    return _count(model)


def transformers_compiled(shape: Shape, watch: Watch, precision: str) -> int:
    """The Trainer at its best here."""
    return transformers(shape, watch, precision, better=True)


def nanogpt(shape: Shape, watch: Watch, precision: str, checkout: str) -> int:
    """nanoGPT's model and optimizer in the step of its train.py, compiled, in bf16 by autocast."""
    import torch

    sys.path.insert(0, checkout)
    from model import GPT, GPTConfig

    config = GPTConfig(
        block_size=shape.length,
        vocab_size=shape.vocabulary,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.width,
        dropout=0.0,
        bias=False,
    )
    model = GPT(config)
    optimizer = model.configure_optimizers(0.1, _RATE, (0.9, 0.95), "cpu")
    compiled = torch.compile(model)

    def step(x: Any, y: Any) -> None:
        with torch.amp.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            _, loss = compiled(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    _loop(shape, watch, step)
    return _count(model)


def nanochat(shape: Shape, watch: Watch, precision: str, checkout: str) -> int:
    """nanochat's model and its Muon with AdamW in the step of its base_train.py, in its own bf16 or fp32, compiled."""
    os.environ["NANOCHAT_DTYPE"] = {"bf16": "bfloat16", "fp32": "float32"}[precision]
    sys.path.insert(0, checkout)
    import torch
    from nanochat.gpt import GPT, GPTConfig

    with torch.device("meta"):
        model = GPT(
            GPTConfig(
                sequence_len=shape.length,
                vocab_size=shape.vocabulary,
                n_layer=shape.layers,
                n_head=shape.heads,
                n_kv_head=shape.heads,
                n_embd=shape.width,
                window_pattern="L",
            )
        )
    model.to_empty(device="cpu")
    model.init_weights()
    optimizer = model.setup_optimizer()
    compiled = torch.compile(model, dynamic=False)

    def step(x: Any, y: Any) -> None:
        loss = compiled(x, y)
        loss.backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)
        loss.item()

    _loop(shape, watch, step)
    return _count(model)


def _loop(shape: Shape, watch: Watch, step: Callable[[Any, Any], None]) -> None:
    import torch

    ids = torch.randint(0, shape.vocabulary, (200_000,))
    watch.begin()
    while True:
        starts = torch.randint(0, len(ids) - shape.length - 1, (shape.rows,)).tolist()
        x = torch.stack([ids[at : at + shape.length] for at in starts])
        y = torch.stack([ids[at + 1 : at + 1 + shape.length] for at in starts])
        step(x, y)
        if watch.done():
            return


class _Enough(Exception):
    """Ends litgpt's loop from its data."""


def litgpt(shape: Shape, watch: Watch, precision: str) -> int:
    """`litgpt pretrain` in bf16-true or 32-true, its loop compiles, clips and logs by itself; a Llama of the shape."""
    import lightning
    import torch
    from litgpt import pretrain
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import DataModule
    from litgpt.model import GPT, Config

    lightning.fabric.utilities.rank_zero.rank_zero_only.rank = 0
    rows = torch.randint(0, shape.vocabulary, (512, shape.length + 1))

    class Batches(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        """Whole batches: being asked for the next one is the end of a step."""

        def __init__(self, watched: bool) -> None:
            self.watched = watched

        def __iter__(self) -> Any:
            for number in range(1_000_000):
                if self.watched and number == 0:
                    watch.begin()
                elif self.watched and watch.done():
                    raise _Enough
                first = number * shape.rows % (len(rows) - shape.rows)
                yield rows[first : first + shape.rows]

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
        log_interval=1,
        global_batch_size=shape.rows,
        micro_batch_size=shape.rows,
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
                precision={"bf16": "bf16-true", "fp32": "32-true"}[precision],
                data=Data(),
                train=train,
                eval=EvalArgs(interval=10**9, max_iters=1, final_validation=False),
                devices=1,
                logger_name="csv",
            )
        except _Enough:
            pass
    return _count(GPT(config))


PEERS: dict[str, Callable[..., int]] = {
    function.__name__: function for function in (transformers, transformers_compiled, litgpt, nanogpt, nanochat)
}


def main() -> None:
    """One run of one peer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, shape, seconds, precision, *checkout = sys.argv[1:]
    watch = Watch(float(seconds))
    parameters = PEERS[name](SHAPES[shape], watch, precision, *checkout)
    print(json.dumps(watch.result(SHAPES[shape], parameters)), file=answers, flush=True)


if __name__ == "__main__":
    main()
