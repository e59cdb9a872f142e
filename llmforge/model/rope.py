"""Rotary positions (https://arxiv.org/abs/2104.09864) in the layout of Hugging Face: the head is split in halves.

Makes of a config the table of cosines and sines, and turns queries and keys by it. Knows no attention.

Dimensions: B batch, T time, H heads, D head size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llmforge.model.config import ModelConfig, RopeScaling


def rotary_tables(config: ModelConfig, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Cosines and sines (max_position_embeddings, D/2) in fp32."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64, device=device).float() / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    if config.rope_scaling is not None:
        frequencies = _scaled(frequencies, config.rope_scaling)
    angles = torch.outer(torch.arange(config.max_position_embeddings, device=device).float(), frequencies)
    return angles.cos(), angles.sin()


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    if scaling.rope_type == "linear":
        return frequencies / scaling.factor
    waves = 2 * math.pi / frequencies
    context = scaling.original_max_position_embeddings
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    share = ((context / waves - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - share) * frequencies / scaling.factor + share * frequencies


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, T, H, D) turned by the angles whose cos and sin (B or 1, T, 1, D/2) are given."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def restarting_positions(document_ids: Tensor) -> Tensor:
    """Document ids (B, T) -> positions (B, T) that count from 0 in each run of one id."""
    steps = torch.arange(document_ids.shape[1], device=document_ids.device).expand(document_ids.shape)
    starts = torch.zeros_like(steps)
    changed = document_ids[:, 1:] != document_ids[:, :-1]
    starts[:, 1:] = torch.where(changed, steps[:, 1:], 0)
    return steps - starts.cummax(dim=1).values
