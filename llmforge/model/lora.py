"""Low-rank adapters, wrapped around a model from outside and folded back into it; the model does not know them.

Dimensions: B batch, T time, C channels in, N channels out, R rank.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmforge.model.layers import Linear
from llmforge.model.lora_settings import LoraSettings
from llmforge.model.transformer import Transformer


class LoraLinear(Linear):
    """A Linear with its own frozen weight (N, C) and an adapter A (R, C), B (N, R) beside it."""

    def __init__(self, inner: Linear, settings: LoraSettings, generator: torch.Generator) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = inner.in_features, inner.out_features
        self.weight, self.bias = inner.weight, inner.bias
        self.settings = settings
        # As peft draws them: A uniform within 1/sqrt(C), B zero, so that the start is the model as it was.
        bound = 1 / math.sqrt(inner.in_features)
        drawn = torch.empty(settings.r, inner.in_features).uniform_(-bound, bound, generator=generator)
        device = inner.weight.device
        self.lora_A = nn.Parameter(drawn.to(device))
        self.lora_B = nn.Parameter(torch.zeros(inner.out_features, settings.r, device=device))

    def forward(self, input: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, N)."""
        thin = F.dropout(input, self.settings.dropout, self.training) if self.settings.dropout else input
        thin = F.linear(thin, self.lora_A.to(input.dtype)) * self.settings.scale  # (B, T, R)
        return super().forward(input) + F.linear(thin, self.lora_B.to(input.dtype))

    @torch.no_grad()
    def merged(self) -> Linear:
        """A plain Linear whose weight has the adapter's part added, in fp32."""
        plain = Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        part = self.settings.scale * (self.lora_B.float() @ self.lora_A.float())
        plain.weight = nn.Parameter((self.weight.float() + part).to(self.weight.dtype))
        if self.bias is not None:
            plain.bias = nn.Parameter(self.bias.detach().clone())
        return plain


def add_lora(model: Transformer, settings: LoraSettings, seed: int = 0) -> None:
    """Freezes the model and puts an adapter around each target module of each layer, in place."""
    assert all(getattr(module, "packed", None) is None for module in model.modules()), "adapters come before packing"
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parent, name, child in _linears(model):
        if name in settings.target_modules:
            setattr(parent, name, LoraLinear(child, settings, generator))


def merge_lora(model: Transformer) -> None:
    """Folds every adapter into its weight and leaves the plain, trainable model, in place."""
    for parent, name, child in _linears(model):
        if isinstance(child, LoraLinear):
            setattr(parent, name, child.merged())
    model.requires_grad_(True)


def lora_parameters(model: Transformer) -> dict[str, nn.Parameter]:
    """The adapters' parameters by their names in the model; empty when there are none."""
    return {name: value for name, value in model.named_parameters() if name.endswith((".lora_A", ".lora_B"))}


def _linears(model: Transformer) -> list[tuple[nn.Module, str, Linear]]:
    return [
        (parent, name, child)
        for parent in model.layers.modules()
        for name, child in parent.named_children()
        if isinstance(child, Linear)
    ]
