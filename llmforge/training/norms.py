"""Norms of gradients and of what a step changes, by group of parameters: which part of a model learns, and how fast.

Takes parameters and each one's group; the figures stay on the device until a line is written. Knows no optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from llmforge.training.loop_parts import Loop
from llmforge.training.shares import total_norm


class GroupNorms:
    """The Euclidean norm over all parameters of a group: of gradients, of changes, and of the weights themselves."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], loop: Loop) -> None:
        self._every = loop.train.log_every if loop.train.log_norms else None
        self._groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            self._groups.setdefault(loop.roles.get(name, "other"), []).append(parameter)
        self._found: dict[str, Tensor] = {}

    def _due(self, step: int) -> bool:
        return self._every is not None and step % self._every == 0

    def gradients(self, step: int) -> None:
        """The gradients of step number `step` before they are cut; where its norms are due."""
        if not self._due(step):
            return
        for group, members in self._groups.items():
            self._found[f"gradient.{group}"] = _norm([value.grad for value in members if value.grad is not None])

    @contextmanager
    def around(self, step: int) -> Iterator[None]:
        """Around the optimizer's step number `step`; where its norms are due, the weights are copied for its time."""
        if not self._due(step):
            yield
            return
        before = {group: [value.detach().clone() for value in members] for group, members in self._groups.items()}
        yield
        for group, members in self._groups.items():
            changes = [now.detach() - then for now, then in zip(members, before[group], strict=True)]
            self._found[f"update.{group}"] = _norm(changes)
            self._found[f"weight.{group}"] = _norm([value.detach() for value in members])

    def close(self) -> dict[str, dict[str, float]]:
        """`gradient_norm`, `update_norm` and `weight_norm` by group of the step that was watched last; then none."""
        found: dict[str, dict[str, float]] = {}
        if self._found:
            values = torch.stack([value.float() for value in self._found.values()]).tolist()
            for key, value in zip(self._found, values, strict=True):
                kind, group = key.split(".")
                found.setdefault(f"{kind}_norm", {})[group] = value
        self._found.clear()
        return found


def _norm(tensors: list[Tensor]) -> Tensor:
    return total_norm(tensors) if tensors else torch.zeros(())
