"""The loss on held-out conversations, over what is trained on: what the assistant says and the tokens that end it.

Each process takes every n-th batch and the sums are added up. Bits per byte are over the bytes that those tokens stand
for, so that models with different vocabularies compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from llmforge.finetune.loader import Encoded, assemble
from llmforge.finetune.packing import pack
from llmforge.runtime.distributed import World
from llmforge.tokens.batch import Batch
from llmforge.training.memory import token_losses
from llmforge.training.parallel import Parallel


class ConversationValidation:
    """Validation over packed held-out conversations; within the run over their first `eval_tokens`."""

    def __init__(self, encoded: Encoded, length: int, rows: int, pad_id: int, eval_tokens: int | None) -> None:
        packed = pack(encoded.lengths, length)
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(packed))
        chosen = [packed[place] for place in order]
        self._whole = [
            assemble(encoded, chosen[start : start + rows], length, pad_id) for start in range(0, len(chosen), rows)
        ]
        part = len(self._whole) if eval_tokens is None else max(1, eval_tokens // (rows * length))
        self._part = self._whole[:part]
        self.whole_factor = len(self._whole) / len(self._part)
        self._place: tuple[World, torch.device] = (World(), torch.device("cpu"))
        self._token_sizes: torch.Tensor | None = None

    def on(self, world: World, device: torch.device, token_bytes: Sequence[bytes]) -> ConversationValidation:
        """The same on a machine, with the bytes that each id stands for."""
        self._place = (world, device)
        self._token_sizes = torch.tensor([len(bytes_) for bytes_ in token_bytes])
        return self

    def __call__(self, objective: Parallel, whole: bool) -> dict[str, object]:
        """`valid_loss` (nats a trained token) and `valid_bits_per_byte` (of what those tokens say)."""
        world, device = self._place
        chosen = self._whole if whole else self._part
        sums = torch.zeros(3, dtype=torch.float64)  # loss, tokens, bytes
        for start in range(0, len(chosen), world.data_size):
            mine = start + world.data_rank
            # Every process takes as many passes: what is missing at the end is filled up with nothing to predict.
            batch = chosen[mine] if mine < len(chosen) else chosen[start].untrained()
            losses = token_losses(objective, batch, device).double().sum().cpu()
            sums += torch.stack([losses, *self._counts(batch)])
        loss, tokens, size = world.total(sums).tolist()
        found: dict[str, object] = {"valid_loss": loss / max(1.0, tokens)}
        return found | ({"valid_bits_per_byte": loss / math.log(2) / size} if size else {})

    def _counts(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Trained tokens of a batch, and the bytes that they stand for."""
        learned = batch.labels[batch.labels >= 0]
        assert self._token_sizes is not None, "`on` comes first"
        known = learned[learned < len(self._token_sizes)]
        return torch.tensor(float(len(learned))), self._token_sizes[known].sum().double()
