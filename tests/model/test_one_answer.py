"""One answer from every path: plain, cached in pieces, ragged, packed with other documents, blocked, bf16-packed."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmforge.errors import UsageError
from llmforge.model import attention
from llmforge.model.config import ModelConfig
from llmforge.model.kv_cache import KVCache
from llmforge.model.packing import pack_for_inference
from llmforge.model.rope import restarting_positions
from llmforge.model.transformer import Transformer

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 1200,
}
SWITCHES: dict[str, dict[str, object]] = {
    "qwen3": {},
    "llama": {"qk_norm": False, "tie_word_embeddings": True},
    "window": {"sliding_window": 5, "max_window_layers": 1},
    "biased": {"qk_norm": False, "attention_bias": True},
}
TOLERANCE = 2e-5


def build(kind: str, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(ModelConfig.model_validate({**SHAPE, **SWITCHES[kind]}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.requires_grad_(False)


def ids_of(*shape: int) -> Tensor:
    return torch.randint(0, 61, shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("kind", SWITCHES)
def test_cached_in_pieces_equals_whole(kind: str) -> None:
    model, ids = build(kind), ids_of(3, 23)
    whole = model(ids)
    cache = KVCache(model.config, batch=3, max_length=23)
    pieces = [model(ids[:, start:end], cache=cache) for start, end in ((0, 7), (7, 8), (8, 9), (9, 20), (20, 23))]
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < TOLERANCE
    assert cache.lengths == [23] * 3


@pytest.mark.parametrize("kind", SWITCHES)
def test_ragged_rows_equal_each_row_alone(kind: str) -> None:
    model, lengths = build(kind), [4, 11, 1]
    prompts, more = ids_of(3, 11), ids_of(3, 6)
    cache = KVCache(model.config, batch=3, max_length=20)
    prefilled = model(prompts, cache=cache)  # the ids behind each row's length are padding
    cache.set_lengths(lengths)
    steps = [model(more[:, :1], cache=cache), model(more[:, 1:2], cache=cache), model(more[:, 2:], cache=cache)]
    continued = torch.cat(steps, dim=1)
    for row, length in enumerate(lengths):
        alone = model(torch.cat([prompts[row, :length], more[row]])[None])[0]
        assert (prefilled[row, :length] - alone[:length]).abs().max() < TOLERANCE
        assert (continued[row] - alone[length:]).abs().max() < TOLERANCE


def test_rows_are_selected_repeated_and_taken_back() -> None:
    model, ids = build("qwen3"), ids_of(2, 9)
    cache = KVCache(model.config, batch=2, max_length=16)
    model(ids, cache=cache)
    cache.select([1, 0, 1])
    cache.set_lengths([9, 5, 3])
    following = ids_of(3, 2)
    hidden = model(following, cache=cache)
    for row, (source, length) in enumerate(((1, 9), (0, 5), (1, 3))):
        alone = model(torch.cat([ids[source, :length], following[row]])[None])[0, length:]
        assert (hidden[row] - alone).abs().max() < TOLERANCE


def test_full_cache_and_context_are_said() -> None:
    model = build("qwen3")
    with pytest.raises(UsageError, match="room for 4 tokens, 5 are needed"):
        model(ids_of(1, 5), cache=KVCache(model.config, batch=1, max_length=4))
    with pytest.raises(UsageError, match="1201 tokens in a row, the model's context is 1200"):
        model(ids_of(1, 1201))


@pytest.mark.parametrize("kind", SWITCHES)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_packed_documents_equal_each_alone(kind: str, lengths: list[int]) -> None:
    model = build(kind)
    row = ids_of(1, sum(lengths))
    documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None].int()
    packed = model(row, document_ids=documents)[0]
    stated = model(row, document_ids=documents, positions=restarting_positions(documents))[0]
    assert torch.equal(packed, stated)
    for alone, together in zip(row[0].split(lengths), packed.split(lengths), strict=True):
        assert (model(alone[None])[0] - together).abs().max() < TOLERANCE


def test_positions_restart() -> None:
    documents = torch.tensor([[5, 5, 5, 2, 2, 7], [1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 1]])
    expected = [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 0, 1]]
    assert restarting_positions(documents).tolist() == expected


@pytest.mark.parametrize("kind", ["qwen3", "window"])
@pytest.mark.parametrize("length", [100, 257, 510, 1024])
def test_each_kernel_gives_the_same_answer_and_gradients(
    kind: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Query blocks as fp32 and as bf16 have them, the library's kernel beyond, against one plain product."""
    model, ids = build(kind).requires_grad_(True), ids_of(1, length)
    documents = (torch.arange(length) // 100)[None]

    def answer() -> list[Tensor]:
        results = []
        for inside in (None, documents):
            model.zero_grad()
            hidden = model(ids, document_ids=inside)
            hidden.square().sum().backward()
            gradient = model.layers[0].self_attn.k_proj.weight.grad  # type: ignore[union-attr]
            assert isinstance(gradient, Tensor)
            results += [hidden.detach(), gradient.clone() / gradient.abs().max()]
        return results

    routed = answer()
    as_bf16 = partial(attention._block, dtype=torch.bfloat16)
    monkeypatch.setattr(attention, "_block", lambda length, dtype: as_bf16(length))
    by_fours = answer()
    monkeypatch.setattr(attention, "_block", lambda length, dtype: length)
    monkeypatch.setattr(attention, "BLOCKED_MAX", 4096)
    for ours, others, plain in zip(routed, by_fours, answer(), strict=True):
        assert (ours - plain).abs().max() < 5e-5 and (others - plain).abs().max() < 5e-5


def test_rows_do_not_depend_on_their_batch() -> None:
    model, ids = build("qwen3"), ids_of(5, 30)
    together = model(ids)
    for row in range(5):
        assert (model(ids[row : row + 1])[0] - together[row]).abs().max() < TOLERANCE


def test_the_future_is_not_seen() -> None:
    for kind in SWITCHES:
        model, ids = build(kind), ids_of(1, 40)
        changed = ids.clone()
        changed[0, 25:] = (changed[0, 25:] + 1) % 61
        assert torch.equal(model(ids)[0, :25], model(changed)[0, :25])


@pytest.mark.parametrize("kind", SWITCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights_give_the_same_logits(kind: str, dtype: torch.dtype) -> None:
    model, ids = build(kind), ids_of(2, 12)
    model.compute_dtype = dtype
    plain = model.head(model(ids))
    names = set(model.state_dict())
    pack_for_inference(model)
    assert model.head(model(ids)).dtype is dtype
    assert (model.head(model(ids)) - plain).abs().max() < (1e-5 if dtype is torch.float32 else 0.05)
    assert set(model.state_dict()) == names


def test_bf16_stays_near_fp32_and_masters_stay_fp32() -> None:
    model, ids = build("qwen3").requires_grad_(True), ids_of(2, 40)
    exact = model.head(model(ids)).detach()
    model.compute_dtype = torch.bfloat16
    logits = model.head(model(ids))
    assert logits.dtype is torch.bfloat16
    assert (logits.float() - exact).norm() / exact.norm() < 0.03
    logits.float().square().sum().backward()
    assert all(value.dtype is torch.float32 and value.grad is not None for value in model.parameters())
    assert all(value.grad.dtype is torch.float32 for value in model.parameters() if value.grad is not None)
