"""Attention itself: queries, keys and values in, their mixture out, by the kernel that is fastest where it runs.

On a CPU the library's attention has a slow backward in bf16, so short rows use plain batched products with a softmax
(computed in fp32 inside the kernel), rows of some hundred tokens do so in query blocks that see only the keys up to
their end (in fp32 from 65 tokens on), and longer ones, and all accelerators, use `scaled_dot_product_attention`. Rows
of several documents, for which that would need a mask and so its slow kernel, have flash attention's own kernel on a
GPU. Knows no weights.

Dimensions: B batch, T queries, S keys, H heads, K key/value heads, G = H / K, D head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WHOLE_MAX = 256  # queries up to which one product of all queries with all keys is fastest on a CPU in bf16
BLOCKED_MAX = 1023  # queries up to which query blocks beat the library's attention on a CPU
BLOCKS = 4
# In fp32, forward and backward of 256 queries (16 rows, 6 heads of 64) take 26 ms in blocks of 64 and 32 as a whole; of
# 512 (8 rows, 8 heads) 64 in four blocks, and a whole step with eight is no faster and takes longer to compile.
FP32_BLOCK = 64


def causal_mask(length: int, window: int | None, device: torch.device) -> Tensor:
    """Which keys each query sees, (1, T, T) bool: itself and those before it, within the window."""
    steps = torch.arange(length, device=device)
    return visible_slots(steps[None], length, window)


def document_mask(document_ids: Tensor, window: int | None) -> Tensor:
    """Document ids (B, T) -> which keys each query sees, (B, T, T) bool: those before it in its own document."""
    same = document_ids[:, :, None] == document_ids[:, None, :]
    return same & causal_mask(document_ids.shape[1], window, document_ids.device)


def visible_slots(positions: Tensor, slots: int, window: int | None) -> Tensor:
    """Positions of queries (B, T) -> which of the keys at positions 0..S-1 each sees, (B, T, S) bool."""
    back = positions[:, :, None] - torch.arange(slots, device=positions.device)
    seen = back >= 0
    return seen if window is None else seen & (back < window)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """q (B, H, T, D), already divided by sqrt(D); k, v (B, K, S, D); mask (B or 1, T, S) bool -> (B, H, T, D).

    Without a mask the rows are whole and causal (T = S), or a single query sees every key (T = 1).
    """
    length, keys = q.shape[2], k.shape[2]
    if q.device.type != "cpu" or length > BLOCKED_MAX:
        return _library(q, k, v, mask)
    if mask is None and length > 1:
        mask = causal_mask(length, None, q.device)
    bias = None if mask is None else torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
    if length == 1:  # one row of bf16 has no fast kernel on a CPU: half the time in fp32
        return _whole(q.float(), k.float(), v.float(), bias).to(q.dtype)
    size = _block(length, q.dtype)
    if length <= size or length != keys:
        return _whole(q, k, v, bias)
    assert bias is not None
    k, v = k.contiguous(), v.contiguous()  # else each block of queries has, and keeps, a copy of its keys and values
    parts = [
        _whole(q[:, :, at:end], k[:, :, :end], v[:, :, :end], bias[:, at:end, :end])
        for at, end in ((at, min(at + size, length)) for at in range(0, length, size))
    ]
    return torch.cat(parts, dim=2)


def _block(length: int, dtype: torch.dtype) -> int:
    """How many queries are worked on together."""
    if dtype == torch.float32:
        return max(FP32_BLOCK, -(-length // BLOCKS))
    return length if length <= WHOLE_MAX else -(-length // BLOCKS)


def attend_documents(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, window: int | None) -> Tensor:
    """As `attend` for causal rows of several documents, each of which sees itself alone, on a GPU and in bf16 only.

    q (B, H, T, D), already divided by sqrt(D); k, v (B, K, T, D); bounds (N,) int32: where documents begin in the B * T
    tokens, and the end; a document does not go over the end of a row. (https://arxiv.org/abs/2307.08691)
    """
    from torch.nn.attention.varlen import varlen_attn  # not in every build, and only GPUs need it

    batch, heads, length, head_dim = q.shape
    q, k, v = (each.transpose(1, 2).reshape(batch * length, -1, head_dim) for each in (q, k, v))  # (B*T, H or K, D)
    back = (-1 if window is None else window - 1, 0)
    grouped = heads != k.shape[1]
    mixed = varlen_attn(q, k, v, bounds, bounds, length, length, scale=1.0, window_size=back, enable_gqa=grouped)
    assert isinstance(mixed, Tensor)
    return mixed.view(batch, length, heads, head_dim).transpose(1, 2)


def _whole(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    batch, heads, length, head_dim = q.shape
    groups, keys = k.shape[1], k.shape[2]
    # The heads of a group share their keys: as more queries of one head, nothing has to be copied.
    folded = q.reshape(batch, groups, heads // groups * length, head_dim)
    scores = folded @ k.transpose(-2, -1)  # (B, K, G*T, S)
    if bias is not None:
        scores = (scores.view(batch, groups, -1, length, keys) + bias[:, None, None]).view(scores.shape)
    mixed = torch.softmax(scores, dim=-1) @ v  # (B, K, G*T, D)
    return mixed.view(batch, heads, length, head_dim)


def _library(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    if grouped and q.device.type != "cuda":
        repeats = q.shape[1] // k.shape[1]
        k, v, grouped = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1), False
    causal = mask is None and q.shape[2] > 1
    return F.scaled_dot_product_attention(
        q, k, v, None if mask is None else mask[:, None], is_causal=causal, scale=1.0, enable_gqa=grouped
    )
