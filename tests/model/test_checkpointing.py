"""Activation checkpointing: the same values and gradients to the bit, and less kept for the backward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmforge.model.checkpointing import Recomputing, recompute
from llmforge.model.config import ModelConfig
from llmforge.model.init import initialize
from llmforge.model.transformer import Transformer

CONFIG: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
IDS = torch.randint(0, 50, (4, 48), generator=torch.Generator().manual_seed(1))
WANTED = torch.randn(4, 48, 32, generator=torch.Generator().manual_seed(2))  # what the loss pulls towards
DOCUMENTS = (torch.arange(48) // 20).expand(4, -1).int()


def built(what: Recomputing, dtype: torch.dtype = torch.float32, **changes: Any) -> Transformer:
    model = Transformer(ModelConfig(**(CONFIG | changes)), dtype)
    initialize(model, seed=0)
    recompute(model, what)
    return model


def passed(model: Transformer, **inputs: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Hidden states, gradients of a loss of them, and the bytes of storage that the backward pass kept."""
    kept: dict[int, int] = {}
    own = {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}

    def pack(value: torch.Tensor) -> torch.Tensor:
        place = value.untyped_storage().data_ptr()
        if place not in own:
            kept[place] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        hidden = model(IDS, **inputs)
    size = sum(kept.values())
    (hidden.float() * WANTED).sum().backward()
    grads = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return hidden.detach(), grads, size


@pytest.mark.parametrize("what", ["selective", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("packed", [False, True])
def test_values_and_gradients_are_the_same_bits(what: Recomputing, dtype: torch.dtype, packed: bool) -> None:
    inputs = {"document_ids": DOCUMENTS} if packed else {}
    hidden, grads, _ = passed(built("none", dtype), **inputs)
    found, again, _ = passed(built(what, dtype), **inputs)
    assert torch.equal(found, hidden) and again.keys() == grads.keys()
    for name in grads:
        assert torch.equal(again[name], grads[name]), name


def test_layers_run_once_more_and_nothing_else_changes_without_gradients() -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    for what, expected in (("none", 3), ("selective", 6), ("full", 6)):
        model = built(what)  # type: ignore[arg-type]
        for layer in model.layers:
            layer.mlp.register_forward_pre_hook(count)
        calls = 0
        passed(model)
        assert calls == expected, what
        calls = 0
        with torch.no_grad():
            model(IDS)
        assert calls == 3


def test_full_keeps_the_layers_inputs_only() -> None:
    sizes = {what: passed(built(what))[2] for what in ("none", "full")}  # type: ignore[arg-type]
    state = IDS.numel() * 32 * 4
    assert sizes["full"] < 8 * state < sizes["none"]


def test_selective_makes_no_product_with_weights_twice() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Products(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
            return func(*args, **(kwargs or {}))

    counts = {}
    for what in ("none", "selective", "full"):
        model = built(what)  # type: ignore[arg-type]
        with Products() as seen:
            (model(IDS) * WANTED).sum().backward()
        counts[what] = seen.count
    assert counts["none"] == counts["selective"] < counts["full"]
    # qkv, o, and gate with up, of three layers: what down makes is needed by nothing in the layer's own backward pass
    assert counts["full"] - counts["none"] == 3 * 3


@pytest.mark.parametrize("what", ["selective", "full"])
def test_it_goes_through_the_compiler_as_one_graph(what: Recomputing) -> None:
    hidden, grads, _ = passed(built("none", num_hidden_layers=1))
    model = built(what, num_hidden_layers=1)
    found = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)(IDS)
    (found * WANTED).sum().backward()
    torch.testing.assert_close(found.detach(), hidden)
    for name, grad in grads.items():
        torch.testing.assert_close(model.get_parameter(name).grad, grad, msg=name)
