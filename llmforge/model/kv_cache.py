"""Keys and values of the tokens seen so far, owned by the caller and handed to the model as an argument.

The slot of a key is its position, so rows of different lengths need no padding on the left: prompts are padded on the
right, the model writes whatever it is given behind each row's length, and what lies behind the true length is never
seen and is written over by the next token. The caller says the true lengths with `set_lengths`.

    cache = KVCache(config, batch=2, max_length=64, dtype=model.compute_dtype)
    hidden = model(padded_prompts, cache=cache)      # (2, T, C); row b is good up to lengths[b]
    cache.set_lengths([5, 9])
    hidden = model(next_ids, cache=cache)            # (2, 1, C)

Dimensions: B batch, T new tokens, S slots, K key/value heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmforge.errors import UsageError
from llmforge.model.config import ModelConfig


class KVCache:
    """Room for `max_length` tokens in each of `batch` rows; one tensor (B, K, S, D) a layer for keys and for values."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        max_length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (batch, config.num_key_value_heads, max_length, config.head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self.max_length = max_length
        self.lengths = [0] * batch

    @property
    def uniform(self) -> bool:
        """Whether all rows have the same length."""
        return min(self.lengths) == max(self.lengths)

    def positions(self, count: int) -> Tensor:
        """The positions (B, count) that the next `count` tokens of each row get.

        Raises:
            UsageError: a row has no room for them.
        """
        if max(self.lengths) + count > self.max_length:
            raise UsageError(
                f"the cache has room for {self.max_length} tokens, {max(self.lengths) + count} are needed",
                hint="ask for fewer new tokens or shorten the prompt",
            )
        device = self.keys[0].device
        return torch.tensor(self.lengths, device=device)[:, None] + torch.arange(count, device=device)

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Puts k and v (B, K, T, D) behind each row's length; returns all slots written so far, (B, K, S, D) each."""
        count = k.shape[2]
        end = max(self.lengths) + count
        keys, values = self.keys[layer], self.values[layer]
        if self.uniform:
            keys[:, :, end - count : end] = k
            values[:, :, end - count : end] = v
        else:
            slots = self.positions(count)  # (B, T)
            rows = torch.arange(len(self.lengths), device=slots.device)[:, None]
            keys[rows, :, slots] = k.transpose(1, 2)
            values[rows, :, slots] = v.transpose(1, 2)
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, count: int) -> None:
        """Counts `count` more tokens in every row; the model calls it when all layers have written."""
        self.lengths = [length + count for length in self.lengths]

    def set_lengths(self, lengths: Sequence[int]) -> None:
        """Says how many tokens of each row are true; those behind are forgotten. Also goes back to an earlier point."""
        assert len(lengths) == len(self.lengths), "one length a row"
        assert all(0 <= new <= old for new, old in zip(lengths, self.lengths, strict=True)), "only what was written"
        self.lengths = [int(length) for length in lengths]

    def select(self, rows: Sequence[int]) -> None:
        """Keeps these rows in this order; a row may be named several times (samples of one prompt) or never."""
        index = torch.tensor(list(rows), device=self.keys[0].device)
        self.keys = [keys[index] for keys in self.keys]
        self.values = [values[index] for values in self.values]
        self.lengths = [self.lengths[row] for row in rows]
