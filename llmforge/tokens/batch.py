"""One batch of token windows: what goes into the model and what it must predict.

B rows, T positions in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """`labels` are already shifted: position t of a row predicts `labels[:, t]`, and -100 is not trained on.

    `document_ids` and `positions` are given when attention must stay inside one document; positions then restart at
    each document's first token.
    """

    input_ids: torch.Tensor  # (B, T) int64
    labels: torch.Tensor  # (B, T) int64
    document_ids: torch.Tensor | None = None  # (B, T) int32
    positions: torch.Tensor | None = None  # (B, T) int64

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
        """The same batch on a device; copies overlap with compute where the memory is pinned."""
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            None if self.document_ids is None else self.document_ids.to(device, non_blocking=True),
            None if self.positions is None else self.positions.to(device, non_blocking=True),
        )
