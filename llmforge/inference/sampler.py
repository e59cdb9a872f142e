"""From logits to one id a row: a chain of pure functions, each of which takes logits and gives logits.

A token that is ruled out has logit -inf. Rows do not see each other, and each row draws from its own generator, so a
row's answer does not depend on its company. Knows no model, tokenizer or text.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from llmforge.errors import DataError
from llmforge.inference.settings import SamplingSettings

# The set that top-p keeps is small for a trained model: look among this many first, sort everything only if it is not.
_NUCLEUS_GUESS = 256


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Makes seen tokens less likely (`penalty` > 1): positive logits are divided, negative ones multiplied.

    `logits` (B, V) float, `seen` (B, V) bool. Keskar et al. 2019, CTRL (arXiv:1909.05858), section 4.1, with the sign
    rule of transformers' RepetitionPenaltyLogitsProcessor.
    """
    if penalty == 1.0:
        return logits
    penalized = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalized, logits)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divides the logits (B, V) by the temperature, which must be above 0."""
    return logits if temperature == 1.0 else logits / temperature


def keep_top_k(logits: Tensor, k: int | None) -> Tensor:
    """Rules out what is less likely than the k-th likeliest token of its row; ties with it stay. Fan et al. 2018."""
    if k is None or k >= logits.shape[-1]:
        return logits
    smallest = logits.topk(k, dim=-1).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < smallest, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keeps of each row the fewest likeliest tokens whose probabilities sum to at least p; at least one.

    Holtzman et al. 2019, nucleus sampling (arXiv:1904.09751).
    """
    if p >= 1.0:
        return logits
    total = logits.logsumexp(dim=-1, keepdim=True)  # (B, 1)
    guess = min(_NUCLEUS_GUESS, logits.shape[-1])
    values, ids = logits.topk(guess, dim=-1)  # (B, guess), likeliest first
    mass = (values - total).exp().cumsum(dim=-1)
    if guess < logits.shape[-1] and bool((mass[:, -1] < p).any()):
        values, ids = logits.sort(dim=-1, descending=True, stable=True)  # (B, V)
        mass = (values - total).exp().cumsum(dim=-1)
    before = mass.roll(1, dims=-1)
    before[:, 0] = 0.0
    kept = values.masked_fill(before >= p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, kept)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Rules out tokens below `p` times the probability of the row's likeliest. Nguyen 2024 (arXiv:2407.01082)."""
    if p <= 0.0:
        return logits
    # In logits the bound is a difference, so no softmax is needed.
    bound = logits.amax(dim=-1, keepdim=True) + torch.log(torch.tensor(p, dtype=logits.dtype, device=logits.device))
    return logits.masked_fill(logits < bound, -torch.inf)


def shape_logits(logits: Tensor, seen: Tensor | None, settings: SamplingSettings) -> Tensor:
    """The whole chain on (B, V); `seen` (B, V) may be None when there is no repetition penalty."""
    if seen is not None:
        logits = penalize_repetition(logits, seen, settings.repetition_penalty)
    if settings.greedy:
        return logits
    logits = apply_temperature(logits, settings.temperature)
    logits = keep_top_k(logits, settings.top_k)
    logits = keep_top_p(logits, settings.top_p)
    return keep_min_p(logits, settings.min_p)


def draw(logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One id (B,) a row with softmax probability, by one uniform number from the row's own generator."""
    uniform = torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
    summed = logits.double().softmax(dim=-1).cumsum(dim=-1)  # (B, V)
    # The first sum above the threshold belongs to a token with probability > 0, so what was ruled out is never drawn.
    threshold = uniform.to(summed.device)[:, None] * summed[:, -1:]  # (B, 1)
    return torch.searchsorted(summed, threshold, right=True)[:, 0]


def choose(
    logits: Tensor, seen: Tensor | None, settings: SamplingSettings, generators: Sequence[torch.Generator]
) -> Tensor:
    """The next id (B,) of each row, of logits (B, V) in any float type.

    Raises:
        DataError: the model gave NaN or infinity.
    """
    logits = logits.float()
    if not bool(logits.amax(dim=-1).isfinite().all()):
        raise DataError("the model's logits are not finite", hint="its weights are damaged or its training diverged")
    shaped = shape_logits(logits, seen, settings)
    return shaped.argmax(dim=-1) if settings.greedy else draw(shaped, generators)


def generator_for(seed: int, prompt: Sequence[int], number: int) -> torch.Generator:
    """The generator of a prompt's `number`-th answer: a function of seed and prompt, not of its place in a batch."""
    text = f"{seed}:{number}:" + ",".join(map(str, prompt))
    digest = blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
