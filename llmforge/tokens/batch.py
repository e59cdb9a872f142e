"""One batch of token windows: what goes into the model and what it must predict.

B rows, T positions in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from llmforge.runtime.device import has_varlen_attention

IGNORED = -100
_LEAST_BOUNDS = 16


@dataclass(frozen=True)
class Batch:
    """`labels` are already shifted: position t of a row predicts `labels[:, t]`, and -100 is not trained on.

    `document_ids` and `positions` are given when attention must stay inside one document; positions then restart at
    each document's first token. `bounds` are the same for a kernel that wants to know where documents begin.
    """

    input_ids: torch.Tensor  # (B, T) int64
    labels: torch.Tensor  # (B, T) int64
    document_ids: torch.Tensor | None = None  # (B, T) int32
    positions: torch.Tensor | None = None  # (B, T) int64
    bounds: torch.Tensor | None = None  # (N,) int32, see `document_bounds`

    @cached_property
    def num_trained(self) -> int:
        """Predictions that count in the loss."""
        return int((self.labels != IGNORED).sum())

    @property
    def num_rows(self) -> int:
        """B."""
        return self.input_ids.shape[0]

    def rows(self, start: int, stop: int) -> Batch:
        """Rows start to stop - 1 as a batch of their own."""
        return Batch(
            self.input_ids[start:stop],
            self.labels[start:stop],
            None if self.document_ids is None else self.document_ids[start:stop],
            None if self.positions is None else self.positions[start:stop],
        )

    def untrained(self) -> Batch:
        """The same rows with nothing to predict: they take part and add nothing."""
        return Batch(self.input_ids, torch.full_like(self.labels, IGNORED), self.document_ids, self.positions)

    def pinned(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies while the host goes on."""
        return Batch(
            self.input_ids.pin_memory(),
            self.labels.pin_memory(),
            None if self.document_ids is None else self.document_ids.pin_memory(),
            None if self.positions is None else self.positions.pin_memory(),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; copies overlap with compute where the memory is pinned.

        Where a kernel for several documents in a row runs, with their bounds: found here, so that no GPU is waited for.
        """
        bounds = self.bounds
        if self.document_ids is not None and bounds is None and has_varlen_attention(torch.device(device)):
            found = document_bounds(self.document_ids)
            bounds = found.pin_memory() if self.document_ids.is_pinned() else found
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            None if self.document_ids is None else self.document_ids.to(device, non_blocking=True),
            None if self.positions is None else self.positions.to(device, non_blocking=True),
            None if bounds is None else bounds.to(device, non_blocking=True),
        )


def document_bounds(document_ids: torch.Tensor) -> torch.Tensor:
    """Document ids (B, T) -> where runs of one id begin in the rows laid end to end, then B * T, (N,) int32.

    A run ends with its row. The last bound is repeated (documents of no length) up to a power of two, so that few
    different shapes come to a compiled model.
    """
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    starts = begins.flatten().nonzero().squeeze(1)
    size = max(_LEAST_BOUNDS, 1 << len(starts).bit_length())  # always more than there are starts
    bounds = torch.full((size,), document_ids.numel(), dtype=torch.int32)
    bounds[: len(starts)] = starts
    return bounds
