"""Muon: momentum whose update is made orthogonal, so that every direction of a matrix learns at the same rate.

Keller Jordan et al., https://kellerjordan.github.io/posts/muon/; the iteration is Polar Express
(https://arxiv.org/abs/2505.16932) started as in Turbo-Muon (https://arxiv.org/abs/2512.04632), which saves one round of
five; the rows are evened out as in NorMuon (https://arxiv.org/abs/2510.05491). Most steps may work on blocks of rows
alone (MuonBP, https://arxiv.org/abs/2510.16981).
Takes 2-D parameters only; knows no schedule and no model. Matrices of one shape are worked on together.

Dimensions: K matrices, R rows (outputs), C columns (inputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llmforge.training.shares import is_shared, my_share, whole

# Each row is the best odd polynomial (a, b, c) of degree 5 for where the singular values stand by then, computed for
# singular values from 3e-3 on, with a safety factor of 1.02 (Polar Express, algorithm 1).
POLAR_EXPRESS = (
    (8.057946940917102, -22.052222985465548, 15.540740165669591),
    (3.9263511873286556, -2.7537971124820406, 0.49735454452543726),
    (3.4544715145003777, -2.487545627485725, 0.47751291446790844),
    (2.511526304924206, -1.8524476347773466, 0.4388325585343218),
)
SAFETY = 1.02
MOMENTUM_START = 0.85
MOMENTUM_STEPS = 300
ROW_BETA = 0.95
_TINY = 1e-10
_NOTHING = 1e-30  # squares of gradients that are as good as none
# numbers of the matrices that are worked on together: what the iteration takes besides must fit a GPU that is full
_AT_ONCE = 1 << 28


def orthogonalize(matrices: Tensor, gain: float = 1.0) -> Tensor:
    """(K, R, C) -> `gain` times the nearest semi-orthogonal matrices U V^T of each U S V^T, about (values .8 to 1.2).

    Works in the dtype of the matrices: bf16 is enough and the fastest. The rows are scaled first by what brings no
    singular value above 1 and most of them close to it (https://arxiv.org/abs/2208.03160): a better start than the norm
    of the whole, at the price of a slightly other polar factor. The scale goes into the first polynomial, the gain into
    the last, so that the matrices themselves are only ever multiplied: on a CPU the passes over them would take as long
    as the products.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).contiguous()
    for number, coefficients in enumerate(POLAR_EXPRESS):
        factor = gain if number == len(POLAR_EXPRESS) - 1 else 1.0
        a, b, c = (factor * value for value in coefficients)
        gram = x @ x.mT  # (K, R, R)
        scale, gram = _scaled(gram) if number == 0 else (None, gram)
        poly = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        torch.diagonal(poly, dim1=-2, dim2=-1).add_(a)  # a whole pass over x less than to add it there
        x = (poly if scale is None else (poly * scale.mT).to(x.dtype)) @ x  # (K, R, C)
    return x.mT if tall else x


def _scaled(gram: Tensor) -> tuple[Tensor, Tensor]:
    """(K, R, R) -> what each row is multiplied with, fp32 (K, R, 1), and the products of the rows so scaled.

    Rows a hundred thousand times smaller than the whole are left small, and a matrix without a gradient at nothing.
    """
    sums = gram.abs().sum(dim=-1, keepdim=True, dtype=torch.float32)
    whole_square = torch.diagonal(gram, dim1=-2, dim2=-1).sum(dim=-1, dtype=torch.float32)[:, None, None]
    scale = (sums + _TINY * whole_square + _NOTHING).rsqrt() / SAFETY
    # Multiplied before it is rounded: a rounded scale would carry one bit of difference over a whole row.
    return scale, (gram * scale * scale.mT).to(gram.dtype)


