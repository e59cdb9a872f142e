"""Averaged weights: beside those that are trained, a running mean of them that is what a run shows and hands on.

Knows no file: the average goes into every saved state as the best weights do, and comes back with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from llmforge.training.optimizer import trainable
from llmforge.training.settings import Averaging
from llmforge.training.shares import like


def kept_share(decay: float, step: int) -> float:
    """The share of the average that update number `step` (from 1) keeps: (1 + step) / (10 + step), at most `decay`.

    The ramp is that of TensorFlow's ExponentialMovingAverage: the start, which is far from anything useful, is
    forgotten before the average grows long.
    """
    return min(decay, (1 + step) / (10 + step))


class Average:
    """The running mean of a model's trained parameters, by name; without settings there is none and nothing happens."""

    def __init__(self, settings: Averaging | None) -> None:
        self.settings = settings
        self.values: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the weights after `step` updates; the first time it becomes the weights."""
        if self.settings is None:
            return
        weights = trainable(model)
        if not self.values:
            self.values = {name: value.detach().clone() for name, value in weights.items()}
            return
        share = 1 - kept_share(self.settings.decay, step)
        torch._foreach_lerp_([self.values[name] for name in weights], list(weights.values()), share)

    def restore(self, saved: Mapping[str, Tensor], model: nn.Module) -> None:
        """Takes the average of a saved state, in the place and the shares of the model's parameters.

        Without settings there is nothing to take: an average that nothing moves on would end as the run's weights.
        """
        if self.settings is None:
            return
        parameters = trainable(model)
        self.values = {name: like(value, parameters[name]) for name, value in saved.items()}

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        """What the run would hand on now: the average, or where there is none the parameters themselves."""
        return self.values or trainable(model)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights inside the `with`, and with its own again behind it."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    def settle(self, model: nn.Module) -> None:
        """Leaves the averaged weights in the model for good, when training is over."""
        self._swap(model)
        self.forget()

    def forget(self) -> None:
        """Ends the averaging: the model's own weights are those that count."""
        self.settings, self.values = None, {}

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        parameters = trainable(model)
        for name, value in self.values.items():
            kept = parameters[name].detach().clone()
            parameters[name].copy_(value)
            value.copy_(kept)
