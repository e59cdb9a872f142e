"""Adapters: they start as nothing, train alone, merge into the same answer, and open in peft."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from llmforge.checkpoint.adapters import load_adapter, write_adapter
from llmforge.checkpoint.model_folder import write_model_folder
from llmforge.errors import DataError
from llmforge.model.config import ModelConfig
from llmforge.model.lora import LoraLinear, add_lora, lora_parameters, merge_lora
from llmforge.model.lora_settings import LoraSettings
from llmforge.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=61,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=48,
    max_position_embeddings=64,
)
IDS = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(0))


def build() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model


def logits(model: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return model.head(model(IDS))


def adapted(settings: LoraSettings) -> Transformer:
    model = build()
    add_lora(model, settings)
    generator = torch.Generator().manual_seed(1)
    for value in lora_parameters(model).values():
        value.data.normal_(0.0, 0.2, generator=generator)
    return model


def test_a_new_adapter_changes_nothing_and_trains_alone() -> None:
    model = build()
    before = logits(model)
    add_lora(model, LoraSettings(r=4, target_modules=("q_proj", "down_proj")))
    assert torch.equal(logits(model).isfinite(), before.isfinite())
    assert (logits(model) - before).abs().max() < 1e-5
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained == set(lora_parameters(model)) and len(trained) == 2 * 2 * 2
    model.head(model(IDS)).square().sum().backward()
    assert all((value.grad is not None) == (name in trained) for name, value in model.named_parameters())


@pytest.mark.parametrize("targets", [("q_proj",), ("gate_proj", "o_proj"), LoraSettings().target_modules])
def test_merging_keeps_the_answer(targets: tuple[str, ...]) -> None:
    model = adapted(LoraSettings.model_validate({"r": 4, "alpha": 6.0, "target_modules": targets}))
    before = logits(model)
    assert (before - logits(build())).abs().max() > 0.02
    merge_lora(model)
    assert (logits(model) - before).abs().max() < 1e-4
    assert not any(isinstance(module, LoraLinear) for module in model.modules())
    assert set(model.state_dict()) == set(build().state_dict())
    assert all(value.requires_grad for value in model.parameters())


def test_dropout_only_while_training() -> None:
    model = adapted(LoraSettings(r=4, dropout=0.5))
    model.train()
    assert not torch.equal(logits(model), logits(model))
    model.eval()
    assert torch.equal(logits(model), logits(model))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own call
def test_opens_in_peft(tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "model").mkdir()
    write_model_folder(tmp_path / "model", build(), CONFIG, tmp_path / "tokenizer", facts={})
    settings = LoraSettings(r=4, alpha=12.0, target_modules=("q_proj", "v_proj", "up_proj"))
    model = adapted(settings)
    write_adapter(tmp_path / "adapter", model, settings, str(tmp_path / "model"))
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager")
    reference = peft.PeftModel.from_pretrained(reference, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert (reference(IDS).logits - logits(model)).abs().max() < 1e-5
    again = build()
    assert load_adapter(again, tmp_path / "adapter") == settings
    assert torch.equal(logits(again), logits(model))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own call
def test_what_peft_writes_loads_here(tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "model").mkdir()
    write_model_folder(tmp_path / "model", build(), CONFIG, tmp_path / "tokenizer", facts={})
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager")
    lora = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=["k_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    wrapped = peft.get_peft_model(reference, lora).eval()
    wrapped.save_pretrained(tmp_path / "adapter")
    model = build()
    settings = load_adapter(model, tmp_path / "adapter")
    assert (settings.r, settings.alpha, set(settings.target_modules)) == (3, 5.0, {"k_proj", "down_proj"})
    with torch.no_grad():
        assert (wrapped(IDS).logits - logits(model)).abs().max() < 1e-5


def test_other_adapters_are_refused(tmp_path: Path) -> None:
    model = build()
    for keys in ({"peft_type": "IA3"}, {"peft_type": "LORA", "use_dora": True}, {"peft_type": "LORA", "bias": "all"}):
        (tmp_path / "adapter_config.json").write_text(json.dumps(keys))
        with pytest.raises(DataError, match="not supported"):
            load_adapter(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "target_modules": ["lm_head"]}))
    with pytest.raises(DataError, match="target_modules"):
        load_adapter(model, tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        load_adapter(model, tmp_path / "nowhere")
