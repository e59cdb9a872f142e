"""fp8 products: refused where they cannot run, near the plain ones where they are emulated, same names of weights."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import pytest
import torch

from llmforge.errors import MachineError, UsageError
from llmforge.model.config import ModelConfig
from llmforge.model.fp8 import to_fp8
from llmforge.model.transformer import Transformer
from llmforge.runtime.device import choose_dtype

IDS = torch.randint(0, 50, (2, 32), generator=torch.Generator().manual_seed(0))

WANTED = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(1))


def built(**changes: Any) -> Transformer:
    shape: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "intermediate_size": 64,
        "max_position_embeddings": 32,
    }
    torch.manual_seed(0)
    return Transformer(ModelConfig(**(shape | changes)), torch.bfloat16)


def test_it_is_refused_without_such_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="compute capability 8.9"):
        choose_dtype("fp8", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    for capability, there in (((8, 0), False), ((8, 9), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        if there:
            assert choose_dtype("fp8", torch.device("cuda"))[0] is torch.bfloat16
        else:
            with pytest.raises(MachineError, match="precision=bf16"):
                choose_dtype("fp8", torch.device("cuda"))


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(MachineError, match=r"llmforge\[fp8\]"):
        to_fp8(built())


def test_sides_that_the_kernels_do_not_take() -> None:
    pytest.importorskip("torchao")
    with pytest.raises(UsageError, match="layers.0.mlp.gate_proj is 72 x 32"):
        to_fp8(built(intermediate_size=72))


def test_emulated_it_is_near_and_changes_no_name() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torchao.float8")
        model, plain = built(), built()
        names = [name for name, _ in model.named_parameters()]
        to_fp8(model, emulate=True)
    assert [name for name, _ in model.named_parameters()] == names
    hidden, wanted = model(IDS), plain(IDS)
    distance = (hidden - wanted).detach().float().norm() / wanted.detach().float().norm()
    assert 1e-4 < float(distance) < 0.1  # three bits behind the point, not bf16's seven
    (hidden.float() * WANTED).sum().backward()
    (wanted.float() * WANTED).sum().backward()
    for name, value in model.named_parameters():
        other = plain.get_parameter(name).grad
        if other is None or not bool(other.any()):
            continue
        assert value.grad is not None and value.grad.dtype == torch.float32
        cosine = torch.nn.functional.cosine_similarity(value.grad.flatten(), other.flatten(), dim=0)
        assert float(cosine) > 0.9, name
