"""A disk that is full while weights are written: the machine's error, with the path and the bytes needed."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from llmforge.checkpoint.adapters import write_adapter
from llmforge.checkpoint.model_folder import write_model_folder
from llmforge.checkpoint.tensor_file import write_tensors
from llmforge.errors import MachineError, UsageError
from llmforge.model.config import ModelConfig
from llmforge.model.init import initialize
from llmforge.model.lora import add_lora, lora_parameters
from llmforge.model.lora_settings import LoraSettings
from llmforge.model.transformer import Transformer

SHAPE = ModelConfig(
    vocab_size=97,
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=80,
    max_position_embeddings=64,
)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may become larger than 4 KiB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_under_a_model_folder(tmp_path: Path) -> None:
    model, target = Transformer(SHAPE), tmp_path / "model"
    initialize(model, seed=0)
    target.mkdir()
    (tmp_path / "tokenizer").mkdir()
    size = sum(value.numel() * 4 for value in model.state_dict().values())
    with pytest.raises(MachineError, match=f"cannot write {size:,} bytes: File too large") as caught:
        write_model_folder(target, model, SHAPE, tmp_path / "tokenizer", facts={})
    assert caught.value.where == str(target / "model.safetensors")


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_under_an_adapter(tmp_path: Path) -> None:
    model, settings = Transformer(SHAPE), LoraSettings(r=8)
    initialize(model, seed=0)
    add_lora(model, settings)
    size = sum(value.numel() * 4 for value in lora_parameters(model).values())
    with pytest.raises(MachineError, match=f"cannot write {size:,} bytes: File too large") as caught:
        write_adapter(tmp_path / "adapter", model, settings, "base")
    assert caught.value.where == str(tmp_path / "adapter" / "adapter_model.safetensors")


def test_what_is_no_error_of_the_disk_stays_one_of_ours(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(5.0)}
    write_tensors(tmp_path / "x", tensors, {"format": "pt"})
    assert torch.equal(load_file(tmp_path / "x")["a"], tensors["a"])
    with pytest.raises(UsageError, match="No such file or directory"):
        write_tensors(tmp_path / "nowhere" / "x", tensors)
    with pytest.raises((SafetensorError, TypeError, ValueError)):
        write_tensors(tmp_path / "y", tensors, {"format": 3})  # type: ignore[dict-item]
