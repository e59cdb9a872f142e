"""Log-probabilities of continuations: each context is read once, its continuations branch off from it.

The contexts of a group go through the model side by side into a key-value cache; then every continuation goes behind a
copy of its context's cache. The head runs only at positions that are scored. Which items share a pass does not change
their scores (up to rounding).

Dimensions: B contexts, R continuations, T tokens, P scored positions, C channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmforge.model.kv_cache import KVCache
from llmforge.model.transformer import Transformer

_HEAD_LOGITS = 1 << 24  # logits of one head product: 64 MiB in fp32


@dataclass(frozen=True)
class Request:
    """How likely is each of `continuations` behind `context`? All are lists of ids, none is empty."""

    context: list[int]
    continuations: list[list[int]]

    @property
    def reach(self) -> int:
        """Tokens of the context and the longest continuation."""
        return len(self.context) + max(map(len, self.continuations))


def loglikelihoods(
    model: Transformer, requests: Sequence[Request], row_tokens: int, on_done: Callable[[int], None] | None = None
) -> list[list[float]]:
    """For each request the sum of log p (nats) of each continuation given the context, in the requests' order."""
    found: list[list[float]] = [[] for _ in requests]
    for group in _groups(requests, row_tokens, model.config.max_position_embeddings):
        for number, scores in zip(group, _score(model, [requests[number] for number in group]), strict=True):
            found[number] = scores
        if on_done is not None:
            on_done(len(group))
    return found


def token_logprobs(model: Transformer, hidden: Tensor, targets: Tensor) -> Tensor:
    """Hidden states (P, C) and the ids that follow them (P,) -> log p of each in fp32 (P,), on the CPU."""
    size = max(1, _HEAD_LOGITS // model.config.vocab_size)
    parts = []
    for start in range(0, len(targets), size):
        logits = model.head(hidden[start : start + size]).float()  # (P, V)
        chosen = logits.gather(1, targets[start : start + size, None]).squeeze(1)
        parts.append(chosen - logits.logsumexp(dim=1))
    return torch.cat(parts).cpu() if parts else torch.empty(0)


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Rows of ids, filled up on the right -> (B, T)."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)


def _groups(requests: Sequence[Request], row_tokens: int, context: int) -> Iterator[list[int]]:
    """Numbers of requests of like size whose padded branches fit into `row_tokens` and the model's context together."""
    group: list[int] = []
    branches = longest_context = longest = 0
    for number in sorted(range(len(requests)), key=lambda number: (-requests[number].reach, number)):
        request = requests[number]
        more, asked, said = len(request.continuations), len(request.context), max(map(len, request.continuations))
        wide = max(longest_context, asked) + max(longest, said)
        # The last token of a continuation is only predicted.
        if group and ((branches + more) * wide > row_tokens or wide - 1 > context):
            yield group
            group, branches, longest_context, longest = [], 0, 0, 0
        group.append(number)
        branches, longest_context, longest = branches + more, max(longest_context, asked), max(longest, said)
    if group:
        yield group


@torch.inference_mode()
def _score(model: Transformer, requests: Sequence[Request]) -> list[list[float]]:
    device = next(model.parameters()).device
    contexts = [request.context for request in requests]
    room = max(map(len, contexts)) + max(len(one) for request in requests for one in request.continuations)
    cache = KVCache(model.config, len(contexts), room, dtype=model.compute_dtype, device=device)
    hidden = model(padded(contexts, device), cache=cache)  # (B, T, C)
    cache.set_lengths([len(context) for context in contexts])
    pairs = [(row, one) for row, request in enumerate(requests) for one in request.continuations]
    ends = torch.tensor([len(contexts[row]) - 1 for row, _ in pairs], device=device)
    sources = torch.tensor([row for row, _ in pairs], device=device)
    first = torch.tensor([one[0] for _, one in pairs], device=device)
    sums = token_logprobs(model, hidden[sources, ends], first).double()
    longer = [number for number, (_, one) in enumerate(pairs) if len(one) > 1]
    if longer:
        cache.select([pairs[number][0] for number in longer])
        _add_rest(model, [pairs[number][1] for number in longer], cache, sums, longer)
    scores = sums.tolist()
    steps = iter(scores)
    return [[next(steps) for _ in request.continuations] for request in requests]


def _add_rest(
    model: Transformer, continuations: list[list[int]], cache: KVCache, sums: Tensor, places: list[int]
) -> None:
    """Adds log p of every token behind the first of each continuation to its place in `sums`."""
    device = next(model.parameters()).device
    hidden = model(padded([one[:-1] for one in continuations], device), cache=cache)  # (R, T, C)
    rows = [row for row, one in enumerate(continuations) for _ in one[1:]]
    columns = [column for one in continuations for column in range(len(one) - 1)]
    targets = torch.tensor([token for one in continuations for token in one[1:]], device=device)
    found = token_logprobs(model, hidden[rows, columns], targets).double()
    sums.index_add_(0, torch.tensor([places[row] for row in rows]), found)
