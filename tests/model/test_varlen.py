"""The kernel for rows of several documents, which only GPUs have: what it is given, by a reference that takes the same.

The kernel itself is put in place of the reference where there is a GPU; its shapes are checked on the meta device.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llmforge.model import transformer as model_module
from llmforge.model.checkpointing import recompute
from llmforge.model.config import ModelConfig
from llmforge.model.init import initialize
from llmforge.model.transformer import Transformer
from llmforge.runtime.device import has_varlen_attention
from llmforge.tokens import batch as batch_module
from llmforge.tokens.batch import Batch, document_bounds
from llmforge.training.objective import CausalLMObjective

IDS = torch.tensor([[4, 4, 4, 9, 9, 5, 5, 5, 5, 5], [4, 4, 7, 7, 7, 7, 7, 7, 7, 1]], dtype=torch.int32)


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Tensor,
    key_starts: Tensor,
    most: int,
    most_keys: int,
    /,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What torch.nn.attention.varlen documents: each run of tokens attends to itself alone."""
    assert torch.equal(starts, key_starts) and most == most_keys and starts.dtype == torch.int32
    assert enable_gqa == (q.shape[1] != k.shape[1])
    back, ahead = window_size
    assert ahead == 0
    out = torch.zeros_like(q)
    for start, end in zip(starts.tolist(), starts.tolist()[1:], strict=False):
        assert end - start <= most
        for head in range(q.shape[1]):
            group = head * k.shape[1] // q.shape[1]
            for at in range(start, end):
                first = start if back < 0 else max(start, at - back)
                weights = torch.softmax((k[first : at + 1, group] @ q[at, head]) * scale, 0)
                out[at, head] = weights @ v[first : at + 1, group]
    return out


def model(groups: int = 2, window: int | None = None) -> Transformer:
    shape = ModelConfig(
        vocab_size=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=groups,
        head_dim=8,
        intermediate_size=48,
        max_position_embeddings=32,
        sliding_window=window,
    )
    made = Transformer(shape)
    initialize(made, 0)
    with torch.no_grad():
        for parameter in made.parameters():  # projections begin at zero, which would hide everything
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    return made


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=20), min_size=1, max_size=4))
def test_bounds_are_where_ids_change_and_where_rows_end(rows: list[list[int]]) -> None:
    length = max(sum(row) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.int32)
    wanted = []
    for number, row in enumerate(rows):
        at = 0
        for document, size in enumerate([*row, length - sum(row)]):
            if size:
                ids[number, at : at + size] = document
                wanted.append(number * length + at)
            at += size
    found = document_bounds(ids)
    assert found.dtype == torch.int32 and math.log2(len(found)).is_integer()
    assert found[: len(wanted)].tolist() == wanted
    assert set(found[len(wanted) :].tolist()) == {ids.numel()}  # the end, at least once


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 3])
def test_the_same_hidden_states_and_gradients_as_with_a_mask(
    groups: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", reference)
    monkeypatch.setattr(model_module, "_VARLEN_DTYPES", (torch.float32,))
    made, ids = model(groups, window), torch.arange(20).view(2, 10) % 16

    def run(bounds: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        hidden = made(ids, document_ids=IDS, bounds=bounds)
        return hidden, list(torch.autograd.grad(hidden.square().sum(), list(made.parameters()), allow_unused=True))

    by_mask, by_kernel = run(None), run(document_bounds(IDS))
    torch.testing.assert_close(by_kernel[0], by_mask[0], rtol=1e-4, atol=1e-5)
    for one, other in zip(by_kernel[1], by_mask[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    without = made(ids)
    assert (without - by_mask[0]).abs().max() > 1e-2  # the documents matter


def test_fp32_keeps_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", None)
    made, ids = model(), torch.arange(20).view(2, 10) % 16
    assert torch.equal(made(ids, document_ids=IDS, bounds=document_bounds(IDS)), made(ids, document_ids=IDS))


def test_a_batch_has_bounds_where_the_kernel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Batch(IDS.long(), IDS.long(), IDS, IDS.long())
    assert rows.to("cpu").bounds is None
    monkeypatch.setattr(batch_module, "has_varlen_attention", lambda device: True)
    bounds = rows.rows(1, 2).to("cpu").bounds
    assert bounds is not None and bounds.tolist()[:4] == [0, 2, 9, 10]
    assert Batch(IDS.long(), IDS.long()).to("cpu").bounds is None


@pytest.mark.parametrize("what", ["none", "selective", "full"])
def test_shapes_and_gradients_on_the_meta_device(what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "has_varlen_attention", lambda device: True)
    with torch.device("meta"):
        made = Transformer(model().config, torch.bfloat16)
    made.reset_tables("meta")
    recompute(made, what)
    rows = Batch(IDS.long(), IDS.long(), IDS, IDS.long()).to("meta")
    assert rows.bounds is not None and rows.bounds.is_meta
    CausalLMObjective(made)(rows).backward()
    assert all(value.grad is not None for value in made.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_kernel_itself() -> None:
    if not has_varlen_attention(torch.device("cuda")):
        pytest.skip("a GPU without flash attention")
    made = model()
    made.compute_dtype = torch.bfloat16
    made.to("cuda")
    rows = Batch(IDS.long(), IDS.long(), IDS).to("cuda")
    assert rows.bounds is not None
    by_kernel = made(rows.input_ids, document_ids=rows.document_ids, bounds=rows.bounds)
    by_mask = made(rows.input_ids, document_ids=rows.document_ids)
    torch.testing.assert_close(by_kernel, by_mask, rtol=5e-2, atol=5e-2)
