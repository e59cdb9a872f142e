"""Folders that must not load: each gives one line that says what, where and what to do, and runs nothing."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmforge.checkpoint.model_folder import find_model, load_model, read_model_config, write_model_folder
from llmforge.errors import DamagedError, DataError, LlmforgeError
from llmforge.model.config import ModelConfig
from llmforge.model.init import initialize
from llmforge.model.transformer import Transformer
from llmforge.runtime.manifest import write_manifest

CONFIG = ModelConfig(
    vocab_size=31,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    intermediate_size=24,
    max_position_embeddings=32,
    qk_norm=False,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = Transformer(CONFIG)
    initialize(model, 0)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "model").mkdir()
    write_model_folder(tmp_path / "model", model, CONFIG, tmp_path / "tokenizer", facts={})
    return tmp_path / "model"


def config_with(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        keys = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**keys, **changes}))

    return change


def weights_with(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors = {name: value.clone() for name, value in tensors.items()}
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return rewrite


def index_with(entries: object) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": entries}))

    return rewrite


def outside(folder: Path) -> None:
    names = load_file(folder / "model.safetensors")
    index_with(dict.fromkeys(names, "../part.safetensors"))(folder)


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was read",))


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None  # type: ignore[func-returns-value]


NAN = float("nan")
NORM = "model.norm.weight"
CASES: dict[str, tuple[Callable[[Path], object], type[LlmforgeError], str]] = {
    "architecture": (config_with(architectures=["GPT2LMHeadModel"]), DataError, "not supported: GPT2LMHeadModel; give"),
    "no architecture": (config_with(architectures=None, model_type=None), DataError, "none named"),
    "activation": (config_with(hidden_act="gelu"), DataError, "hidden_act: gelu is not supported"),
    "mlp bias": (config_with(mlp_bias=True), DataError, "mlp_bias: True"),
    "quantised": (config_with(quantization_config={"bits": 4}), DataError, "quantization_config is not supported"),
    "rope": (config_with(rope_parameters={"rope_type": "yarn", "factor": 2}), DataError, "rope_type yarn"),
    "rope list": (config_with(rope_parameters=[1]), DataError, "rope_parameters"),
    "size missing": (config_with(hidden_size=None), DataError, "lacks hidden_size"),
    "size text": (config_with(hidden_size="wide"), DataError, "hidden_size"),
    "size huge": (config_with(vocab_size=2**63), DataError, "vocab_size"),
    "heads": (config_with(num_key_value_heads=3), DataError, "multiple of num_key_value_heads"),
    "heads zero": (config_with(num_attention_heads=0), DataError, "num_attention_heads"),
    "not json": (text("config.json", "{"), DataError, "is not JSON"),
    "deep json": (text("config.json", "[" * 100_000), DataError, "is not JSON"),
    "a list": (text("config.json", "[]"), DataError, "no JSON object"),
    "wider": (config_with(intermediate_size=25), DataError, "the config implies"),
    "deeper": (config_with(num_hidden_layers=2), DataError, "9 weights are missing: model.layers.1"),
    "tied": (weights_with(lambda weights: weights.pop("lm_head.weight")), DataError, "1 weights are missing: lm_head"),
    "unknown": (weights_with(lambda weights: weights.update(x=torch.ones(1))), DataError, "unknown to its config: x"),
    "nan": (weights_with(lambda weights: weights[NORM].fill_(NAN)), DamagedError, "model.norm.weight holds NaN"),
    "integers": (weights_with(lambda weights: weights.update({NORM: torch.ones(16).long()})), DataError, "as I64"),
    "truncated": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
        DamagedError,
        "cannot be read as safetensors",
    ),
    "empty": (lambda folder: (folder / "model.safetensors").write_bytes(b""), DamagedError, "cannot be read"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), DataError, "no weights"),
    "pickle": (only_pickle, DataError, "pickled .pytorch_model.bin., which can run code"),
    "index outside": (outside, DataError, "points outside the folder"),
    "index absolute": (index_with({NORM: "/etc/passwd"}), DataError, "points outside the folder"),
    "index of text": (index_with("no"), DataError, "has no weight_map"),
    "index to nothing": (index_with({NORM: "gone.safetensors"}), DataError, "is missing"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(case: str, folder: Path) -> None:
    damage, kind, message = CASES[case]
    damage(folder)
    with pytest.raises(kind) as caught:
        load_model(folder)
    line = str(caught.value)
    assert message.replace(".pytorch_model.bin.", "(pytorch_model.bin)") in line
    assert str(folder) in line and "\n" not in line


def test_a_pipe_for_an_index_is_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors.index.json")
    with pytest.raises(DataError, match="no weights"):
        load_model(folder)


def test_code_in_the_folder_is_not_run(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text("raise SystemExit('code was run')")
    before = load_model(folder).state_dict()
    config_with(auto_map={"AutoModelForCausalLM": "modeling_evil.Model"})(folder)
    after = load_model(folder).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert "modeling_evil" not in sys.modules


def test_manifest_sizes_are_checked(folder: Path) -> None:
    write_manifest(folder, "model", config={})
    load_model(folder)
    (folder / "tokenizer.model").write_bytes(b"")
    load_model(folder)
    with (folder / "model.safetensors").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DamagedError, match="bytes"):
        load_model(folder)


def test_no_model(tmp_path: Path, folder: Path) -> None:
    assert find_model(tmp_path) == folder
    assert read_model_config(tmp_path) == CONFIG
    with pytest.raises(DataError, match="no such folder"):
        find_model(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no config.json"):
        find_model(tmp_path / "tokenizer")


def test_a_pipeline_s_folder_names_the_models_in_it(tmp_path: Path) -> None:
    for name in ("pretrain", "finetune"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_text("{}")
    with pytest.raises(DataError) as caught:
        find_model(tmp_path)
    assert caught.value.hint == f"there is one in {tmp_path / 'finetune'} and in {tmp_path / 'pretrain'}"


def test_a_diverged_model_is_not_written(tmp_path: Path) -> None:
    model = Transformer(CONFIG)
    with torch.no_grad():
        model.norm.weight[0] = NAN
    with pytest.raises(DataError, match="diverged"):
        write_model_folder(tmp_path, model, CONFIG, tmp_path, facts={})
    assert list(tmp_path.iterdir()) == []
