"""Tensors that processes hold shares of (torch's DTensor), told from plain ones without loading what only they need.

`torch.distributed.tensor` takes half a second to load, sympy included, and nothing on one process makes a DTensor:
where nobody has loaded it there is none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

TensorT = TypeVar("TensorT", bound=Tensor)


def is_shared(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether processes hold shares of a tensor."""
    module = sys.modules.get("torch.distributed.tensor")
    # while it is being loaded it has no such name yet, and no tensor either
    return isinstance(tensor, getattr(module, "DTensor", ()))


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that processes hold shares of; every process must call it."""
    return tensor.full_tensor() if is_shared(tensor) else tensor


def to_save(tensor: Tensor) -> Tensor:
    """The whole of a tensor that processes hold shares of, on the CPU of the first one; every process must call it.

    The others get nothing in its place: no device ever holds more than one whole tensor beside its shares.
    """
    if not is_shared(tensor):
        return tensor
    found = tensor.full_tensor()
    return found.cpu() if torch.distributed.get_rank() == 0 else found.new_empty(0)


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A copy of `tensor` that lies on the device, or in the shares, of `parameter`."""
    return my_share(tensor.to(parameter.device, copy=True), parameter)


def mesh_of(tensor: Tensor) -> DeviceMesh | None:
    """The processes that hold shares of a tensor; None for a plain one."""
    return tensor.device_mesh if is_shared(tensor) else None


def by_mesh(tensors: Iterable[TensorT]) -> list[list[TensorT]]:
    """The tensors in groups that torch's fused operations take together: those of one mesh."""
    groups: dict[DeviceMesh | None, list[TensorT]] = {}
    for tensor in tensors:
        groups.setdefault(mesh_of(tensor), []).append(tensor)
    return list(groups.values())


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The 2-norm of all gradients as one vector, whole on every process; every process must call it."""
    norms = [whole(torch.nn.utils.get_total_norm(group)) for group in by_mesh(gradients)]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def my_share(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, the same on every process, in the shares of `parameter`; as it is for a plain one.

    Nothing is sent.
    """
    if not is_shared(parameter):
        return tensor
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor.placement_types import Shard, _StridedShard

    local, mesh = tensor, parameter.device_mesh
    # From the last dimension of the mesh on: FSDP2 cuts what tensor parallelism has cut before it, and says so by a
    # strided placement of the first dimension.
    for dimension in reversed(range(mesh.ndim)):
        placement = parameter.placements[dimension]
        if isinstance(placement, Shard | _StridedShard):
            parts = torch.chunk(local, mesh.size(dimension), dim=placement.dim)
            at = mesh.get_local_rank(dimension)
            local = parts[at] if at < len(parts) else local.narrow(placement.dim, 0, 0)
    return DTensor.from_local(
        local.clone(memory_format=torch.contiguous_format),
        mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
