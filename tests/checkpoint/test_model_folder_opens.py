"""Folders that we write open in transformers with nothing missing and the same logits, and come back as they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import llmforge
from llmforge.checkpoint.model_folder import load_model, read_facts, read_model_config, write_model_folder
from llmforge.model.config import ModelConfig, RopeScaling
from llmforge.model.transformer import Transformer

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 80,
    "max_position_embeddings": 64,
}
LLAMA3 = RopeScaling(rope_type="llama3", factor=8.0, original_max_position_embeddings=16)
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "qwen3-untied": ("Qwen3ForCausalLM", {"qk_norm": True, "tie_word_embeddings": False}),
    "qwen3-tied": ("Qwen3ForCausalLM", {"qk_norm": True, "tie_word_embeddings": True}),
    "qwen3-window": ("Qwen3ForCausalLM", {"sliding_window": 5, "max_window_layers": 1}),
    "qwen3-biased": ("Qwen3ForCausalLM", {"attention_bias": True, "attention_output_bias": True}),
    "llama-untied": ("LlamaForCausalLM", {"qk_norm": False, "tie_word_embeddings": False, "rope_theta": 500.0}),
    "llama-tied": ("LlamaForCausalLM", {"qk_norm": False, "tie_word_embeddings": True}),
    "llama-rope": ("LlamaForCausalLM", {"qk_norm": False, "rope_scaling": LLAMA3}),
    "llama-linear": ("LlamaForCausalLM", {"qk_norm": False, "rope_scaling": RopeScaling(rope_type="linear", factor=2)}),
    "qwen2": ("Qwen2ForCausalLM", {"qk_norm": False, "attention_bias": True, "head_dim": 12}),
    "qwen2-head-dim": ("Qwen2ForCausalLM", {"qk_norm": False, "attention_bias": True, "sliding_window": 4}),
    "qwen3-odd-heads": ("Qwen3ForCausalLM", {"num_attention_heads": 5, "num_key_value_heads": 5}),
    "mistral": ("MistralForCausalLM", {"qk_norm": False, "sliding_window": 6}),
}


def random_model(config: ModelConfig) -> Transformer:
    torch.manual_seed(1)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model


def tokenizer_folder(path: Path) -> Path:
    path.mkdir()
    (path / "tokenizer.model").write_bytes(b"sentencepiece")
    (path / "manifest.json").write_text("{}")
    (path / "config.json").write_text("{}")
    (path / "weights.safetensors").write_bytes(b"x")
    special = [{"id": 1, "content": "<s>"}, {"id": 3, "content": "<pad>"}]
    (path / "tokenizer.json").write_text(json.dumps({"added_tokens": special}))
    (path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "pad_token": {"content": "<pad>"}}))
    return path


@pytest.mark.parametrize("case", CASES)
def test_folder_opens_in_transformers(case: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    architecture, switches = CASES[case]
    config = ModelConfig.model_validate({**SHAPE, **switches})
    model = random_model(config)
    folder = tmp_path / "model"
    folder.mkdir()
    write_model_folder(folder, model, config, tokenizer_folder(tmp_path / "t"), facts={"steps": 3}, stop_ids=[8, 2])
    reference, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert type(reference).__name__ == architecture
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert reference.generation_config.eos_token_id == [2, 8]
    assert (reference.config.bos_token_id, reference.config.pad_token_id) == (1, 3)
    ids = torch.randint(0, 97, (2, 30))
    with torch.no_grad():
        ours = model.head(model(ids))
        assert (ours - reference(ids).logits).abs().max() < 1e-5
    again = load_model(folder)
    assert again.config == config == read_model_config(folder)
    with torch.no_grad():
        assert torch.equal(again.head(again(ids)), ours)
    assert read_facts(folder)["steps"] == 3
    assert not (folder / "manifest.json").exists() and not (folder / "weights.safetensors").exists()
    assert (folder / "tokenizer.model").read_bytes() == b"sentencepiece"
    assert "| steps | 3 |" in (folder / "README.md").read_text()


def test_transformers_folder_loads_here(tmp_path: Path) -> None:
    """What transformers itself saves, in shards, is a model folder too."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {key: value for key, value in SHAPE.items() if key != "head_dim"}
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval()
    reference.save_pretrained(tmp_path, max_shard_size="40KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    ours = load_model(tmp_path)
    ids = torch.randint(0, 97, (2, 30))
    with torch.no_grad():
        assert (ours.head(ours(ids)) - reference(ids).logits).abs().max() < 1e-5


def test_bf16_weights_are_written_and_read(tmp_path: Path) -> None:
    config = ModelConfig.model_validate(SHAPE)
    model = random_model(config).to(torch.bfloat16)
    folder = tmp_path / "model"
    folder.mkdir()
    write_model_folder(folder, model, config, tokenizer_folder(tmp_path / "t"), facts={})
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    again = load_model(folder, compute_dtype=torch.bfloat16)
    assert again.compute_dtype is torch.bfloat16
    for name, value in again.named_parameters():
        assert value.dtype is torch.float32
        assert torch.equal(value, model.get_parameter(name).float())


def test_config_is_read_without_torch(tmp_path: Path) -> None:
    config = ModelConfig.model_validate(SHAPE)
    folder = tmp_path / "model"
    folder.mkdir()
    write_model_folder(folder, random_model(config), config, tokenizer_folder(tmp_path / "t"), facts={})
    code = (
        "import sys; from llmforge.checkpoint.model_folder import read_model_config; "
        "print(read_model_config(sys.argv[1]).num_parameters, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    root = Path(llmforge.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, cwd=root
    )
    assert ran.stdout.split() == [str(config.num_parameters), "False", "False"]
