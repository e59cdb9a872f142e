"""THE loop: pre-training, fine-tuning, adapters and preferences are other arguments to it.

Takes an objective (a module that turns a batch into a summed loss), batches as a function of the step, an optimizer, a
horizon, a run folder, a validation and observers; gives trained weights, metrics and saved states. Knows no model, no
tokenizer and no file format. What is written is written by the first process only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmforge.checkpoint.train_state import save_state
from llmforge.errors import StopRequested
from llmforge.runtime.console import Bar, duration
from llmforge.runtime.device import peak_memory_bytes, synchronize
from llmforge.runtime.run_folder import RunFolder
from llmforge.runtime.stop import StopSignals
from llmforge.tokens.batch import Batch
from llmforge.training.early_stopping import judge, put_back
from llmforge.training.horizon import Horizon
from llmforge.training.loop_parts import Loop, StepInfo, TrainResult, Validation
from llmforge.training.memory import RowsAtOnce, micro_batches
from llmforge.training.metrics import Clock, Window, mfu
from llmforge.training.norms import GroupNorms
from llmforge.training.optimizer import Optimizer, trainable, whole
from llmforge.training.outcome import train_result
from llmforge.training.parallel import Parallel
from llmforge.training.state import CHECKPOINTS, Progress, Saved, capture, restore

_FEW_STEPS = 10  # a budget in minutes that gave no more was eaten by something else


@dataclass
class Trainer:
    """One run. `batches(step)` is the whole global batch of a step; each process takes its rows of it."""

    objective: Parallel
    batches: Callable[[int], Batch]
    optimizer: Optimizer
    schedule: Horizon
    config: Loop
    run: RunFolder
    validation: Validation | None = None
    observers: Sequence[Callable[[StepInfo], None]] = ()

    progress: Progress = field(default_factory=Progress, init=False)
    _window: Window = field(default_factory=Window, init=False)
    _clock: Clock = field(init=False)
    _rows: RowsAtOnce = field(init=False)
    _norms: GroupNorms = field(init=False)
    _best: dict[str, Tensor] = field(default_factory=dict, init=False)
    _rates: list[float] = field(default_factory=list, init=False)
    _reserve: float = field(default=0.0, init=False)
    _marked: tuple[float, int] = field(default=(0.0, 0), init=False)
    _shown: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._clock = Clock(self.config.device)
        self._rows = RowsAtOnce(self.config, self.objective.strategy, self._warn)
        self._norms = GroupNorms(self.optimizer.parameters, self.config)

    def _warn(self, text: str) -> None:
        if self.config.world.first:
            self.config.console.warn(text)
        self.run.log(text)

    def train(self, saved: Saved | None = None) -> TrainResult:
        """Runs to the horizon, from the start or from a saved state.

        Raises:
            StopRequested: a signal came; the state is saved and the same command goes on.
            DataError: the loss or the gradient was not finite several steps in a row.
        """
        with StopSignals() as stop, self.config.console.progress("training", self.schedule.steps, "steps") as bar:
            self._begin(saved, bar)
            while not self._over(stop):
                self._clock.step_begins()
                batch = self.batches(self.progress.step)
                self._clock.mark("data")
                loss = self._backward(batch)
                norm, finite = self._clip(loss)
                with self._norms.around(self.progress.step + 1):
                    self.optimizer.step(self.schedule.factor(self.progress.step), finite)
                self.optimizer.zero_grad()
                self._clock.mark("optimizer")
                self._count(batch, loss, norm, finite)
                self._clock.step_ends()
                self._report(bar)
                self._clock.mark("logging")
                self._evaluate_when_due()
                self._save_when_due()
            return self._finish()

    def _begin(self, saved: Saved | None, bar: Bar) -> None:
        """Starts anew, or takes everything back from a saved state."""
        if saved is None:
            self.run.truncate_metrics(0)
            self.progress.untrained = self._validate(whole=False)
        else:
            self.progress, self._best = restore(saved, self.objective.model, self.optimizer, self.schedule)
            self._window.restore(saved.meta["window"])
            self._rows.rows = self.progress.micro_batch_size or self._rows.rows
            self.run.truncate_metrics(int(saved.meta["metrics_position"]))
            self._clock = Clock(self.config.device, self.progress.elapsed)
            self._reserve = float(saved.meta["reserve"])
            bar.advance(self.progress.step)
        self._marked = (self._clock.working(), self.progress.tokens)
        self._shown = self.progress.step

    def _over(self, stop: StopSignals) -> bool:
        """Whether the run is at its end; leaves when asked to. All processes decide alike."""
        clock, step = self._clock, self.progress.step
        asked, elapsed, pace = self.config.world.largest([float(stop.requested), clock.elapsed(), clock.pace() or 0.0])
        if asked:
            self._save()
            name = stop.signal_name or "a signal to another process"
            raise StopRequested(
                f"stopped by {name} after step {step}, state saved", self.run.path, "the same command goes on"
            )
        return self.progress.stopped_early or self.schedule.watch(step, elapsed, pace or None, self._reserve)

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of the batch's loss a trained token, over micro-batches and processes; returns the summed loss.

        When memory runs out they are made once more, from micro-batches of half the rows.
        """
        return self._rows.run(lambda rows, tried: self._gradients(batch, rows, tried), batch.num_rows)

    def _gradients(self, batch: Batch, rows: int, tried: bool) -> Tensor:
        """As `_backward`, with so many rows at once; `tried`: without the other processes, to see whether it fits."""
        self.optimizer.zero_grad()  # of a try that ran out of memory
        scale = self.objective.gradient_factor / max(1, batch.num_trained)
        total = torch.zeros((), device=self.config.device)
        parts = micro_batches(batch, self.config.world, rows)[: 2 if tried else None]
        # DDP's own forward may send something before it computes: a try goes past it.
        losses = self.objective.objective if tried else self.objective
        for number, part in enumerate(parts):
            with self.objective.synchronized(last=number == len(parts) - 1 and not tried):
                loss = losses(part.to(self.config.device))
                self._clock.mark("forward")
                (loss * scale).backward()
                self._clock.mark("backward")
            total += loss.detach()
        return total if tried else self.config.world.total(total)

    def _clip(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients' norm before they are cut to `max_grad_norm`, and whether norm and loss are finite."""
        grads = [value.grad for value in self.optimizer.parameters.values() if value.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(grads))
        limit = self.config.train.max_grad_norm
        if limit is not None:
            share = (limit / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(grads, share)
        return norm, norm.isfinite() & loss.isfinite()

    def _count(self, batch: Batch, loss: Tensor, norm: Tensor, finite: Tensor) -> None:
        self.progress.step += 1
        self.progress.tokens += batch.input_ids.numel()
        self.progress.micro_batch_size = self._rows.rows
        self._window.add(loss, norm, finite, batch.num_trained)

    def _report(self, bar: Bar) -> None:
        """A line of metrics.jsonl every `log_every` steps; the only place where the loop waits for the device."""
        step = self.progress.step
        if step % self.config.train.log_every == 0 or step == self.schedule.steps:
            self._window.gather(step)
            figures = self._figures()
            self._write(figures)
            left = self.schedule.seconds_left(step, self._clock.elapsed(), self._clock.pace())
            note = f"loss {figures.get('loss', float('nan')):.3f}, {figures.get('tokens_per_second', 0):,.0f} tokens/s"
            if self.schedule.steps is not None:
                bar.set_total(self.schedule.steps)  # from now on the bar itself knows how long to go
            elif left is not None:
                note += f", {duration(left)} left"
            bar.advance(step - self._shown, note)
            self._shown = step
        last = step == self.schedule.steps
        for observer in self.observers:
            with self._clock.aside():
                observer(StepInfo(step, self.progress.tokens, last, {}))

    def _figures(self) -> dict[str, Any]:
        """What the steps since the last line were like."""
        working, before = self._clock.working(), self._marked
        tokens, seconds = self.progress.tokens - before[1], max(working - before[0], 1e-9)
        self._marked = (working, self.progress.tokens)
        rate = tokens / seconds
        self._rates.append(rate)
        figures: dict[str, Any] = self._window.close()
        self.progress.train_loss = figures.get("loss", self.progress.train_loss)
        figures["lr"] = self.optimizer.rate * self.schedule.factor(self.progress.step - 1)
        figures["tokens_per_second"] = round(rate, 1)
        figures["step_seconds"] = self._clock.step_seconds or self._clock.first_step
        share = mfu(rate, self.config.flops_per_token, self.config.peak, self.config.world.size)
        if share is not None:
            figures["mfu"] = round(share, 4)
        figures["memory_bytes"] = peak_memory_bytes(self.config.device)
        return figures | {"split_seconds": self._clock.split.close()} | self._norms.close()

    def _write(self, figures: Mapping[str, object]) -> None:
        epoch = {"epoch": round(self.progress.tokens / size, 4)} if (size := self.config.epoch_tokens) else {}
        self.run.metrics({"step": self.progress.step, "tokens": self.progress.tokens, **epoch, **figures})

    def _validate(self, whole: bool) -> dict[str, Any]:
        """Figures on held-out data, written as a line of metrics.jsonl."""
        if self.validation is None:
            return {}
        synchronize(self.config.device)
        with self._clock.aside():
            start = self._clock.elapsed()
            figures = self.validation(self.objective, whole)
            seconds = self._clock.elapsed() - start
        if not whole and self.progress.train_loss is not None:
            figures["loss_gap"] = float(str(figures["valid_loss"])) - self.progress.train_loss
        if not whole:
            # at the end the whole split, and with early stopping the sample once more
            extra = 1.0 if self.config.train.early_stopping is not None else 0.0
            self._reserve = seconds * (self.validation.whole_factor + extra)
        self._write(figures | ({"whole_split": True} if whole else {}))
        return figures

    def _evaluate_when_due(self) -> None:
        every, step = self.config.train.eval_every, self.progress.step
        if every is None or step % every or step == self.schedule.steps or self.validation is None:
            return
        figures = self.progress.newest = self._validate(whole=False)
        self.config.console.detail(f"step {step}: valid_loss {figures['valid_loss']:.4f}")
        if self.config.train.early_stopping is not None:
            found = judge(self.progress, self.config.train.early_stopping, float(figures["valid_loss"]))
            if found:
                self._best = {n: whole(v.detach()).clone() for n, v in trainable(self.objective.model).items()}

    def _save_when_due(self) -> None:
        every, step = self.config.train.save_every, self.progress.step
        if (every is not None and step % every == 0) or step == self.schedule.steps or self.progress.stopped_early:
            self._save()

    def _save(self) -> None:
        """Writes the whole state; every process takes part, the first one writes."""
        with self._clock.aside():
            self._window.gather(self.progress.step)
            self.progress.elapsed = self._clock.elapsed()
            tensors, meta = capture(self.objective.model, self.optimizer, self.schedule, self.progress, self._best)
            meta |= {"window": self._window.saved(), "metrics_position": self.run.metrics_position()}
            meta |= {"reserve": self._reserve, "config": self.config.config, "data": self.config.data}
            meta["choices"] = self.config.choices
            if self.config.world.first:
                folder = self.run.path / CHECKPOINTS
                save_state(folder, self.progress.step, tensors, meta, self.config.train.keep_last)
            self.config.world.wait()

    def _ends_best(self) -> bool:
        """Whether a run that used all of its budget ends with weights that beat the best ones kept on the way."""
        figures, best = self._validate(whole=False), self.progress.best_loss
        return bool(figures) and (best is None or float(figures["valid_loss"]) < best)

    def _finish(self) -> TrainResult:
        """The last validation, on the whole split, with the weights that are kept."""
        early = self.progress.stopped_early
        if self.schedule.seconds is not None and self.progress.step < _FEW_STEPS:
            self.config.console.warn(
                f"{duration(self.schedule.seconds)} were enough for {self.progress.step} steps, validation with it;"
                " give train.max_minutes more, or validation fewer tokens"
            )
        best = bool(self._best) and self.config.train.early_stopping is not None and (early or not self._ends_best())
        if best:
            put_back(self.objective.model, self._best)
        self.progress.newest = self._validate(whole=True) or self.progress.newest
        return train_result(self.progress, self._clock, self._rates, self.config, restored=best)
