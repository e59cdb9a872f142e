"""Losses that no run recovers from for free: found step by step, and their data left out when the run has gone back.

A step is guilty when its loss or gradient is not finite, or when its loss leaps far above those of the steps before it.
The leap is the loss above the median of the last few; it is judged by the leaps of a window: (leap - median) / spread,
with the spread the median absolute deviation times 1.4826, a normal distribution's standard deviation
(https://doi.org/10.1016/j.jesp.2013.03.013). No outlier in the window moves it, nor does a loss that falls all along.
Going back and leaving the data out is the way of PaLM (https://arxiv.org/abs/2204.02311, section 5.1).

The trainer goes back to a saved state and takes the same steps again, up to the guilty one, where the data after it
comes. So which data a step sees is a function of the step and of the `Skip`s so far, and a run that is killed anywhere
finds the same ones again. Loads no torch; knows no file.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmforge.errors import DataError
from llmforge.training.settings import Spikes

# MAD of a normal distribution -> its standard deviation
_NORMAL = 1.4826
# A spread below this share of the median is taken for as much: losses that hardly differ make no spike of a ripple.
_LEAST_SPREAD = 0.005
# losses whose median a loss is compared with
_NEAR = 4
_NAMED = 12  # documents in a line for people


@dataclass(frozen=True)
class Found:
    """A guilty step (from 0) with its loss a token (None: not finite), the one to expect, and how far off it is."""

    index: int
    loss: float | None = None
    expected: float | None = None
    deviations: float | None = None

    @property
    def text(self) -> str:
        """What is wrong with it; steps count from 1 for people."""
        if self.loss is None:
            return f"step {self.index + 1}: the loss or the gradient is not finite"
        return (
            f"step {self.index + 1}: the loss is {self.loss:.3f}, {self.deviations:.1f} robust standard deviations "
            f"above the {self.expected:.3f} that the steps before let expect"
        )


@dataclass(frozen=True)
class Skip:
    """Data that was left out. Before step `at` (from 0) the run jumped over the data of the steps `data` (from 0)."""

    step: int  # the guilty step, from 1 as in metrics.jsonl
    at: int
    data: tuple[int, ...]
    reason: str  # loss | not_finite
    loss: float | None
    expected: float | None
    deviations: float | None
    documents: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For run.json, metrics.jsonl and a saved state."""
        return {**asdict(self), "data": list(self.data), "documents": list(self.documents)}

    @classmethod
    def of_json(cls, body: Mapping[str, Any]) -> Skip:
        """What `as_json` gave."""
        return cls(**{**body, "data": tuple(body["data"]), "documents": tuple(body["documents"])})


def data_step(step: int, left_out: Iterable[int]) -> int:
    """The data that a step of the run sees: the step-th (from 0) of all data steps that were not left out."""
    for skipped in sorted(left_out):
        if skipped <= step:
            step += 1
    return step


def run_step(data: int, left_out: Iterable[int]) -> int | None:
    """The step of the run that saw the data of a step; None when it was left out."""
    gone = set(left_out)
    return None if data in gone else data - sum(1 for skipped in gone if skipped < data)


class SpikeWatch:
    """Looks at each step's loss once, in order, and keeps what was left out. Without settings it sees nothing."""

    def __init__(self, settings: Spikes | None) -> None:
        self.settings = settings
        self.skips: list[Skip] = []
        self._near: deque[float] = deque(maxlen=_NEAR)
        self._leaps: deque[float] = deque(maxlen=settings.window if settings is not None else 1)

    @property
    def left_out(self) -> list[int]:
        """All data steps that no step of the run sees."""
        return sorted({step for skip in self.skips for step in skip.data})

    def data_step(self, step: int) -> int:
        """The data that a step of the run (from 0) sees."""
        return data_step(step, self.left_out)

    def at(self, step: int) -> list[Skip]:
        """The jumps right before a step (from 0)."""
        return [skip for skip in self.skips if skip.at == step]

    @property
    def on(self) -> bool:
        """Whether it looks at all."""
        return self.settings is not None

    def look(self, rows: Sequence[tuple[float, float, bool, int]], steps: int) -> Found | None:
        """The first guilty one among the last of `steps` steps done.

        A row each: summed loss, norm of the gradient, whether both were finite, tokens trained on.
        """
        assert self.settings is not None
        for index, (total, _, finite, trained) in enumerate(rows, steps - len(rows)):
            if not finite:
                return Found(index)
            loss = total / max(1, trained)
            level = statistics.median(self._near) if len(self._near) == _NEAR else None
            if level is not None:
                if len(self._leaps) == self.settings.window:
                    usual = statistics.median(self._leaps)
                    spread = _NORMAL * statistics.median(abs(leap - usual) for leap in self._leaps)
                    deviations = (loss - level - usual) / max(spread, _LEAST_SPREAD * abs(level), 1e-12)
                    if deviations > self.settings.threshold:
                        return Found(index, loss, level + usual, round(deviations, 2))
                self._leaps.append(loss - level)
            self._near.append(loss)
        return None

    def first_left_out(self, found: Found) -> int:
        """The first step (from 0) of the guilty window, which ends with the guilty step.

        It is `skip_steps` long; where the run has jumped already at this step in vain, twice as long each time, since
        then the cause lies further back.
        """
        assert self.settings is not None
        again = sum(1 for skip in self.skips if skip.at <= found.index < skip.step)
        return max(0, found.index + 1 - (self.settings.skip_steps << again))

    @property
    def reach(self) -> int:
        """How many steps a window may be long at most: a state that old must be kept."""
        return 0 if self.settings is None else self.settings.skip_steps << (self.settings.max_rewinds - 1)

    def leave_out(self, found: Found, documents: Callable[[int], Sequence[str]] | None) -> Skip:
        """Leaves out the guilty window from now on; `documents` names those of a data step.

        Raises:
            DataError: that was done `max_rewinds` times already; the line names the documents.
        """
        assert self.settings is not None
        at = self.first_left_out(found)
        data = tuple(self.data_step(step) for step in range(at, found.index + 1))
        names = tuple(dict.fromkeys(name for step in data for name in (documents(step) if documents else ())))
        reason = "not_finite" if found.loss is None else "loss"
        skip = Skip(found.index + 1, at, data, reason, found.loss, found.expected, found.deviations, names)
        if len(self.skips) >= self.settings.max_rewinds:
            raise DataError(
                f"{found.text}, after going back {len(self.skips)} times already; its documents: {shortened(names)}",
                hint="look at them (llmforge trace), lower optimizer.lr, or raise train.spikes.max_rewinds; the last "
                "saved state is intact",
            )
        self.skips.append(skip)
        return skip

    def saved(self) -> dict[str, object]:
        """As JSON values, for a saved state."""
        return {"near": list(self._near), "leaps": list(self._leaps), "skips": [skip.as_json() for skip in self.skips]}

    def restore(self, saved: Mapping[str, Any] | None, keep: bool = False) -> None:
        """Takes up what `saved` gave; `keep` leaves the skips as they are now, when a run goes back in its course."""
        body = saved or {"near": [], "leaps": [], "skips": []}
        for kept, values in ((self._near, body["near"]), (self._leaps, body["leaps"])):
            kept.clear()
            kept.extend(float(value) for value in values)
        if not keep:
            self.skips = [Skip.of_json(entry) for entry in body["skips"]]


def shortened(names: Sequence[str]) -> str:
    """The names for a line that a person reads."""
    if not names:
        return "(not known)"
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
