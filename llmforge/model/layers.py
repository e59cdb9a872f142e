"""Linear, RMSNorm and the fused product of several matrices: the parts that know how precision is mixed.

Parameters stay what they are (fp32 masters in training); a matrix is cast to its input's dtype where it is used, a norm
is computed in fp32 and handed back in its input's dtype. Knows no model.

Dimensions: B batch, T time, C channels in, N channels out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """x (B, T, C) -> (B, T, N) in x's dtype, whatever dtype the weight is kept in."""

    packed: Tensor | None = None  # the weight as `product` takes it, in a model made ready for inference

    def forward(self, input: Tensor) -> Tensor:
        """Multiplies with the weight, cast to the input's dtype."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        if self.packed is not None:
            return product(input, self.packed, bias)
        return F.linear(input, self.weight.to(input.dtype), bias)


class RMSNorm(nn.Module):
    """Divides by the root mean square and multiplies with a weight, in fp32 (https://arxiv.org/abs/1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape and dtype."""
        return (normalize(x.float(), self.eps) * self.weight.float()).to(x.dtype)


def normalize(x: Tensor, eps: float) -> Tensor:
    """x (..., width) over its root mean square along the last dimension."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def product(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., C) times a packed matrix (N, C) of the same dtype, which may lie in memory as oneDNN likes it best."""
    if packed.is_mkldnn:
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # type: ignore[no-any-return]
    return F.linear(x, packed, bias)


def fused_linear(x: Tensor, linears: Sequence[nn.Module], packed: Tensor | None = None) -> Tensor:
    """x (B, T, C) times several matrices of C columns -> their results side by side (B, T, sum of N).

    One large product is faster than several small ones, and putting the weights side by side costs no more than the
    cast to the compute dtype that each would need anyway. `packed` holds them side by side already (inference). A
    module that is not a plain Linear (an adapter, or a share of one whose hooks talk to other processes) is called by
    itself.
    """
    if not all(type(linear) is Linear and not linear._forward_pre_hooks for linear in linears):
        return torch.cat([linear(x) for linear in linears], dim=-1)
    plain = [linear for linear in linears if isinstance(linear, Linear)]
    biases = [linear.bias.to(x.dtype) for linear in plain if linear.bias is not None]
    bias = torch.cat(biases) if biases else None
    if packed is not None:
        return product(x, packed, bias)
    return F.linear(x, torch.cat([linear.weight.to(x.dtype) for linear in plain]), bias)
