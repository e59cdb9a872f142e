"""One optimizer for a run: Muon for the matrices and AdamW for the rest, or AdamW for all; state by parameter name.

Takes parameters with their roles (`matrix`, `embedding`, `head`, `vector`) from the caller; knows no model and no
schedule: the share of the full rates comes with every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llmforge.errors import DataError
from llmforge.training.adam import AdamW, Group
from llmforge.training.muon import Muon
from llmforge.training.settings import OptimizerSettings
from llmforge.training.shares import by_mesh, like, to_save

_ADAM_TENSORS = ("exp_avg", "exp_avg_sq", "step")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name; a tied one once."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


class Optimizer:
    """Steps all trained parameters at `factor` times their rates."""

    def __init__(self, model: nn.Module, roles: Mapping[str, str], settings: OptimizerSettings) -> None:
        assert isinstance(settings.lr, float) and settings.betas is not None and settings.weight_decay is not None
        self.settings, self.rate, self.decay = settings, settings.lr, settings.weight_decay
        self.parameters = trainable(model)
        matrices = {name for name in self.parameters if settings.name == "muon" and roles[name] == "matrix"}
        self.muon = None
        if matrices:
            assert settings.momentum is not None
            members = {name: self.parameters[name] for name in sorted(matrices)}
            # `auto` looks at the tokens of a step, which the stages know; whoever comes without them gets the whole.
            block = None if settings.block_rows == "auto" else settings.block_rows or None
            # In the precision of the run: who asks for fp32 gets it, and a CPU without bf16 would be slow at it.
            dtype = getattr(model, "compute_dtype", torch.float32)
            self.muon = Muon(members, settings.momentum, self.decay, block, settings.block_period or 0, dtype)
        groups = self._groups({name: roles[name] for name in self.parameters if name not in matrices})
        self.adam = AdamW(groups, settings.betas, settings.eps) if groups else None

    def _groups(self, roles: dict[str, str]) -> list[Group]:
        chosen = self.settings
        ratios: dict[str, float | None] = dict.fromkeys(roles.values(), 1.0)
        if chosen.name == "muon":
            ratios |= {
                "embedding": chosen.embedding_lr_ratio,
                "head": chosen.head_lr_ratio,
                "vector": chosen.vector_lr_ratio,
            }
        groups = []
        for role in sorted(set(roles.values())):
            members = [self.parameters[name] for name in roles if roles[name] == role]
            decay, ratio = 0.0 if role == "vector" else self.decay, ratios[role]
            assert ratio is not None
            for shared_alike in by_mesh(members):  # what the fused kernel takes together
                groups.append(Group(shared_alike, ratio, decay))
        return groups

    def step(self, factor: float, finite: Tensor) -> None:
        """One update; where `finite` (a bool on the parameters' device) is false, none."""
        if finite.device.type == "cpu" and not bool(finite):
            return
        if self.muon is not None:
            self.muon.step(self.rate * factor, finite)
        if self.adam is not None:
            # The fused kernels leave everything as it is where found_inf is 1, without asking the host.
            found_inf = None if finite.device.type == "cpu" else 1.0 - finite.to(torch.float32)
            self.adam.step(self.rate * factor, found_inf)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """All tensors by name and kind, as `to_save` gives them, and the counts; every process must call it."""
        tensors: dict[str, Tensor] = {}
        if self.muon is not None:
            tensors |= {f"{name}.momentum": to_save(value) for name, value in self.muon.moments.items()}
            tensors |= {f"{name}.variance": value for name, value in self.muon.variances.items()}
        for name, parameter in self.parameters.items():
            for kind, value in (self.adam.state.get(parameter, {}) if self.adam is not None else {}).items():
                tensors[f"{name}.{kind}"] = to_save(value)
        return tensors, {"updates": self.muon.updates if self.muon is not None else 0}

    def load(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Puts back what `state` gave.

        Raises:
            DataError: it is that of another optimizer, whose moments mean something else.
        """
        self._refuse_other(tensors)
        if self.muon is not None:
            self.muon.updates = int(meta["updates"])
            for name, parameter in self.muon.parameters.items():
                self.muon.moments[name] = like(tensors[f"{name}.momentum"], parameter)
                self.muon.variances[name] = tensors[f"{name}.variance"].to(parameter.device, copy=True)
        if self.adam is None:
            return
        names = {id(value): name for name, value in self.parameters.items()}
        for group in self.adam.groups:
            for parameter in group.parameters:
                name = names[id(parameter)]
                kept = {kind: tensors[f"{name}.{kind}"] for kind in _ADAM_TENSORS if f"{name}.{kind}" in tensors}
                self.adam.state.pop(parameter, None)  # a run that goes back to its start has stepped already
                if kept:
                    step = kept.pop("step").to(parameter.device, torch.float32, copy=True)
                    self.adam.state[parameter] = {"step": step, **{k: like(v, parameter) for k, v in kept.items()}}

    def _refuse_other(self, tensors: Mapping[str, Tensor]) -> None:
        ours = set(self.muon.parameters) if self.muon is not None else set()
        theirs = {name for name in self.parameters if f"{name}.momentum" in tensors}
        if ours != theirs:
            other = "muon" if theirs else "adamw"
            what = f"the saved state is that of {other}, which {self.settings.name} cannot go on from"
            hint = "put optimizer.name back; or start another run from the weights of this one (its model folder)"
            raise DataError(what, "optimizer.name", hint)
