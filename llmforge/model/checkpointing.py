"""Activation checkpointing: what of a layer's work the backward pass does anew, so that it need not be kept.

`full` keeps a layer's input only (https://arxiv.org/abs/1604.06174): about a third more work. `selective` also keeps
what costs the most to make again, the products with weights and the library's attention, and does norms, rotations,
gates and casts anew (https://arxiv.org/abs/2205.05198). Values are the same; knows no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from llmforge.model.transformer import Transformer

Recomputing = Literal["none", "selective", "full"]

_aten = torch.ops.aten
# The scores of plain attention are `bmm`s of size T x T: those are made anew, they are what fills the memory.
_KEPT = frozenset(
    {
        _aten.mm.default,
        _aten.addmm.default,
        _aten.linear.default,
        _aten._scaled_mm.default,
        _aten._scaled_dot_product_flash_attention.default,
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
        _aten._scaled_dot_product_efficient_attention.default,
        _aten._scaled_dot_product_cudnn_attention.default,
    }
)
_VARLEN = "torch_attn._varlen_attn.default"  # by name: it exists only where its module is loaded


def recompute(model: Transformer, what: Recomputing) -> None:
    """Makes the model's layers do that part of their work anew in the backward pass; without gradients nothing changes.

    For a model that other processes hold shares of, call it before the shares are made.
    """
    choices: dict[str, Callable[[nn.Module, Tensor, Any], Tensor] | None] = {
        "none": None,
        "full": _anew,
        "selective": partial(_anew, context_fn=_but_products),
    }
    model.through = choices[what]


def _anew(layer: nn.Module, x: Tensor, context: Any, **options: Any) -> Tensor:
    if context is None:  # the last norm: what it makes is needed at once
        return layer(x)  # type: ignore[no-any-return]
    if not torch.is_grad_enabled():
        return layer(x, context)  # type: ignore[no-any-return]
    result: Tensor = checkpoint(lambda given: layer(given, context), x, use_reentrant=False, **options)
    return result


def _but_products() -> Any:
    return create_selective_checkpoint_contexts(_policy)  # type: ignore[no-untyped-call]


def _policy(_: Any, operation: Any, *arguments: Any, **named: Any) -> CheckpointPolicy:
    kept = operation in _KEPT or str(operation) == _VARLEN
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
