"""A tokens folder of made-up sentences and the config of a pre-training of seconds on it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from llmforge.corpus.document import Document
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import write_manifest
from llmforge.stages.pretrain import PretrainConfig, run
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.train import train_tokenizer
from llmforge.tokens.write import TokenWriter

WORDS = "the list of a value returns an item when it is called with no key and then the next one is read".split()


def write_tokens(folder: Path, documents: int = 60) -> Path:
    """Documents of 60 random words each, an eighth of them held out."""
    rng = random.Random(0)
    rows = [Document(f"d{n}", " ".join(rng.choices(WORDS, k=60)) + ".\n", "made", {}) for n in range(documents)]
    tokenizer = folder.parent / "tokenizer"
    tokenizer.mkdir()
    train_tokenizer([" ".join(WORDS)] * 20, tokenizer, TokenizerSettings(vocab_size=320))
    folder.mkdir()
    writer = TokenWriter(folder, tokenizer)
    writer.write_split("train", rows[documents // 8 :], 1, lambda done: None)
    writer.write_split("valid", rows[: documents // 8], 1, lambda done: None)
    writer.close()
    write_manifest(folder, "tokens", config={})
    return folder


def config(tokens: Path, output: Path, train: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A tiny model in fp32 on a CPU; `parts` are other top-level keys."""
    settings = {"micro_batch_size": 8, "log_every": 1, "save_every": None, "compile": False, **train}
    return {
        "output_dir": str(output),
        "device": "cpu",
        "precision": "fp32",
        "model": {"preset": "tiny", "hidden_size": 32},
        "data": {"sources": [{"name": "made", "path": str(tokens)}], "seq_len": 32},
        "train": settings,
        **parts,
    }


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """The command's --json object."""
    return run(PretrainConfig.model_validate(settings), Console(quiet=True, json=True))


def metrics(output: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
