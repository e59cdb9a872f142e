"""Muon against the singular value decomposition and a plain numpy step; AdamW against torch's own, one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import ROLES, ToyModel, toy_batch

from llmforge.training.muon import (
    POLAR_EXPRESS,
    Muon,
    evening,
    momentum_at,
    orthogonalize,
    orthogonalize_blocks,
    variance_shape,
)
from llmforge.training.objective import CausalLMObjective
from llmforge.training.optimizer import Optimizer
from llmforge.training.settings import OptimizerSettings

YES = torch.tensor(True)
NO = torch.tensor(False)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 24, 8), (2, 8, 24)])
def test_the_result_is_near_the_polar_factor(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalize(matrices)
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    low = orthogonalize(matrices.bfloat16())
    assert low.dtype == torch.bfloat16
    for near in (found, low.float()):
        singular = torch.linalg.svdvals(near)
        assert singular.min() > 0.75 and singular.max() < 1.25
        assert float((near - u @ vt).norm() / (u @ vt).norm()) < 0.45
        assert float((near * (u @ vt)).sum() / (near.norm() * (u @ vt).norm())) > 0.92


def test_the_iteration_acts_on_singular_values_alone() -> None:
    diagonal = torch.diag(torch.tensor([1.0, 0.3, 0.05]))[None]
    values = np.full(3, 1 / 1.02)  # rows that are orthogonal already have all the same size after the scaling
    for a, b, c in POLAR_EXPRESS:
        values = a * values + b * values**3 + c * values**5
    np.testing.assert_allclose(torch.diagonal(orthogonalize(diagonal)[0]).numpy(), values, rtol=1e-4)


def numpy_step(weight: np.ndarray, grad: np.ndarray, moment: np.ndarray, variance: np.ndarray, rate: float) -> tuple:
    moment = 0.85 * moment + 0.15 * grad
    direction = 0.15 * grad + 0.85 * moment
    tall = direction.shape[0] > direction.shape[1]
    x = direction.T if tall else direction
    x = x / np.sqrt(np.abs(x @ x.T).sum(axis=1, keepdims=True)) / 1.02
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.T if tall else x
    axis = 1 if x.shape[0] >= x.shape[1] else 0
    mean = (x**2).mean(axis=axis, keepdims=True)
    variance = 0.95 * variance + 0.05 * mean
    y = x / np.sqrt(np.maximum(variance, 1e-10))
    y = y * np.linalg.norm(x) / np.linalg.norm(y)
    rows, columns = weight.shape
    return weight - rate * np.sqrt(max(1.0, rows / columns)) * y, moment, variance


@pytest.mark.parametrize("shape", [(12, 12), (20, 8), (8, 20)])
def test_a_step_is_the_recipe(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(*shape, generator=generator))
    muon = Muon({"w": weight}, momentum=0.85, weight_decay=0.0, dtype=torch.float32)
    state = (weight.detach().numpy().astype(np.float64), np.zeros(shape), np.zeros(variance_shape(*shape)))
    for _ in range(3):
        weight.grad = torch.randn(*shape, generator=generator)
        state = numpy_step(state[0], weight.grad.double().numpy(), state[1], state[2], 0.04)
        muon.step(0.04, YES)
        np.testing.assert_allclose(weight.detach().numpy(), state[0], atol=2e-5)


def test_evened_rows_keep_the_norm_of_the_whole() -> None:
    updates = (
        torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 1, 1, 1, 5.0])[:, None]
    )
    variance = torch.zeros(2, 6, 1)
    found = updates * evening(updates, variance, 1.0)
    torch.testing.assert_close(found.norm(dim=(1, 2)), updates.norm(dim=(1, 2)))
    rows = found.norm(dim=2)
    torch.testing.assert_close(rows, rows.mean(dim=1, keepdim=True).expand_as(rows))


def test_momentum_rises() -> None:
    assert momentum_at(0, 0.95) == 0.85
    assert momentum_at(150, 0.95) == pytest.approx(0.90)
    assert momentum_at(900, 0.95) == 0.95
    assert momentum_at(0, 0.5) == 0.5


def trained(settings: OptimizerSettings, steps: int = 3) -> tuple[ToyModel, Optimizer]:
    model = ToyModel()
    optimizer = Optimizer(model, ROLES, settings)
    for step in range(steps):
        CausalLMObjective(model)(toy_batch(step)).backward()
        optimizer.step(0.5, YES)
        optimizer.zero_grad()
    return model, optimizer


def test_adamw_is_torchs() -> None:
    settings = OptimizerSettings(name="adamw", lr=0.02, weight_decay=0.1, betas=(0.9, 0.95))
    model, _ = trained(settings)
    reference = ToyModel()
    apart = {
        name: torch.optim.AdamW(
            [value], lr=0.01, betas=(0.9, 0.95), weight_decay=0.0 if "gain" in name else 0.1, foreach=False, fused=False
        )
        for name, value in reference.named_parameters()
    }
    for step in range(3):
        CausalLMObjective(reference)(toy_batch(step)).backward()
        for optimizer in apart.values():
            optimizer.step()
            optimizer.zero_grad()
    for (name, found), (_, wanted) in zip(model.named_parameters(), reference.named_parameters(), strict=True):
        torch.testing.assert_close(found, wanted, msg=name)


def test_the_ratios_set_the_rates_of_the_rest() -> None:
    start = ToyModel()
    settings = OptimizerSettings(lr=0.04)
    model, _ = trained(settings, steps=1)
    for name, ratio in (("embed_tokens.weight", 7.5), ("lm_head.weight", 0.075), ("layers.0.gain", 0.5)):
        moved = (dict(model.named_parameters())[name] - dict(start.named_parameters())[name]).abs().max()
        # The first step of Adam moves by the rate; half of it here.
        assert float(moved.detach()) == pytest.approx(0.04 * ratio * 0.5, rel=1e-3), name


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_step_that_is_not_finite_changes_nothing(name: str) -> None:
    model, optimizer = trained(OptimizerSettings.model_validate({"name": name}))
    before, counts = optimizer.state()
    before = {key: value.clone() for key, value in before.items()}
    weights = {key: value.detach().clone() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.step(1.0, NO)
    after, _ = optimizer.state()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(torch.equal(weights[key], value) for key, value in model.named_parameters())


def test_on_a_device_the_flag_alone_holds_muon_back() -> None:
    model, optimizer = trained(OptimizerSettings())
    assert optimizer.muon is not None
    weights = {key: value.detach().clone() for key, value in model.named_parameters()}
    moments = {key: value.clone() for key, value in optimizer.muon.moments.items()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.muon.step(1.0, NO)
    assert all(torch.equal(weights[key], value) for key, value in model.named_parameters())
    assert all(torch.equal(moments[key], value) for key, value in optimizer.muon.moments.items())


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_state_goes_out_and_in(name: str) -> None:
    settings = OptimizerSettings.model_validate({"name": name})
    model, optimizer = trained(settings)
    tensors, counts = optimizer.state()
    other = ToyModel()
    other.load_state_dict(model.state_dict())
    resumed = Optimizer(other, ROLES, settings)
    resumed.load(tensors, counts)
    for pair in ((model, optimizer), (other, resumed)):
        CausalLMObjective(pair[0])(toy_batch(9)).backward()
        pair[1].step(1.0, YES)
    for found, wanted in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (12, 12)])
def test_blocks_are_orthogonal_by_themselves_at_the_norm_of_the_whole(shape: tuple[int, int]) -> None:
    matrices = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalize_blocks(matrices, 4)
    tall, made = (x.mT if shape[1] > shape[0] else x for x in (matrices, found))
    length, short = tall.shape[1:]
    for matrix, result in zip(tall, made, strict=True):
        for start in range(0, length, 4):
            u, _, vt = torch.linalg.svd(matrix[start : start + 4], full_matrices=False)
            polar = (u @ vt) * (short / length) ** 0.5
            assert float((result[start : start + 4] - polar).norm() / polar.norm()) < 0.45
    torch.testing.assert_close(found.norm(dim=(1, 2)), torch.full((2,), float(short) ** 0.5), rtol=0.15, atol=0)


def test_a_last_block_that_is_not_full_and_one_of_all_rows() -> None:
    matrices = torch.randn(1, 10, 8, generator=torch.Generator().manual_seed(0))
    found = orthogonalize_blocks(matrices, 4)
    alone = orthogonalize(matrices[:, 8:]) * 0.8**0.5
    torch.testing.assert_close(found[:, 8:], alone)
    for size in (None, 8, 100):
        torch.testing.assert_close(orthogonalize_blocks(matrices, size), orthogonalize(matrices))


def test_every_so_many_updates_work_on_whole_matrices() -> None:
    generator = torch.Generator().manual_seed(2)
    grads = [torch.randn(12, 8, generator=generator) for _ in range(4)]

    def weights(block: int | None, period: int) -> list[torch.Tensor]:
        weight = torch.nn.Parameter(torch.zeros(12, 8))
        muon = Muon({"w": weight}, momentum=0.95, weight_decay=0.0, block=block, period=period)
        seen = []
        for grad in grads:
            weight.grad = grad
            before = weight.detach().clone()
            muon.step(0.1, YES)
            seen.append(weight.detach() - before)
        return seen

    whole, blocks, mixed = weights(None, 0), weights(4, 0), weights(4, 3)
    assert torch.equal(mixed[0], whole[0]) and not torch.equal(blocks[0], whole[0])
    assert all(not torch.equal(mixed[at], whole[at]) for at in (1, 2))
    first = weights(4, 1)
    assert all(torch.equal(one, other) for one, other in zip(first, whole, strict=True))


def test_the_iteration_has_the_precision_of_the_run() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = ToyModel()
        model.compute_dtype = dtype  # type: ignore[assignment]
        assert Optimizer(model, ROLES, OptimizerSettings()).muon.dtype == dtype  # type: ignore[union-attr]


def test_the_setting_reaches_muon() -> None:
    assert Optimizer(ToyModel(), ROLES, OptimizerSettings(block_rows=4)).muon.block == 4  # type: ignore[union-attr]
    assert Optimizer(ToyModel(), ROLES, OptimizerSettings(block_period=7)).muon.period == 7  # type: ignore[union-attr]
    assert Optimizer(ToyModel(), ROLES, OptimizerSettings()).muon.block is None  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="block_rows only with name: muon"):
        OptimizerSettings(name="adamw", block_rows=4)
