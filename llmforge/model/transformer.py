"""The model: token ids in, hidden states out, logits by the head. The whole of it reads in one sitting.

One shape covers Llama, Mistral, Qwen2, Qwen3 and SmolLM2: `ModelConfig` holds the switches, parameters have Hugging
Face's names. Parameters are kept as they are (fp32 masters in training), computation and the residual stream run in
`compute_dtype`. Knows no loss, no tokenizer and no folder.

Dimensions: B batch, T time, S keys, C channels, H heads, K key/value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmforge.errors import UsageError
from llmforge.model.attention import attend, attend_documents, causal_mask, document_mask, visible_slots
from llmforge.model.config import ModelConfig
from llmforge.model.kv_cache import KVCache
from llmforge.model.layers import Linear, RMSNorm, fused_linear, normalize, product
from llmforge.model.rope import restarting_positions, rotary_tables, rotate

_VARLEN_DTYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Context:
    """What every layer of one forward pass shares: angles (B or 1, T, 1, D/2), who sees whom, and the cache.

    A mask (B or 1, T, S) of None means whole causal rows, or a single query that sees every key; or, with `bounds`
    (N,), causal rows of several documents, which begin there.
    """

    cos: Tensor
    sin: Tensor
    full_mask: Tensor | None
    window_mask: Tensor | None
    cache: KVCache | None
    bounds: Tensor | None = None


class Attention(nn.Module):
    """Causal self-attention with rotary positions, grouped queries and, by the config, RMSNorm of each q and k head."""

    packed: Tensor | None  # the weights of q, k and v side by side, in a model made ready for inference

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        width, self.head_dim, self.eps = config.hidden_size, config.head_dim, config.rms_norm_eps
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.layer, self.window = layer, config.window_of(layer)
        bias = config.attention_bias
        self.q_proj = Linear(width, self.heads * self.head_dim, bias=bias)
        self.k_proj = Linear(width, self.groups * self.head_dim, bias=bias)
        self.v_proj = Linear(width, self.groups * self.head_dim, bias=bias)
        self.o_proj = Linear(self.heads * self.head_dim, width, bias=config.attention_output_bias)
        self.q_norm = RMSNorm(self.head_dim, self.eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, self.eps) if config.qk_norm else None
        self.register_buffer("packed", None, persistent=False)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        batch, length, _ = x.shape
        qkv = fused_linear(x, (self.q_proj, self.k_proj, self.v_proj), self.packed)
        qkv = qkv.view(batch, length, -1, self.head_dim)  # (B, T, H+2K, D)
        qk, v = torch.split(qkv, [self.heads + self.groups, self.groups], dim=2)
        qk = qk.float()
        if self.q_norm is not None:
            qk = normalize(qk, self.eps)
        qk = rotate(qk * self._gains(qk.device), context.cos, context.sin).to(x.dtype).transpose(1, 2)
        q, k = torch.split(qk, [self.heads, self.groups], dim=1)  # (B, H, T, D), (B, K, T, D)
        v = v.transpose(1, 2)
        if context.cache is not None:
            k, v = context.cache.write(self.layer, k, v)  # (B, K, S, D)
        mask = context.full_mask if self.window is None else context.window_mask
        if context.bounds is None:
            mixed = attend(q, k, v, mask)
        else:
            mixed = attend_documents(q, k, v, context.bounds, self.window)
        mixed = mixed.transpose(1, 2)  # (B, T, H, D)
        return self.o_proj(mixed.reshape(batch, length, -1))  # type: ignore[no-any-return]

    def _gains(self, device: torch.device) -> Tensor:
        """What each head of q and k is multiplied with, (H+K, D or 1): norm weights, and 1/sqrt(D) on q."""
        scale = self.head_dim**-0.5
        if self.q_norm is None or self.k_norm is None:
            ones = torch.ones(self.heads + self.groups, 1, device=device)
            return torch.cat([ones[: self.heads] * scale, ones[self.heads :]])
        q, k = self.q_norm.weight.float() * scale, self.k_norm.weight.float()
        return torch.cat([q.expand(self.heads, -1), k.expand(self.groups, -1)])


class MLP(nn.Module):
    """SwiGLU (https://arxiv.org/abs/2002.05202)."""

    packed: Tensor | None  # the weights of gate and up side by side, in a model made ready for inference

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.register_buffer("packed", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        gate, up = fused_linear(x, (self.gate_proj, self.up_proj), self.packed).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer: attention, then the MLP, each behind its norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        # Nothing unless a trainer raises its `p`: how a model is trained is no part of its shape.
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), context))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Ids (B, T) -> hidden states (B, T, C); `head` makes logits (B, T, V) of them."""

    cos: Tensor
    sin: Tensor
    packed_head: Tensor | None = None  # the head's matrix as `product` takes it, in a model made ready for inference
    # How layers, and with no context the last norm, are called (checkpointing.py; a trainer that compiles them).
    through: Callable[[nn.Module, Tensor, Context | None], Tensor] | None = None

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        # Not drawn here (`init.py` does, or a file has them): torch's own draw on the meta device loads its compiler.
        table = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(table, freeze=False)  # type: ignore[no-untyped-call]
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = None if config.tie_word_embeddings else Linear(config.hidden_size, config.vocab_size, bias=False)
        # Nor there the tables, for the same reason: whoever fills a model calls `reset_tables`.
        if not table.is_meta:
            self.reset_tables()

    def reset_tables(self, device: torch.device | str | None = None) -> None:
        """Computes the rotary tables anew, for a model whose parameters were built on the meta device."""
        cos, sin = rotary_tables(self.config, device)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        input_ids: Tensor,
        *,
        positions: Tensor | None = None,
        document_ids: Tensor | None = None,
        bounds: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Ids (B, T) -> hidden states (B, T, C) after the last norm, in `compute_dtype`.

        `document_ids` (B, T) keep attention inside runs of one id, and positions restart with each. `positions` (B, T)
        replace those that follow from the documents, the cache or the place in the row. With a `cache` the tokens come
        behind those that it holds, and it is advanced by T; it does not go with `document_ids`. `bounds` (N,) say where
        the documents begin (`Batch.bounds`), for the kernel that takes half precision on GPUs.

        Raises:
            UsageError: the row is longer than `max_position_embeddings`, or the cache is full.
        """
        x = F.embedding(input_ids, self.embed_tokens.weight).to(self.compute_dtype)  # (B, T, C)
        if x.dtype not in _VARLEN_DTYPES:
            bounds = None
        context = self._context(input_ids, positions, document_ids, bounds, cache)
        for layer in self.layers:
            x = layer(x, context) if self.through is None else self.through(layer, x, context)
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x) if self.through is None else self.through(self.norm, x, None)

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., C) -> logits (..., V) in their dtype."""
        if self.packed_head is not None:
            return product(hidden, self.packed_head)
        return F.linear(hidden, self.head_weight.to(hidden.dtype))

    @property
    def head_weight(self) -> Tensor:
        """The matrix (V, C) of the head: its own, or that of the embedding when they are tied."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def _context(
        self,
        input_ids: Tensor,
        positions: Tensor | None,
        document_ids: Tensor | None,
        bounds: Tensor | None,
        cache: KVCache | None,
    ) -> Context:
        length, window, device = input_ids.shape[1], self.config.sliding_window, input_ids.device
        reach = length + (max(cache.lengths) if cache is not None else 0)
        if reach > self.cos.shape[0]:
            raise UsageError(
                f"{reach} tokens in a row, the model's context is {self.cos.shape[0]} (max_position_embeddings)",
                hint="shorten the input or ask for fewer new tokens",
            )
        full = windowed = None
        if cache is not None:
            assert document_ids is None, "a cache holds one document a row"
            slots = cache.positions(length)  # (B, T)
            positions = slots if positions is None else positions
            if length > 1 or not cache.uniform:
                full = visible_slots(slots, reach, None)
            windowed = full if window is None else visible_slots(slots, reach, window)
        elif document_ids is not None:
            positions = restarting_positions(document_ids) if positions is None else positions
            full = document_mask(document_ids, None) if bounds is None else None
            windowed = full if window is None or bounds is not None else document_mask(document_ids, window)
        elif window is not None:
            windowed = causal_mask(length, window, device)
        if positions is None:
            cos, sin = self.cos[None, :length], self.sin[None, :length]
        else:
            cos, sin = self.cos[positions], self.sin[positions]
        return Context(cos[:, :, None], sin[:, :, None], full, windowed, cache, bounds)
