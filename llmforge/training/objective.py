"""The objective of next-token prediction: a batch in, the summed cross-entropy out.

Works with any model whose call makes hidden states of ids and that names its head's weight; knows no particular one.
The head and the loss run over chunks of positions, so that logits never stand in memory as a whole, and the gradient of
the logits is taken in the same pass: nothing is computed twice.

Dimensions: B batch, T time, N positions of a chunk, C channels, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmforge.tokens.batch import IGNORED, Batch
from llmforge.training.compiler import compile_layers

# logits (fp32) of a chunk: small enough for a CPU's last-level cache, large enough to keep a GPU busy
_CHUNK_LOGITS = {"cpu": 4 << 20, "cuda": 1 << 28}
# below this share of trained positions the head is computed for those only
_FEW = 0.75


class Objective(Protocol):
    """What the trainer trains: a module that holds `model` and turns a batch into a summed loss (fp32 scalar)."""

    model: nn.Module

    def __call__(self, batch: Batch) -> Tensor:
        """The sum of the losses of all trained positions."""


class CausalLMObjective(nn.Module):
    """The summed cross-entropy of a batch's labels under a causal language model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.compiled = False
        self._few_trained, self._loss_of_few, self._loss = _few_trained, _loss_of_few, summed_cross_entropy

    def compile(self, *args: Any, **options: Any) -> None:
        """As for any module; what chooses by the data stays outside the graph.

        So does the loss of few positions: their number is another in every batch, and each would be compiled anew.
        """
        # Said only now, since to say it loads the compiler.
        self._few_trained = torch.compiler.disable(_few_trained)  # type: ignore[no-untyped-call]
        self._loss_of_few = torch.compiler.disable(_loss_of_few)  # type: ignore[no-untyped-call]
        self.compiled = True
        super().compile(*args, **options)

    def compile_by_layer(self, **options: Any) -> None:
        """Compiles one layer for all, and the loss; what is between them, and the choice of the loss, as written."""
        compile_layers(self.model, **options)
        self._loss = torch.compile(summed_cross_entropy, **options)
        self.compiled = True

    def forward(self, batch: Batch, by_token: bool = False) -> Tensor:
        """Rows (B, T) -> the sum over all positions with a label, an fp32 scalar; `by_token`: each one's, (B, T)."""
        documents = {"positions": batch.positions, "document_ids": batch.document_ids}
        if batch.bounds is not None:
            documents["bounds"] = batch.bounds
        hidden = self.model(batch.input_ids, **documents)  # (B, T, C)
        hidden, labels = hidden.flatten(0, 1), batch.labels.flatten()  # (B*T, C), (B*T,)
        weight = cast(Any, self.model).head_weight
        if by_token:
            return token_cross_entropy(hidden, weight, labels).view(batch.labels.shape)
        # Only where looking at the labels does not make the host wait for the device.
        if labels.device.type == "cpu" and self._few_trained(batch):
            return self._loss_of_few(hidden, weight, labels)
        return self._loss(hidden, weight, labels)


def _few_trained(batch: Batch) -> bool:
    return batch.num_trained < _FEW * batch.labels.numel()


def _loss_of_few(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """`summed_cross_entropy`, without the positions that are not trained on."""
    places = (labels != IGNORED).nonzero().squeeze(1)
    return summed_cross_entropy(hidden[places], weight, labels[places])


def _chunk_rows(hidden: Tensor, weight: Tensor) -> int:
    return max(1, _CHUNK_LOGITS.get(hidden.device.type, _CHUNK_LOGITS["cpu"]) // weight.shape[0])


def summed_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """hidden (N, C), head weight (V, C), labels (N,) with -100 left out -> the summed loss, an fp32 scalar."""
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, labels, _chunk_rows(hidden, weight))  # type: ignore[no-untyped-call]
    return loss


def token_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """hidden (N, C), head weight (V, C), labels (N,) -> each position's loss (N,), fp32, 0 at -100; no gradients."""
    size, matrix = _chunk_rows(hidden, weight), weight.to(hidden.dtype)
    parts = [
        F.cross_entropy(F.linear(part, matrix).float(), wanted, ignore_index=IGNORED, reduction="none")
        for part, wanted in zip(torch.split(hidden, size), torch.split(labels, size), strict=True)
    ]
    return torch.cat(parts)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients chunk by chunk: softmax minus one-hot is known as soon as the logits are."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, size: int) -> Tensor:
        wants_hidden, wants_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        matrix = weight.to(hidden.dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        for start in range(0, hidden.shape[0], size):
            part = hidden[start : start + size]
            loss, grad = _chunk(part, matrix, labels[start : start + size], wants_hidden or wants_weight)
            total = total + loss
            if grad_hidden is not None:
                grad_hidden[start : start + size] = grad @ matrix  # (N, C)
            if grad_weight is not None:
                grad_weight += grad.t() @ part  # (V, C)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (scale,) = grads
        hidden, weight = ctx.saved_tensors
        return (
            None if hidden is None else (hidden * scale).to(hidden.dtype),
            None if weight is None else (weight * scale).to(ctx.weight_dtype),
            None,
            None,
        )


def _chunk(hidden: Tensor, matrix: Tensor, labels: Tensor, wants_grad: bool) -> tuple[Tensor, Tensor]:
    """Summed loss of one chunk and the gradient of its logits (N, V), empty when not wanted."""
    kept = labels != IGNORED
    places = torch.where(kept, labels, 0)[:, None]
    logp = F.log_softmax(F.linear(hidden, matrix).float(), dim=-1)  # (N, V)
    loss = -(logp.gather(1, places).squeeze(1) * kept).sum()
    if not wants_grad:
        return loss, logp.new_empty(0)
    grad = logp.exp().scatter_add(1, places, torch.full_like(places, -1, dtype=torch.float32))
    return loss, (grad * kept[:, None]).to(hidden.dtype)
