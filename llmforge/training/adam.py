"""AdamW (https://arxiv.org/abs/1711.05101) by torch's fused kernel, for groups of parameters with rates of their own.

torch's own class of that name loads the whole compiler, a second of every start, to tell it to keep its hands off; its
function does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw


@dataclass
class Group:
    """Parameters that take their rate times `ratio`, and their decay, together."""

    parameters: Sequence[nn.Parameter]
    ratio: float
    weight_decay: float


@dataclass
class AdamW:
    """Steps all groups; state by parameter: `exp_avg` and `exp_avg_sq` (as the parameter), `step` (an fp32 scalar)."""

    groups: Sequence[Group]
    betas: tuple[float, float]
    eps: float
    state: dict[nn.Parameter, dict[str, Tensor]] = field(default_factory=dict)

    @torch.no_grad()
    def step(self, rate: float, found_inf: Tensor | None = None) -> None:
        """One update of every parameter that has a gradient; where `found_inf` (a scalar on the device) is 1, none."""
        for group in self.groups:
            moving = [value for value in group.parameters if value.grad is not None]
            states = [self._state(value) for value in moving]
            adamw(
                list(moving),
                [value.grad for value in moving if value.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                found_inf=found_inf,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=rate * group.ratio,
                weight_decay=group.weight_decay,
                eps=self.eps,
                maximize=False,
            )

    def _state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        return self.state[parameter]
