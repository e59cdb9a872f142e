"""Gradients cut to a norm. Knows no optimizer and no loop."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from llmforge.training.shares import by_mesh, total_norm


@torch.no_grad()
def clip(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    """The 2-norm of all gradients as one vector, which are then scaled, in place, to at most `limit`; None: they stay.

    Every process must call it.
    """
    gradients = [value.grad for value in parameters if value.grad is not None]
    norm = total_norm(gradients)
    if limit is not None:
        share = (limit / (norm + 1e-6)).clamp(max=1.0)
        for alike in by_mesh(gradients):
            torch._foreach_mul_(alike, share)
    return norm
