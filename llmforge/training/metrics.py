"""What a step leaves behind, kept on the device until it is time to look: losses, norms, seconds, rates.

A `Window` gathers the steps between two lines of metrics.jsonl; its tensors are read once, at its end. Knows no model.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmforge.errors import DataError

# steps in a row whose loss or gradient was not finite, after which a run gives up
MAX_NOT_FINITE = 3
_RECENT, _RECENT_LINES = 50, 5
PARTS = ("data", "forward", "backward", "optimizer", "logging")


def mfu(tokens_per_second: float, flops_per_token: float, peak: float | None, processes: int) -> float | None:
    """Model FLOP utilisation: tokens/s x FLOP/token over what the processes' devices could do; None where unknown.

    FLOP a token are 6 x matmul parameters + 12·L·D·T (https://arxiv.org/abs/2204.02311, appendix B).
    """
    return tokens_per_second * flops_per_token / (peak * processes) if peak else None


def mfu_formula(tokens_per_second: float, flops_per_token: float, peak: float | None, processes: int) -> str | None:
    """`mfu` as it was reckoned: `MFU 45.0 % = tokens/s x FLOP a token / peak`; None where the peak is unknown."""
    share = mfu(tokens_per_second, flops_per_token, peak, processes)
    if share is None or peak is None:
        return None
    many = f" / {processes} devices" if processes > 1 else ""
    return (
        f"MFU {share:.1%} = {tokens_per_second:,.0f} tokens/s x {_flops(flops_per_token)} a token / {_flops(peak)}/s"
        f" of matrix products{many}"
    )


def _flops(count: float) -> str:
    scale, letter = next(((s, c) for s, c in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if count >= s), (1.0, ""))
    return f"{count / scale:.3g} {letter}FLOP"


class StepSplit:
    """Where a step's time goes: seconds of data, forward, backward, optimizer and logging, a step.

    A mark ends a part of the step. On a GPU it is an event in the stream of its work, so that the host waits for
    nothing; they are read when a line of metrics.jsonl is due. There `data` and `logging` are the time that the GPU
    stood idle for them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str | None, Any]] = []
        self._seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._steps = 0

    def begin(self) -> None:
        """The start of a step: what lies before it (validations, saves) counts for nothing."""
        self._mark(None)
        self._steps += 1

    def mark(self, name: str) -> None:
        """The end of a part; what was done since the last mark belongs to `name`."""
        assert name in self._seconds, name
        self._mark(name)
        if self._device.type != "cuda" and len(self._marks) > 1:
            self._add()

    def _mark(self, name: str | None) -> None:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((name, event))
        else:
            self._marks.append((name, time.perf_counter()))

    def _add(self) -> None:
        """Sums up the marks so far; the last one stays, as the start of what comes next."""
        for (_, start), (name, end) in itertools.pairwise(self._marks):
            if name is not None:
                cuda = self._device.type == "cuda"
                self._seconds[name] += start.elapsed_time(end) / 1000 if cuda else end - start
        del self._marks[:-1]

    def close(self) -> dict[str, float]:
        """Mean seconds a step since the last call, by part. On a GPU what is marked must be done by now."""
        self._add()
        found = {name: seconds / max(1, self._steps) for name, seconds in self._seconds.items()}
        self._seconds, self._steps = dict.fromkeys(PARTS, 0.0), 0
        return found


