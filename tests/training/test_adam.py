"""AdamW against torch's own class, bit for bit."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llmforge.training.adam import AdamW, Group

SHAPES = [(5, 3), (7,), (1,)]


def _parameters(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    rates=st.lists(st.floats(1e-5, 0.3), min_size=1, max_size=6),
    decay=st.floats(0, 0.5),
    ratio=st.floats(0.01, 10),
    without=st.integers(0, 2),
)
def test_it_steps_as_torchs_own(seed: int, rates: list[float], decay: float, ratio: float, without: int) -> None:
    ours, theirs = _parameters(seed), _parameters(seed)
    adam = AdamW([Group(ours[:2], ratio, decay), Group(ours[2:], 1.0, 0.0)], (0.9, 0.95), 1e-8)
    groups = [{"params": theirs[:2], "weight_decay": decay}, {"params": theirs[2:], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
    for step, rate in enumerate(rates):
        reference.param_groups[0]["lr"], reference.param_groups[1]["lr"] = rate * ratio, rate
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            gradient = None if step == 0 and number == without else torch.sin(mine.detach() * (step + 2))
            mine.grad, other.grad = gradient, gradient
        adam.step(rate)
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
        assert adam.state.get(mine, {}).keys() == reference.state.get(other, {}).keys()
        for kind, value in adam.state.get(mine, {}).items():
            assert torch.equal(value, reference.state[other][kind]), kind


def test_an_update_with_found_inf_changes_nothing() -> None:
    (parameter, *_) = _parameters(1)
    adam = AdamW([Group([parameter], 1.0, 0.1)], (0.9, 0.95), 1e-8)
    parameter.grad = torch.ones_like(parameter)
    adam.step(0.1)
    before = [parameter.detach().clone(), *(value.clone() for value in adam.state[parameter].values())]
    parameter.grad = torch.full_like(parameter, float("nan"))
    adam.step(0.1, found_inf=torch.ones(()))
    after = [parameter.detach(), *adam.state[parameter].values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
