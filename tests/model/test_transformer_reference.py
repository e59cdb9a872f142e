"""The model against transformers' own classes on random weights: an independent reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from llmforge.checkpoint.families import from_hugging_face
from llmforge.model.transformer import Transformer

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 128,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
CASES = {
    "llama": ("LlamaForCausalLM", {}),
    "llama-tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama-biased": ("LlamaForCausalLM", {"attention_bias": True}),
    "llama-rope-llama3": ("LlamaForCausalLM", {"rope_parameters": LLAMA3}),
    "llama-rope-linear": ("LlamaForCausalLM", {"rope_parameters": LINEAR}),
    "llama-head-dim": ("LlamaForCausalLM", {"head_dim": 16}),
    "mistral": ("MistralForCausalLM", {"sliding_window": None}),
    "mistral-window": ("MistralForCausalLM", {"sliding_window": 5}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen2-window": ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 16}),
    "qwen3-biased-tied": ("Qwen3ForCausalLM", {"attention_bias": True, "tie_word_embeddings": True, "head_dim": 8}),
    "qwen3-window": ("Qwen3ForCausalLM", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}),
}


def reference_logits(model: object, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits  # type: ignore[operator]


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_reference(case: str) -> None:
    name, extra = CASES[case]
    reference_class = getattr(transformers, name)
    torch.manual_seed(0)
    config = reference_class.config_class(**SIZES, **extra)
    config._attn_implementation = "eager"
    reference = reference_class(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():  # biases and norms start as constants: make every number count
            parameter.add_(torch.randn_like(parameter) * 0.1)
    ours = Transformer(from_hugging_face({**config.to_dict(), "architectures": [name]}, case))
    ours.load_state_dict(
        {
            key.removeprefix("model."): value
            for key, value in reference.state_dict().items()
            if not (key == "lm_head.weight" and config.tie_word_embeddings)
        }
    )
    ids = torch.randint(0, 97, (2, 40))
    with torch.no_grad():
        logits = ours.head(ours(ids))
    assert (logits - reference_logits(reference, ids)).abs().max() < 1e-5
    assert sum(value.numel() for value in ours.parameters()) == ours.config.num_parameters
    assert ours.config.num_parameters == sum(value.numel() for value in reference.parameters())