class Clock:
    """Seconds of the run, with those that steps took apart from the rest (validations, saves, samples)."""

    def __init__(self, device: torch.device, before: float = 0.0) -> None:
        self.before = before
        self.split = StepSplit(device)
        self._start = time.perf_counter()
        self._aside = 0.0
        self._queues = device.type == "cuda"  # its steps are done some time after they were asked for
        self._recent: deque[float] = deque(maxlen=_RECENT_LINES if self._queues else _RECENT)
        self._told = (0.0, 0)  # seconds of work and steps of which the device's pace is known
        self._step_start = self._start
        self.first_step: float | None = None
        self.steps = 0

    def elapsed(self) -> float:
        """Seconds of the run, those before a resume included."""
        return self.before + time.perf_counter() - self._start

    def working(self) -> float:
        """Seconds of this process's life that went into steps."""
        return time.perf_counter() - self._start - self._aside

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Around what is not a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._aside += time.perf_counter() - start

    def step_begins(self) -> None:
        """The start of a step."""
        self._step_start = time.perf_counter()
        self.split.begin()

    def mark(self, part: str) -> None:
        """The end of one of the `PARTS` of a step."""
        self.split.mark(part)

    def step_ends(self) -> None:
        """The end of a step; the first one, which warms up and compiles, is kept apart."""
        seconds = time.perf_counter() - self._step_start
        self.steps += 1
        if self.first_step is None:
            self.first_step = seconds
            self._told = (self.working(), self.steps)
        elif not self._queues:
            self._recent.append(seconds)

    def caught_up(self) -> None:
        """The device has done every step: where it works behind the host, only now is known how long they took."""
        seconds, steps = self.working() - self._told[0], self.steps - self._told[1]
        if self._queues and steps > 0:
            self._recent.append(seconds / steps)
            self._told = (self.working(), self.steps)

    @property
    def warm_up(self) -> float:
        """Seconds that the first step took beyond a usual one."""
        return max(0.0, (self.first_step or 0.0) - (self.step_seconds or 0.0))

    @property
    def step_seconds(self) -> float | None:
        """Mean seconds of the last steps, on a GPU of the last lines' steps."""
        return statistics.fmean(self._recent) if self._recent else None

    def pace(self) -> float | None:
        """Seconds that a step takes, its part of validations and saves included."""
        return None if self.step_seconds is None else self.step_seconds + self._aside / max(1, self.steps)


@dataclass
class Window:
    """Steps since the last line of metrics.jsonl: (summed loss, gradient norm, finite) of each and its token count."""

    read: list[tuple[float, float, bool, int]] = field(default_factory=list)
    pending: list[tuple[Tensor, Tensor, Tensor, int]] = field(default_factory=list)
    # steps in a row that were not applied, over the windows
    not_finite: int = 0
    # whether the run ends after too many of them
    gives_up: bool = True

    def add(self, loss: Tensor, norm: Tensor, finite: Tensor, trained: int) -> None:
        """Keeps a step's figures where they are."""
        self.pending.append((loss, norm, finite, trained))

    @property
    def has_steps(self) -> bool:
        """Whether there are steps that no line has told of."""
        return bool(self.read or self.pending)

    def gather(self, step: int) -> list[tuple[float, float, bool, int]]:
        """Reads what is on the device and returns it, a (loss, norm, finite, trained) each; `step` steps are done.

        Raises:
            DataError: too many steps in a row were not finite.
        """
        if not self.pending:
            return []
        figures = torch.stack([torch.stack([a.float(), b.float(), c.float()]) for a, b, c, _ in self.pending]).tolist()
        for (loss, norm, finite), (_, _, _, trained) in zip(figures, self.pending, strict=True):
            self.read.append((loss, norm, bool(finite), trained))
            self.not_finite = 0 if finite else self.not_finite + 1
        new = self.read[-len(self.pending) :]
        self.pending.clear()
        if self.gives_up and self.not_finite >= MAX_NOT_FINITE:
            first = step - self.not_finite + 1
            raise DataError(
                f"the loss or the gradient was not finite at steps {first} to {step}; none of them was applied",
                hint="lower optimizer.lr, set train.max_grad_norm, or let the run go back past their data "
                "(train.spikes); the last saved state is intact",
            )
        return new

    def close(self) -> dict[str, object]:
        """The window's mean loss a token and last gradient norm; then it begins anew."""
        good = [entry for entry in self.read if entry[2]]
        found: dict[str, object] = {}
        if good:
            found["loss"] = sum(entry[0] for entry in good) / max(1, sum(entry[3] for entry in good))
            found["grad_norm"] = good[-1][1]
        if len(good) < len(self.read):
            found["steps_not_applied"] = len(self.read) - len(good)
        self.read.clear()
        return found

    def saved(self) -> dict[str, object]:
        """The window as JSON values; `gather` must have been called. Infinities do not stand in JSON."""
        rows = [[loss, norm, True, n] if ok else [0.0, 0.0, False, n] for loss, norm, ok, n in self.read]
        return {"read": rows, "not_finite": self.not_finite}

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes up what `saved` gave."""
        self.read = [(float(loss), float(norm), bool(ok), int(n)) for loss, norm, ok, n in saved["read"]]
        self.not_finite = int(saved["not_finite"])
