"""A model made ready to score and sample: matrices in the compute dtype once, those that share an input side by side.

In training every product casts its fp32 master; without gradients that would be the same cast again for each token.
"""

from __future__ import annotations

import torch
from torch import nn

from llmforge.model.layers import Linear
from llmforge.model.transformer import MLP, Attention, Transformer


@torch.no_grad()
def pack_for_inference(model: Transformer) -> Transformer:
    """Freezes the model in place and returns it; its answers stay the same, its weights can no longer be trained.

    q, k, v and gate, up become parts of one matrix each, so no memory is added. Call it last: after adapters are merged
    and the model is on its device.
    """
    model.eval().requires_grad_(False)
    dtype = model.compute_dtype
    for module in list(model.modules()):
        if isinstance(module, Linear | nn.Embedding):
            module.weight = nn.Parameter(module.weight.to(dtype), requires_grad=False)
    for module in list(model.modules()):
        if isinstance(module, Attention):
            module.packed = _side_by_side([module.q_proj, module.k_proj, module.v_proj])
        elif isinstance(module, MLP):
            module.packed = _side_by_side([module.gate_proj, module.up_proj])
    return model


def _side_by_side(linears: list[Linear]) -> torch.Tensor | None:
    if not all(type(linear) is Linear for linear in linears):
        return None
    packed = torch.cat([linear.weight for linear in linears])
    parts = torch.split(packed, [linear.out_features for linear in linears])
    for linear, part in zip(linears, parts, strict=True):
        linear.weight = nn.Parameter(part, requires_grad=False)
    return packed