def orthogonalize_blocks(matrices: Tensor, size: int | None) -> Tensor:
    """(K, R, C) -> each `size` rows (columns where there are more) made orthogonal by themselves; None: the whole.

    The result has the norm that the whole would have. Cut so, a matrix costs a fraction: work grows with the square
    of the shorter side (MuonBP cuts where devices do; GLM-5 by heads).
    """
    wide = matrices.shape[-1] > matrices.shape[-2]
    x = matrices.mT if wide else matrices  # (K, L, S), L >= S
    count, length, short = x.shape
    if size is None or size >= short:
        return orthogonalize(matrices)
    blocks = -(-length // size)
    if blocks * size > length:
        x = torch.nn.functional.pad(x, (0, 0, 0, blocks * size - length))  # rows of zeros stay zeros
    parts = orthogonalize(x.reshape(count * blocks, size, short), (short / length) ** 0.5)
    found = parts.reshape(count, blocks * size, short)[:, :length]
    return found.mT if wide else found


def evening(updates: Tensor, variance: Tensor, weight: Tensor | float) -> Tensor:
    """What each row (each column where there are more) is multiplied with, so that its running size evens out.

    updates (K, R, C); variance (K, R, 1) or (K, 1, C) fp32 is moved towards this step's by `weight`, in place; the
    factors (the shape of variance) leave each matrix its norm.
    """
    along = -1 if updates.shape[-2] >= updates.shape[-1] else -2
    norm = torch.linalg.vector_norm(updates, dim=along, keepdim=True, dtype=torch.float32)
    mean = norm.square() / updates.shape[along]
    variance.lerp_(mean, weight)
    scale = variance.clamp_min(_TINY).rsqrt()
    before = mean.sum(dim=(-2, -1), keepdim=True)
    after = (mean * scale.square()).sum(dim=(-2, -1), keepdim=True)
    factors: Tensor = scale * (before / after.clamp_min(_TINY)).sqrt()
    return factors


def variance_shape(rows: int, columns: int) -> tuple[int, int]:
    """The shape of what `even_out` keeps for one matrix."""
    return (rows, 1) if rows >= columns else (1, columns)


def momentum_at(update: int, top: float) -> float:
    """From .85 up to `top`, over the first 300 updates."""
    low = min(MOMENTUM_START, top)
    return low + (top - low) * min(1.0, update / MOMENTUM_STEPS)


class Muon:
    """Updates a set of matrices; state by name: `momentum` (like the parameter) and `variance`."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        momentum: float,
        weight_decay: float,
        block: int | None = None,
        period: int = 0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        """`block`: how many rows are made orthogonal together, as `orthogonalize_blocks`; None: the whole matrix.

        Every `period` updates, the first among them, it is the whole matrix all the same; 0: never. `dtype` is that of
        the iteration: bf16 is enough, but a last bit of a gradient (sums in another order, by another number of
        processes) moves the loss by 1e-3 in thirty steps; by less than 1e-5 with fp32.
        """
        assert all(value.ndim == 2 for value in parameters.values()), "Muon takes matrices"
        self.block, self.period, self.dtype = block, period, dtype
        self.parameters, self.momentum, self.weight_decay = parameters, momentum, weight_decay
        self.moments = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self.variances = {
            name: torch.zeros(variance_shape(*value.shape), dtype=torch.float32, device=value.device)
            for name, value in parameters.items()
        }
        self.updates = 0
        shapes: dict[tuple[int, int], list[str]] = {}
        for name, value in parameters.items():
            shapes.setdefault((value.shape[0], value.shape[1]), []).append(name)
        self._groups = []
        for (rows, columns), names in shapes.items():
            count = max(1, _AT_ONCE // (rows * columns))
            self._groups += [names[at : at + count] for at in range(0, len(names), count)]

    @torch.no_grad()
    def step(self, rate: float, finite: Tensor) -> None:
        """One update of every matrix that has a gradient, at `rate` times sqrt(max(1, R / C)).

        Where `finite` (a bool on the device) is false nothing changes.
        """
        if finite.device.type == "cpu" and not bool(finite):
            return
        momentum = momentum_at(self.updates, self.momentum)
        for names in self._groups:
            named = [name for name in names if self.parameters[name].grad is not None]
            if named:
                self._update(named, rate, momentum, finite)
        self.updates += 1

    def _update(self, names: Sequence[str], rate: float, momentum: float, finite: Tensor) -> None:
        applied = finite.to(torch.float32)
        rows, columns = self.parameters[names[0]].shape
        directions = torch.empty(len(names), rows, columns, dtype=self.dtype, device=finite.device)
        # Matrix by matrix, so that what is read again still lies in a CPU's cache.
        for name, direction in zip(names, directions, strict=True):
            direction.copy_(self._direction(name, momentum, finite))
        at_once = self.period and self.updates % self.period == 0
        updates = orthogonalize_blocks(directions, None if at_once else self.block)  # (K, R, C)
        variance = torch.stack([self.variances[name] for name in names])
        scale = evening(updates, variance, applied * (1 - ROW_BETA))
        scale *= applied * (-rate * max(1.0, rows / columns) ** 0.5)
        for index, name in enumerate(names):
            self.variances[name] = variance[index]
            parameter = self.parameters[name]
            if self.weight_decay:
                parameter.mul_(1 - rate * self.weight_decay * applied)
            parameter.add_(my_share(updates[index] * scale[index], parameter))

    def _direction(self, name: str, momentum: float, finite: Tensor) -> Tensor:
        """Moves the average of a matrix's gradients and returns where Nesterov's momentum points, fp32 (R, C)."""
        parameter, weight = self.parameters[name], 1 - momentum
        assert parameter.grad is not None
        if is_shared(parameter) or finite.device.type != "cpu":
            grad = whole(torch.where(finite, parameter.grad, 0.0))
            moment = whole(self.moments[name]).lerp(grad, finite.to(torch.float32) * weight)
            self.moments[name] = my_share(moment, parameter)
        else:
            grad, moment = parameter.grad, self.moments[name].lerp_(parameter.grad, weight)
        return grad.lerp(moment, momentum)
