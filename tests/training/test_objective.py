"""The summed cross-entropy and its gradients against a loop over tokens in float64."""

from __future__ import annotations

import math

import pytest
import torch
from toy import ToyModel, toy_batch

from llmforge.tokens.batch import Batch
from llmforge.training import objective
from llmforge.training.objective import CausalLMObjective, summed_cross_entropy, token_cross_entropy


def by_hand(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(hidden.double(), labels.tolist(), strict=True):
        if label != -100:
            logits = weight.double() @ row
            total = total + (logits - logits.max()).exp().sum().log() + logits.max() - logits[label]
    return total


@pytest.mark.parametrize("limit", [1, 40, 1 << 20])
def test_loss_and_gradients_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setitem(objective._CHUNK_LOGITS, "cpu", limit)
    torch.manual_seed(0)
    hidden = torch.randn(11, 6, requires_grad=True)
    weight = torch.randn(9, 6, requires_grad=True)
    labels = torch.tensor([3, -100, 8, 0, 1, -100, 2, 2, 7, -100, 5])
    loss = summed_cross_entropy(hidden, weight, labels)
    grads = torch.autograd.grad(loss * 0.25, [hidden, weight])
    reference = by_hand(hidden, weight, labels)
    expected = torch.autograd.grad(reference * 0.25, [hidden, weight])
    assert loss.dtype == torch.float32 and float(loss.detach()) == pytest.approx(float(reference.detach()), rel=1e-6)
    for found, wanted in zip(grads, expected, strict=True):
        torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-6)
    tokens = token_cross_entropy(hidden.detach(), weight.detach(), labels)
    assert float(tokens.sum()) == pytest.approx(float(reference.detach()), rel=1e-6)
    assert tokens[1] == 0


def test_bf16_is_near_and_keeps_dtypes() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 16), torch.randn(30, 16)
    labels = torch.randint(0, 30, (50,))
    low, master = hidden.bfloat16().requires_grad_(), weight.clone().requires_grad_()
    loss = summed_cross_entropy(low, master, labels)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(by_hand(hidden, weight, labels).detach()), rel=1e-2)
    assert low.grad is not None and low.grad.dtype == torch.bfloat16
    assert master.grad is not None and master.grad.dtype == torch.float32


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight = torch.randn(4, 6, requires_grad=True), torch.randn(9, 6)
    summed_cross_entropy(hidden, weight, torch.tensor([1, 2, 3, 4])).backward()
    assert hidden.grad is not None and weight.grad is None


def test_few_trained_positions_give_the_same_loss() -> None:
    model = CausalLMObjective(ToyModel())
    batch = toy_batch(0)
    few = batch.labels.clone()
    few[:, :6] = -100
    sparse = Batch(batch.input_ids, few)
    assert sparse.num_trained < 0.75 * few.numel()
    assert float(model(sparse).detach()) == pytest.approx(float(model(sparse, by_token=True).sum().detach()), rel=1e-6)
    nothing = Batch(batch.input_ids, torch.full_like(few, -100))
    assert float(model(nothing).detach()) == 0.0


def test_a_uniform_model_pays_log_v_for_each_label() -> None:
    model = ToyModel()
    torch.nn.init.zeros_(model.lm_head.weight)
    batch = toy_batch(1)
    loss = CausalLMObjective(model)(batch)
    assert float(loss.detach()) == pytest.approx(batch.num_trained * math.log(23), rel=1e-6)


def test_torchs_own_fused_loss_agrees() -> None:
    """torch 2.13's F.linear_cross_entropy, another implementation of the same chunked idea."""
    fused = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if fused is None:
        pytest.skip("this torch has no linear_cross_entropy")
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 16, requires_grad=True), torch.randn(300, 16, requires_grad=True)
    labels = torch.randint(0, 300, (64,))
    labels[::5] = -100
    ours = summed_cross_entropy(hidden, weight, labels)
    found = torch.autograd.grad(ours, [hidden, weight])
    theirs = fused(hidden, weight, labels, reduction="sum")
    wanted = torch.autograd.grad(theirs, [hidden, weight])
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
