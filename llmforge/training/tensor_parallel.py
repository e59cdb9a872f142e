"""Tensor parallelism: neighbouring processes share the matrices of every layer, by torch's DTensor and its plans.

The scheme of Megatron (https://arxiv.org/abs/1909.08053): matrices that read the residual stream are split by their
outputs, those that write it by their inputs, so that each process works on its own heads and channels and one sum of
activations ends attention and the MLP each. Embedding, head and norms are whole on every process. Knows the parameters'
Hugging Face names and no model.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.parallel.style import ParallelStyle

from llmforge.errors import UsageError

SPLIT_BY_OUTPUTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
SPLIT_BY_INPUTS = ("self_attn.o_proj", "mlp.down_proj")


def share_layers(model: nn.Module, mesh: DeviceMesh) -> list[str]:
    """Splits each layer's matrices over the processes of a mesh of one dimension, in place.

    Returns the names of the parameters that stay whole but are used by each process for its own heads only (the norms
    of q and k): their gradients must be summed over the mesh (`sum_over`).

    Raises:
        UsageError: heads, key/value heads or the MLP's channels cannot be shared out evenly, or no layer has them.
    """
    count = mesh.size()
    # It warns of putting a matrix together in two messages, as saving one that is cut twice must.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    partial = []
    for place, layer in enumerate(getattr(model, "layers", ())):
        known = {name: module for name, module in layer.named_modules() if name in SPLIT_BY_OUTPUTS + SPLIT_BY_INPUTS}
        attention = getattr(layer, "self_attn", None)
        if len(known) != len(SPLIT_BY_OUTPUTS + SPLIT_BY_INPUTS) or attention is None:
            raise UsageError("parallel.tensor_parallel: this model's layers are not made of attention and an MLP")
        _refuse_uneven(count, heads=attention.heads, key_value_heads=attention.groups)
        _refuse_uneven(count, intermediate_size=known["mlp.gate_proj"].weight.shape[0])
        plan: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in SPLIT_BY_OUTPUTS}
        plan |= {name: RowwiseParallel() for name in SPLIT_BY_INPUTS}
        parallelize_module(layer, mesh, plan)
        attention.heads, attention.groups = attention.heads // count, attention.groups // count
        for name, value in attention.named_parameters():
            if not isinstance(value, DTensor):
                partial.append(f"layers.{place}.self_attn.{name}")
    return partial


def _refuse_uneven(count: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size % count:
            what = f"parallel.tensor_parallel {count} does not divide the model's {name} ({size})"
            raise UsageError(what, hint="take a divisor of both, or parallel.tensor_parallel=1")


@torch.no_grad()
def sum_over(mesh: DeviceMesh, parameters: Sequence[nn.Parameter]) -> None:
    """Replaces the gradients of these parameters by their sums over the mesh, all in one message."""
    gradients = [_local(value.grad) for value in parameters if value.grad is not None]
    if not gradients:
        return
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(joined, group=mesh.get_group())
    for gradient, total in zip(gradients, torch.split(joined, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view(gradient.shape))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
