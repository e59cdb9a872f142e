"""`pretrain` from one number, and with what is against learning by heart: dropout, averaging, early stopping."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from llmforge.config.load import load_config
from llmforge.corpus.document import Document
from llmforge.runtime.console import Console
from llmforge.runtime.files import digest_file
from llmforge.runtime.manifest import write_manifest
from llmforge.stages.pretrain import PretrainConfig, preview, run
from llmforge.stages.trace_run import open_run
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.train import train_tokenizer
from llmforge.tokens.write import TokenWriter

ROOT = Path(__file__).parents[2]
WORDS = "the list of a value returns an item when it is called with no key and then the next one is read".split()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokens folder of characters: what the character recipes read."""
    place, rng = tmp_path_factory.mktemp("recipe"), random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=80)) + ".\n" for _ in range(30)]
    train_tokenizer(texts, place / "tokenizer", TokenizerSettings(model_type="char"))
    writer = TokenWriter(place / "tokens", place / "tokenizer")
    rows = [Document(f"d{n}", text, "made", {}) for n, text in enumerate(texts)]
    writer.write_split("train", rows[3:], 1, lambda _: None)
    writer.write_split("valid", rows[:3], 1, lambda _: None)
    writer.close()
    write_manifest(place / "tokens", "tokens", config={})
    return place / "tokens"


def train(tokens: Path, output: Path, **keys: Any) -> dict[str, Any]:
    config = {
        "output_dir": str(output),
        "device": "cpu",
        "precision": "fp32",
        "model": {"preset": "tiny", "hidden_size": 32, "num_hidden_layers": 2},
        "data": {"sources": [{"path": str(tokens)}], "seq_len": 32},
        **keys,
    }
    return run(PretrainConfig.model_validate(config), Console(quiet=True, json=True))


def weights(output: Path) -> str:
    return digest_file(output / "model" / "model.safetensors")


CAREFUL = {
    "micro_batch_size": 4,
    "max_steps": 12,
    "eval_every": 4,
    "save_every": 5,
    "keep_last": 5,
    "early_stopping": {"patience": 5},
    "dropout": 0.2,
    "average": {"decay": 0.5},
}


@pytest.fixture(scope="module")
def careful(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("careful") / "run"
    return output, train(tokens, output, train=CAREFUL)


def test_a_careful_run_goes_on_bit_for_bit(careful: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path) -> None:
    """Dropout's generator, the average and the best weights all come back with the state of step 5."""
    output, result = careful
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    for step in (10, 12):
        shutil.rmtree(copy / "checkpoints" / f"step-{step}")
    again = train(tokens, copy, train=CAREFUL)
    assert weights(copy) == weights(output) and again["valid_loss"] == result["valid_loss"]


def test_dropout_acts_in_training_only(careful: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path) -> None:
    plain = train(tokens, tmp_path / "plain", train={**CAREFUL, "dropout": 0.0})
    assert weights(tmp_path / "plain") != weights(careful[0])
    same = [result["untrained_bits_per_byte"] for result in (plain, careful[1])]
    assert same[0] == same[1]
    config = json.loads((careful[0] / "model" / "config.json").read_text())
    assert not any("dropout" in key for key in config)


def test_a_model_of_characters_opens_in_transformers(careful: tuple[Path, dict[str, Any]]) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from llmforge.checkpoint.model_folder import load_model

    folder = careful[0] / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    ids = tokenizer("the value is read", return_tensors="pt")["input_ids"]
    assert ids.shape[1] == len("the value is read") + 1
    theirs, ours = transformers.AutoModelForCausalLM.from_pretrained(str(folder)), load_model(folder)
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, ours.eval().head(ours(ids)), rtol=1e-4, atol=1e-4)


def one_number(tokens: Path, output: Path, **train: Any) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "output_dir": str(output),
            "device": "cpu",
            "model": {"depth": 1},
            "data": {"sources": [{"path": str(tokens)}], "seq_len": 32},
            "train": {"global_batch_tokens": "auto", **train},
            "optimizer": {"lr": "auto"},
        }
    )


def test_a_dry_run_says_what_auto_is(tokens: Path, tmp_path: Path) -> None:
    facts = preview(one_number(tokens, tmp_path / "run", max_tokens="auto"))
    size = facts["parameters"]
    assert isinstance(size, int)
    chosen = dict(str(line).split("=") for line in facts["auto"])  # type: ignore[attr-defined]
    assert set(chosen) == {"train.max_tokens", "train.global_batch_tokens", "optimizer.lr", "optimizer.block_rows"}
    assert chosen["optimizer.lr"] == "0.04" and int(chosen["train.global_batch_tokens"].replace(",", "")) % 32 == 0


def test_what_was_said_is_what_is_trained_and_traced(tokens: Path, tmp_path: Path) -> None:
    config = one_number(tokens, tmp_path / "run", max_steps=3)
    chosen = dict(str(line).split("=") for line in preview(config)["auto"])  # type: ignore[attr-defined]
    result = run(config, Console(quiet=True, json=True))
    batch = int(chosen["train.global_batch_tokens"].replace(",", ""))
    assert result["steps"] == 3 and result["tokens"] == 3 * batch
    assert open_run(tmp_path / "run").rows.batch_rows * 32 == batch
    assert f"auto: train.global_batch_tokens={batch:,}" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "pretrain").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_load(path: Path) -> None:
    assert load_config(PretrainConfig, path, []).config.output_dir.startswith("runs/")
