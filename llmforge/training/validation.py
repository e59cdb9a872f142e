"""The loss on held-out text: windows of a split -> mean loss a token and bits a byte, overall and by source.

Each process takes every n-th batch and the sums are added up. How many bytes a pass predicts comes with the windows;
knows no tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from llmforge.runtime.distributed import World
from llmforge.tokens.batch import IGNORED, Batch
from llmforge.tokens.loader import ValidWindows
from llmforge.training.memory import token_losses
from llmforge.training.parallel import Parallel


class WindowValidation:
    """Validation by windows of one or several splits; within the run over `part`, at its end over `whole`."""

    def __init__(
        self, whole: Sequence[ValidWindows], part: Sequence[ValidWindows], world: World, device: torch.device
    ) -> None:
        self._whole, self._part, self._world, self._device = whole, part, world, device
        # how much longer the pass at the end takes than one within the run
        self.whole_factor = sum(map(len, whole)) / sum(map(len, part))

    def __call__(self, objective: Parallel, whole: bool) -> dict[str, object]:
        """`valid_loss` (nats a token), `valid_bits_per_byte`, and the latter by source when there are several."""
        chosen = self._whole if whole else self._part
        sizes: dict[str, int] = {}
        losses: dict[str, float] = {}
        tokens = 0.0
        for windows in chosen:
            sums = self._world.total(self._pass(objective, windows))
            tokens += float(sums[:, 1].sum())
            for name, loss in zip(windows.source_names, sums[:, 0].tolist(), strict=True):
                losses[name] = losses.get(name, 0.0) + loss
            for name, size in windows.bytes_by_source.items():
                sizes[name] = sizes.get(name, 0) + size
        return _summary(losses, tokens, sizes)

    def _pass(self, objective: Parallel, windows: ValidWindows) -> Tensor:
        """Loss and tokens of this process's share, by source (sources, 2)."""
        sums = torch.zeros(len(windows.source_names), 2, dtype=torch.float64)
        for batch, sources in _every(windows.with_sources(), self._world):
            losses = token_losses(objective, batch, self._device).double().cpu().flatten()
            places = torch.as_tensor(sources).flatten().long()
            sums[:, 0].index_add_(0, places, losses)
            sums[:, 1].index_add_(0, places, (batch.labels != IGNORED).double().flatten())
        return sums


def _every(pairs: Iterable[tuple[Batch, object]], world: World) -> Iterator[tuple[Batch, object]]:
    """This process's share of the batches, the same number on each: what is missing is filled up with nothing."""
    group: list[tuple[Batch, object]] = []
    for pair in pairs:
        group.append(pair)
        if len(group) == world.data_size:
            yield group[world.data_rank]
            group = []
    if group:
        batch, sources = group[min(world.data_rank, len(group) - 1)]
        yield (batch if world.data_rank < len(group) else batch.untrained()), sources


def _summary(losses: dict[str, float], tokens: float, sizes: dict[str, int]) -> dict[str, object]:
    loss = sum(losses.values())
    found: dict[str, object] = {"valid_loss": loss / max(1.0, tokens)}
    if total := sum(sizes.values()):
        found["valid_bits_per_byte"] = loss / math.log(2) / total
        by_source = {name: losses[name] / math.log(2) / size for name, size in sizes.items() if size}
        if len(by_source) > 1:
            found["valid_bits_per_byte_by_source"] = by_source
    return found
