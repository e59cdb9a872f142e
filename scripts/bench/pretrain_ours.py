"""llmforge's side of the training bench: its own command, on tokens made for a shape."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

from pretrain_shapes import SHAPES, Shape  # noqa: E402
from pretrain_watch import Watch  # noqa: E402

_TRAIN, _VALID = 400_000, 20_000  # tokens
FIRST_STEPS = 16  # of the run that shows how many fit


def make_tokens(folder: Path, shape: Shape) -> Path:
    """A tokens folder of random ids, with a vocabulary of exactly the shape's size (a Hugging Face one: a word an id).

    What the ids are changes nothing in the time of a step.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    from llmforge.corpus.document import Document
    from llmforge.runtime.manifest import write_manifest
    from llmforge.tokens.write import TokenWriter

    words = {f"w{number}": number for number in range(shape.vocabulary)}
    library = Tokenizer(WordLevel(words, unk_token="w0"))
    library.pre_tokenizer = WhitespaceSplit()
    tokenizer, tokens = folder / "tokenizer", folder / "tokens"
    tokenizer.mkdir(parents=True)
    library.save(str(tokenizer / "tokenizer.json"))
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"eos_token": "w0"}))
    tokens.mkdir()
    writer, chooser = TokenWriter(tokens, tokenizer), random.Random(0)
    for split, count in (("train", _TRAIN), ("valid", _VALID)):
        text = " ".join(f"w{chooser.randrange(1, shape.vocabulary)}" for _ in range(count))
        writer.write_split(split, [Document(split, text, "made")], 1, lambda _: None)
    writer.close()
    write_manifest(tokens, "tokens", config={})
    return tokens


def settings(shape: Shape, tokens: Path, output: Path, optimizer: str, steps: int) -> dict[str, Any]:
    """A config as a user has it: logging, clipping, validation, a state at the end; compiled as a long run would be."""
    every = max(1, min(10, steps // 5))
    return {
        "output_dir": str(output),
        "model": {
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.width,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.mlp,
        },
        "data": {"sources": [{"name": "made", "path": str(tokens)}], "seq_len": shape.length},
        "train": {
            "micro_batch_size": shape.rows,
            "max_steps": steps,
            "max_grad_norm": 1.0,
            "log_every": every,
            "eval_every": max(every, steps // 2),
            "eval_tokens": 8192,
            "compile": True,
        },
        "optimizer": {"name": "muon", "block_rows": 0} if optimizer == "muon_whole" else {"name": optimizer},
    }


def run(config: dict[str, Any], shape: str, environment: dict[str, str]) -> dict[str, Any]:
    """`llmforge pretrain` of a config in a process of its own -> what a `Watch` saw of its steps."""
    output = Path(config["output_dir"])
    path = output.with_suffix(".json")
    path.write_text(json.dumps(config))
    command = [sys.executable, str(Path(__file__)), shape, str(path)]
    own = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=own, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"llmforge pretrain ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def told_by(config: str) -> dict[str, Any]:
    """The JSON answer of `llmforge pretrain`, run in this process."""
    from llmforge import cli

    answer = io.StringIO()
    sys.argv[:] = ["llmforge", "pretrain", "--config", config, "--json", "--quiet"]
    with contextlib.redirect_stdout(answer):
        try:
            cli.main()
        except SystemExit as end:
            if end.code:
                raise
    told: dict[str, Any] = json.loads(answer.getvalue())
    return told


def watched(shape: str, config: str) -> dict[str, Any]:
    """The command itself, with a look at the clocks at the end of every step: its own log knows no processor time."""
    from llmforge.training import metrics

    watch, ends, begins = Watch(0.0), metrics.Clock.step_ends, metrics.Clock.step_begins

    def step_begins(clock: metrics.Clock) -> None:
        if clock.steps == 0:
            watch.begin()
        begins(clock)

    def step_ends(clock: metrics.Clock) -> None:
        ends(clock)
        watch.done()

    metrics.Clock.step_begins, metrics.Clock.step_ends = step_begins, step_ends  # type: ignore[method-assign]
    told = told_by(config)
    return watch.result(SHAPES[shape], told["parameters"]) | {"logged_tokens_per_second": told["tokens_per_second"]}


if __name__ == "__main__":
    print(json.dumps(watched(*sys.argv[1:])))
