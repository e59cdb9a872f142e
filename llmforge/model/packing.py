"""A model made ready to score and sample: matrices in the compute dtype once, those that share an input side by side.

In training every product casts its fp32 master; without gradients that would be the same cast again for each token. In
bf16 on a CPU the matrices are also laid out as oneDNN multiplies them, which it would do anew for each product: 1.3
times the tokens a second with one row, 1.2 times with 16 (32M parameters, one core).
"""

from __future__ import annotations

import torch
from torch import nn

from llmforge.model.layers import Linear
from llmforge.model.transformer import MLP, Attention, Transformer

# For how many rows oneDNN chooses its layout; that for 16 is also the best, or nearly so, for one and for hundreds.
_ROWS = 16


@torch.no_grad()
def pack_for_inference(model: Transformer) -> Transformer:
    """Freezes the model in place and returns it; its answers stay the same, its weights can no longer be trained.

    q, k, v and gate, up become parts of one matrix each; where oneDNN lays matrices out, their plain form is given up
    (all but the embedding's and the head's). Call it last: after adapters are merged and the model is on its device.
    """
    model.eval().requires_grad_(False)
    dtype = model.compute_dtype
    for module in list(model.modules()):
        if isinstance(module, Linear | nn.Embedding):
            module.weight = nn.Parameter(module.weight.to(dtype), requires_grad=False)
    lay_out = dtype is torch.bfloat16 and model.head_weight.device.type == "cpu" and _has_onednn()
    for module in list(model.modules()):
        if isinstance(module, Attention):
            _pack(module, [module.q_proj, module.k_proj, module.v_proj], module.o_proj, lay_out)
        elif isinstance(module, MLP):
            _pack(module, [module.gate_proj, module.up_proj], module.down_proj, lay_out)
    if lay_out:
        model.packed_head = _laid_out(model.head_weight)
    return model


def _has_onednn() -> bool:
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pack(module: Attention | MLP, first: list[Linear], last: Linear, lay_out: bool) -> None:
    """Joins the matrices that read the module's input; lays those and the one that writes its output out."""
    module.packed = _side_by_side(first)
    if not lay_out:
        return
    if module.packed is not None:
        module.packed = _laid_out(module.packed)
        _give_up(first)
    if type(last) is Linear:
        last.packed = _laid_out(last.weight)
        _give_up([last])


def _laid_out(weight: torch.Tensor) -> torch.Tensor:
    laid_out: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)
    return laid_out


def _give_up(linears: list[Linear]) -> None:
    for linear in linears:
        linear.weight = nn.Parameter(linear.weight.new_empty(0), requires_grad=False)


def _side_by_side(linears: list[Linear]) -> torch.Tensor | None:
    if not all(type(linear) is Linear for linear in linears):
        return None
    packed = torch.cat([linear.weight for linear in linears])
    parts = torch.split(packed, [linear.out_features for linear in linears])
    for linear, part in zip(linears, parts, strict=True):
        linear.weight = nn.Parameter(part, requires_grad=False)
    return packed
