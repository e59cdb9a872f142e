"""A peer's side of the quality bench: one model, one rate, one budget of seconds, on the same ids as ours.

    python quality_peers.py JOB.json

The job names the peer, its model (`quality_shapes.PeerModel`), rate, seed, seconds, precision (bf16 or fp32) and a
folder with train.bin, valid.bin (uint16) and text.json. nanoGPT is its model.py and its optimizer in the step of its
train.py (random windows, autocast for bf16, compiled, clipped to 1, warm-up and cosine to a tenth); transformers is its
Trainer with a Llama and torch_compile, the same schedule. The seconds are those of training steps: a first short run
measures the pace, the second takes the steps that fit. Compiling and measuring are not counted. Prints one JSON object.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

IGNORED = -100
_PACED, _WARM = 16, 4  # steps that measure the pace, and how many of them come before it
_WARMUP = 100  # steps, or a tenth of a shorter run
Logits = Callable[[torch.Tensor], torch.Tensor]


class Text:
    """Ids of both splits, and what a valid split's bytes and symbols are."""

    def __init__(self, folder: Path) -> None:
        self.train = torch.from_numpy(np.fromfile(folder / "train.bin", dtype=np.uint16).astype(np.int64))
        self.valid = torch.from_numpy(np.fromfile(folder / "valid.bin", dtype=np.uint16).astype(np.int64))
        facts = json.loads((folder / "text.json").read_text(encoding="utf-8"))
        self.vocabulary, self.bos, self.bytes = facts["vocab_size"], facts["bos_id"], facts["valid_bytes"]
        pairs = folder / "pairs.json"
        self.pairs = json.loads(pairs.read_text(encoding="utf-8")) if pairs.exists() else []

    def windows(self, rows: int, length: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Random windows (B, T) and the ids that follow."""
        starts = torch.randint(0, len(self.train) - length - 1, (rows,), generator=generator).tolist()
        x = torch.stack([self.train[at : at + length] for at in starts])
        y = torch.stack([self.train[at + 1 : at + 1 + length] for at in starts])
        return x, y


@torch.no_grad()
def held_out(logits: Logits, text: Text, length: int) -> dict[str, float]:
    """Mean loss a token over the whole valid split, each predicted once in windows of T, and bits a byte."""
    total, count = 0.0, 0
    whole = text.valid
    usable = (len(whole) - 1) // length * length
    rows = [(whole[:usable].view(-1, length), whole[1 : usable + 1].view(-1, length))]
    if usable < len(whole) - 1:
        rows.append((whole[usable:-1][None], whole[usable + 1 :][None]))
    for x, y in (pair for xs, ys in rows for pair in zip(xs.split(32), ys.split(32), strict=True)):
        labels = y if text.bos is None else y.masked_fill(y == text.bos, IGNORED)
        values = logits(x).float().flatten(0, 1)
        total += float(torch.nn.functional.cross_entropy(values, labels.flatten(), reduction="sum"))
        count += int((labels != IGNORED).sum())
    return {"valid_loss": total / count, "valid_bits_per_byte": total / math.log(2) / text.bytes}


@torch.no_grad()
def pairs_right(logits: Logits, text: Text) -> float | None:
    """The share of minimal pairs whose first text has the higher total log probability; None without pairs."""
    if not text.pairs:
        return None
    order = sorted(range(2 * len(text.pairs)), key=lambda at: len(text.pairs[at // 2][at % 2]))
    scores = [0.0] * len(order)
    for start in range(0, len(order), 256):
        part = order[start : start + 256]
        rows = [torch.tensor(text.pairs[at // 2][at % 2]) for at in part]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0)
        labels = torch.nn.utils.rnn.pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=IGNORED)
        values = logits(ids[:, :-1]).float()
        losses = torch.nn.functional.cross_entropy(values.flatten(0, 1), labels.flatten(), reduction="none")
        for at, loss in zip(part, losses.view(labels.shape).sum(1).tolist(), strict=True):
            scores[at] = -loss
    return statistics.fmean(scores[2 * n] > scores[2 * n + 1] for n in range(len(text.pairs)))


def share(step: int, steps: int) -> float:
    """The share of the rate: up over the warm-up, then half a cosine down to a tenth."""
    warm = min(_WARMUP, max(1, steps // 10))
    if step < warm:
        return (step + 1) / warm
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def steps_that_fit(seconds: float, marks: list[float]) -> int:
    """How many steps of the median pace of these marks (seconds) fill a budget."""
    pace = [after - before for before, after in zip(marks, marks[1:], strict=False)][_WARM:]
    return max(1, int(seconds / statistics.median(pace)))


def nanogpt(job: dict[str, Any], text: Text) -> tuple[Logits, int, float]:
    """Trains nanoGPT's model; returns its logits, the steps and their seconds."""
    sys.path.insert(0, job["checkout"])
    from model import GPT, GPTConfig

    shape = job["model"]
    sizes = {"n_layer": shape["layers"], "n_head": shape["heads"], "n_embd": shape["width"]}
    config = GPTConfig(
        block_size=shape["length"], vocab_size=text.vocabulary, dropout=shape["dropout"], bias=False, **sizes
    )

    def trained(steps: int, generator: torch.Generator) -> tuple[Any, list[float]]:
        torch.manual_seed(job["seed"])
        model = GPT(config)
        optimizer = model.configure_optimizers(0.1, job["rate"], (0.9, 0.99), "cpu")
        compiled, marks = torch.compile(model), [time.perf_counter()]
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = job["rate"] * share(step, steps)
            with torch.amp.autocast("cpu", dtype=torch.bfloat16, enabled=job["precision"] == "bf16"):
                _, loss = compiled(*text.windows(shape["rows"], shape["length"], generator))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            marks.append(time.perf_counter())
        return model.eval(), marks

    generator = torch.Generator().manual_seed(job["seed"])
    steps = steps_that_fit(job["seconds"], trained(_PACED, generator)[1])
    model, marks = trained(steps, generator)

    def logits(x: torch.Tensor) -> torch.Tensor:
        whole = x.contiguous()
        # Without targets it answers for the last position only.
        values: torch.Tensor = model(whole, whole)[0]
        return values

    return logits, steps, marks[-1] - marks[0]


def transformers(job: dict[str, Any], text: Text) -> tuple[Logits, int, float]:
    """Trains a Llama by transformers' Trainer; returns its logits, the steps and their seconds."""
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments, set_seed

    shape = job["model"]
    config = LlamaConfig(
        vocab_size=text.vocabulary,
        hidden_size=shape["width"],
        intermediate_size=-(-shape["width"] * 8 // 3 // 64) * 64,
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        max_position_embeddings=shape["length"],
    )

    class Windows(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            generator = torch.Generator().manual_seed(job["seed"])
            while True:
                x, _ = text.windows(1, shape["length"], generator)
                yield {"input_ids": x[0], "labels": x[0]}

    def trained(steps: int, folder: str) -> tuple[Any, list[float]]:
        set_seed(job["seed"])
        model, marks = LlamaForCausalLM(config), [time.perf_counter()]

        class Marks(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
                marks.append(time.perf_counter())

        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=shape["rows"],
            max_steps=steps,
            learning_rate=job["rate"],
            weight_decay=0.1,
            adam_beta2=0.99,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": 0.1},
            warmup_steps=min(_WARMUP, max(1, steps // 10)),
            logging_steps=100,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            bf16=job["precision"] == "bf16",
            torch_compile=True,
            seed=job["seed"],
        )
        Trainer(model=model, args=arguments, train_dataset=Windows(), callbacks=[Marks()]).train()
        return model.eval(), marks

    with tempfile.TemporaryDirectory() as folder:
        steps = steps_that_fit(job["seconds"], trained(_PACED, folder)[1])
        model, marks = trained(steps, folder)
    return lambda x: model(input_ids=x).logits, steps, marks[-1] - marks[0]


def main() -> None:
    """Does the job and prints what came out, last line of standard output."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    text = Text(Path(job["text"]))
    train = {"nanogpt": nanogpt, "transformers": transformers}[job["peer"]]
    logits, steps, seconds = train(job, text)
    found: dict[str, Any] = held_out(logits, text, job["model"]["length"])
    accuracy = pairs_right(logits, text)
    found |= {"steps": steps, "seconds": round(seconds, 1), "rate": job["rate"], "seed": job["seed"]}
    found["tokens"] = steps * job["model"]["rows"] * job["model"]["length"]
    print(json.dumps(found | ({} if accuracy is None else {"blimp": accuracy})))


if __name__ == "__main__":
    main()
