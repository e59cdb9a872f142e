"""The model's shape: presets and their table, completion, contradictions, counting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import llmforge
from llmforge.model import presets
from llmforge.model.config import ModelConfig, ModelSettings
from llmforge.model.presets import PRESETS
from llmforge.model.transformer import Transformer


def test_preset_table_is_true() -> None:
    assert presets.__doc__ is not None
    rows = [line.split() for line in presets.__doc__.splitlines() if line.strip().split(" ")[0] in PRESETS]
    assert [row[0] for row in rows] == list(PRESETS)
    for name, layers, width, heads, groups, head_dim, mlp, size, *_ in rows:
        config = ModelSettings.model_validate({"preset": name}).resolve(1000, 128)
        shape = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
        assert shape == (int(layers), int(width), int(heads))
        assert (config.num_key_value_heads, config.head_dim) == (int(groups), int(head_dim))
        assert config.intermediate_size == int(mlp)
        inner = config.matmul_parameters - config.vocab_size * config.hidden_size
        unit = {"M": 1e6, "B": 1e9}[size[-1]]
        assert f"{inner / unit:.{len(size.split('.')[1]) - 1}f}{size[-1]}" == size


@settings(max_examples=25, deadline=None)
@given(
    layers=st.integers(1, 3),
    groups=st.integers(1, 3),
    per_group=st.integers(1, 3),
    head_dim=st.sampled_from([2, 4, 10]),
    biases=st.sampled_from([(False, False), (True, True), (True, False)]),
    tied=st.booleans(),
    qk_norm=st.booleans(),
)
def test_parameters_are_counted_exactly(
    layers: int, groups: int, per_group: int, head_dim: int, biases: tuple[bool, bool], tied: bool, qk_norm: bool
) -> None:
    config = ModelConfig(
        vocab_size=17,
        hidden_size=36,
        num_hidden_layers=layers,
        num_attention_heads=groups * per_group,
        num_key_value_heads=groups,
        head_dim=head_dim,
        intermediate_size=7,
        tie_word_embeddings=tied,
        qk_norm=qk_norm and biases != (True, False),
        attention_bias=biases[0],
        attention_output_bias=biases[1],
    )
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(value.numel() for value in model.parameters()) == config.num_parameters
    inner = sum(value.numel() for name, value in model.named_parameters() if value.ndim == 2 and "embed" not in name)
    assert config.matmul_parameters == inner + (17 * 36 if tied else 0)


def test_flops_by_hand() -> None:
    config = ModelSettings(preset="quickstart").resolve(4096, 256)
    assert config.flops_per_token(256) == 6 * (3_211_264 + 4096 * 256) + 12 * 4 * 256 * 256


def test_settings_complete_themselves() -> None:
    config = ModelSettings(hidden_size=256, num_hidden_layers=2).resolve(500, 64)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 4, 64)
    assert (config.intermediate_size, config.vocab_size, config.max_position_embeddings) == (704, 500, 64)
    narrow = ModelSettings(hidden_size=16, num_hidden_layers=1).resolve(500, 64)
    assert (narrow.num_attention_heads, narrow.head_dim) == (1, 16)
    changed = ModelSettings(preset="quickstart", num_key_value_heads=2, tie_word_embeddings=True).resolve(500, 64)
    assert changed.num_key_value_heads == 2 and changed.tie_word_embeddings and changed.hidden_size == 256
    resized = ModelSettings(preset="quickstart", hidden_size=128, num_attention_heads=2).resolve(500, 64)
    assert (resized.hidden_size, resized.num_attention_heads, resized.head_dim) == (128, 2, 64)


@pytest.mark.parametrize(("depth", "preset"), [(4, "quickstart"), (6, "laptop"), (12, "124m")])
def test_a_depth_is_one_number_for_what_presets_say(depth: int, preset: str) -> None:
    found = ModelSettings(depth=depth).resolve(500, 64)
    assert found == ModelSettings.model_validate({"preset": preset}).resolve(500, 64)


def test_wide_models_have_wide_heads_and_keys_beside_a_depth_win() -> None:
    wide = ModelSettings(depth=16).resolve(500, 64)
    assert (wide.hidden_size, wide.num_attention_heads, wide.head_dim, wide.intermediate_size) == (1024, 8, 128, 2752)
    odd = ModelSettings(depth=17).resolve(500, 64)
    assert (odd.hidden_size, odd.num_attention_heads, odd.head_dim) == (1088, 17, 64)
    own = ModelSettings(depth=4, hidden_size=128, num_key_value_heads=1).resolve(500, 64)
    assert (own.num_hidden_layers, own.hidden_size, own.num_attention_heads, own.num_key_value_heads) == (4, 128, 2, 1)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "give a preset or a depth, or hidden_size and num_hidden_layers"),
        ({"preset": "tiny", "depth": 4}, "give preset or depth, not both"),
        ({"depth": 0}, "depth"),
        ({"preset": "huge"}, "Input should be"),
        ({"preset": "tiny", "hidden_sise": 3}, "hidden_sise"),
        ({"preset": "tiny", "num_key_value_heads": 3}, "must be a multiple of num_key_value_heads"),
        ({"hidden_size": 100, "num_hidden_layers": 1, "num_attention_heads": 3}, "give head_dim"),
        ({"preset": "tiny", "head_dim": 7}, "must be even"),
        ({"preset": "tiny", "attention_bias": True}, "qk_norm with attention_bias"),
        ({"preset": "tiny", "attention_output_bias": True}, "needs attention_bias"),
        ({"preset": "tiny", "rope_theta": float("nan")}, "rope_theta"),
        ({"preset": "tiny", "hidden_size": 0}, "hidden_size"),
        ({"preset": "tiny", "num_hidden_layers": 2**63}, "num_hidden_layers"),
        ({"preset": "tiny", "rope_scaling": {"rope_type": "yarn", "factor": 2}}, "rope_type"),
        ({"preset": "tiny", "qk_norm": False, "num_attention_heads": 3, "head_dim": 8}, "multiple of the 3 heads"),
        ({"preset": "tiny", "hidden_act": "gelu"}, "hidden_act"),
    ],
)
def test_contradictions_are_said(keys: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ModelSettings.model_validate(keys)


def test_data_that_do_not_fit_are_said() -> None:
    with pytest.raises(ValueError, match="below the tokenizer's 5000"):
        ModelSettings(preset="tiny", vocab_size=4096).resolve(5000, 64)
    with pytest.raises(ValueError, match="below seq_len"):
        ModelSettings(preset="tiny", max_position_embeddings=32).resolve(500, 64)


def test_no_torch_is_loaded() -> None:
    code = (
        "import sys; import llmforge.model.config, llmforge.model.lora_settings; "
        "print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules])"
    )
    root = Path(llmforge.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert ran.stdout.strip() == "[]"
