"""THE loop: pre-training, fine-tuning, adapters and preferences are other arguments to it.

Takes an objective (a module that turns a batch into a summed loss), batches as a function of the step, an optimizer, a
horizon, a run folder, a validation and observers; gives trained weights, metrics and saved states. Knows no model, no
tokenizer and no file format. What is written is written by the first process only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from llmforge.errors import StopRequested
from llmforge.runtime.console import Bar
from llmforge.runtime.device import synchronize
from llmforge.runtime.run_folder import RunFolder
from llmforge.runtime.stop import StopSignals
from llmforge.tokens.batch import Batch
from llmforge.training.averaging import Average
from llmforge.training.clipping import clip
from llmforge.training.early_stopping import judge, put_back
from llmforge.training.horizon import Horizon
from llmforge.training.loop_parts import Loop, StepInfo, TrainResult, Validation
from llmforge.training.memory import RowsAtOnce
from llmforge.training.metrics import Clock, Window
from llmforge.training.micro_batches import micro_batches
from llmforge.training.optimizer import Optimizer
from llmforge.training.outcome import train_result
from llmforge.training.parallel import Parallel
from llmforge.training.reporting import Reporting
from llmforge.training.rewind import go_back, record_skips
from llmforge.training.shares import whole
from llmforge.training.spikes import SpikeWatch
from llmforge.training.state import Progress, Saved, capture, restore
from llmforge.training.states import States


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
    _reporting: Reporting = field(init=False)
    _best: dict[str, Tensor] = field(default_factory=dict, init=False)
    _average: Average = field(init=False)
    _reserve: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._clock = Clock(self.config.device)
        self._rows = RowsAtOnce(self.config, self.objective.strategy, self._warn)
        self._reporting = Reporting(self.config, self.run, self.schedule, self.optimizer)
        self._states = States(self.run, self.config.world, self.config.train)
        self._watch = SpikeWatch(self.config.train.spikes)
        self._window.gives_up = self.config.train.spikes is None

    def _warn(self, text: str) -> None:
        if self.config.world.first:
            self.config.console.warn(text)
        self.run.log(text)

    def train(self, saved: Saved | None = None) -> TrainResult:
        """Runs to the horizon, from the start or from a saved state.

        Raises:
            StopRequested: a signal came; the state is saved and the same command goes on.
            DataError: the loss or the gradient was not finite several steps in a row, or spiked too often.
            MachineError: a state cannot be written; those before are whole.
        """
        done = saved.step if saved is not None else 0
        progress = self.config.console.progress("training", self.schedule.steps, "steps", done, paced=False)
        with StopSignals() as stop, progress as bar, self._states:
            self._begin(saved)
            while not self._over(stop):
                self._clock.step_begins()
                batch = self._next_batch()
                self._clock.mark("data")
                loss = self._backward(batch)
                norm, finite = self._clip(loss)
                self._states.settle()
                with self._reporting.norms.around(self.progress.step + 1):
                    self.optimizer.step(self.schedule.factor(self.progress.step), finite)
                self.optimizer.zero_grad()
                self._average.update(self.objective.model, self.progress.step + 1)
                self._clock.mark("optimizer")
                self._count(batch, loss, norm, finite)
                self._clock.step_ends()
                if self._went_back():
                    continue
                self._report(bar)
                self._clock.mark("logging")
                self._evaluate_when_due()
                self._save_when_due()
            return self._finish(stop, bar)

    def _begin(self, saved: Saved | None) -> None:
        """Starts anew, or takes everything back from a saved state."""
        self._average = Average(self.config.train.average)
        if saved is None:
            self.run.take_metrics(self.run.path, 0)
            self.progress.untrained = self._validate(whole=False)
            if self.config.train.spikes is not None:
                self._save()  # there must be something to go back to
        else:
            self._take(saved)
            self._clock = Clock(self.config.device, self.progress.elapsed)
            self._states.resumed(saved)
            self._save()  # when it came from elsewhere: from now on it is here too
        self._reporting.mark(self.progress, self._clock)
        self._reporting.shown(self.progress.step)
        record_skips(self._watch, self.run)
        self._states.begun()

    def _take(self, saved: Saved, keep_skips: bool = False) -> None:
        """Everything as it was when `saved` was."""
        model = self.objective.model
        self.progress, self._best, average = restore(saved, model, self.optimizer, self.schedule)
        self._average.restore(average, model)
        self._rows.rows = min(self._rows.rows, self.progress.micro_batch_size or self._rows.rows)
        self._window.restore(saved.meta["window"])
        self._watch.restore(saved.meta.get("spikes"), keep_skips)
        for note in self.run.take_metrics(saved.run_folder, int(saved.meta["metrics_position"])):
            self.config.console.warn(note)
        self._reserve = float(saved.meta["reserve"])

    def _over(self, stop: StopSignals) -> bool:
        """Whether the run is at its end; leaves when asked to. All processes decide alike."""
        clock, step = self._clock, self.progress.step
        asked, elapsed, pace = self.config.world.largest([float(stop.requested), clock.elapsed(), clock.pace() or 0.0])
        if asked:
            self._went_back(at_once=True)
            self._save()
            self._leave_if_asked(stop)
        return self.progress.stopped_early or self.schedule.watch(step, elapsed, pace or None, self._reserve)

    def _leave_if_asked(self, stop: StopSignals) -> None:
        """Ends the run for now; no process goes before the state is on the disk, since the rest would go with it."""
        if self.config.world.largest([float(stop.requested)])[0]:
            self._states.wait()
            what = f"stopped by {stop.signal_name or 'a signal elsewhere'} after step {self.progress.step}, state saved"
            raise StopRequested(what, self.run.path, "the same command goes on")

    def _next_batch(self) -> Batch:
        """The batch of this step, behind the data that was left out; a jump over some is a line of metrics.jsonl."""
        for skip in self._watch.at(self.progress.step):
            self.run.metrics({"step": skip.step, "rewind": skip.as_json()})
        return self.batches(self._watch.data_step(self.progress.step))

    def _went_back(self, at_once: bool = False) -> bool:
        """Looks at the losses as soon as that costs nothing; at a spike, takes up the last state before it."""
        step, ends = self.progress.step, self.progress.step == self.schedule.steps
        reads = step % self.config.train.log_every == 0 or self._states.due(step)
        due = reads or ends or at_once or self.config.device.type == "cpu"
        found = self._watch.look(self._window.gather(step), step) if self._watch.on and due else None
        if found is None:
            return False
        with self._clock.aside():
            self._take(go_back(found, self._watch, self._states, self.config, self.run), keep_skips=True)
        self._reporting.mark(self.progress, self._clock)
        return True

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
        """The gradients' norm before the cut to `max_grad_norm`, and whether all is finite, in every process."""
        self._reporting.norms.gradients(self.progress.step + 1)
        norm = clip(self.optimizer.parameters.values(), self.config.train.max_grad_norm)
        # Asked of all, since a process whose memory fails would else part from the others without a word.
        return norm, self.config.world.everywhere(norm.isfinite() & loss.isfinite())

    def _count(self, batch: Batch, loss: Tensor, norm: Tensor, finite: Tensor) -> None:
        self.progress.step += 1
        self.progress.tokens += batch.input_ids.numel()
        self.progress.micro_batch_size = self._rows.rows
        self._window.add(loss, norm, finite, batch.num_trained)

    def _report(self, bar: Bar) -> None:
        """A line of metrics.jsonl every `log_every` steps; the only place where the loop waits for the device."""
        last = self.progress.step == self.schedule.steps
        if self.progress.step % self.config.train.log_every == 0 or last:
            self._reporting.line(self.progress, self._window, self._clock, bar)
        if not last:  # that one they see with the weights that the run ends with
            self._observe()

    def _observe(self, last: bool = False) -> None:
        weights = partial(self._average.in_place, self.objective.model)
        for observer in self.observers:
            with self._clock.aside():
                observer(StepInfo(self.progress.step, self.progress.tokens, last, weights))

    def _validate(self, whole: bool) -> dict[str, Any]:
        """Figures on held-out data, written as a line of metrics.jsonl."""
        if self.validation is None:
            return {}
        synchronize(self.config.device)
        with self._clock.aside(), self._average.in_place(self.objective.model):
            start = self._clock.elapsed()
            figures = self.validation(self.objective, whole)
            seconds = self._clock.elapsed() - start
        if not whole and self.progress.train_loss is not None:
            figures["loss_gap"] = float(str(figures["valid_loss"])) - self.progress.train_loss
        if not whole:
            # at the end the whole split, and with early stopping the sample once more
            self._reserve = seconds * (self.validation.whole_factor + (self.config.train.early_stopping is not None))
        self._reporting.write(self.progress, figures | ({"whole_split": True} if whole else {}))
        return figures

    def _evaluate_when_due(self) -> None:
        every, step = self.config.train.eval_every, self.progress.step
        if every is None or step % every or step == self.schedule.steps or self.validation is None:
            return
        figures = self.progress.newest = self._validate(whole=False)
        self.config.console.detail(f"step {step}: valid_loss {figures['valid_loss']:.4f}")
        if self.config.train.early_stopping is not None:
            if judge(self.progress, self.config.train.early_stopping, float(figures["valid_loss"])):
                weights = self._average.weights(self.objective.model)
                self._best = {name: whole(value.detach()).clone() for name, value in weights.items()}

    def _save_when_due(self) -> None:
        self._states.look()
        if self._states.due(self.progress.step):
            self._save()

    def _save(self, again: bool = False) -> None:
        """Takes the whole state, if the step or `again` says so; every process takes part, the first one writes."""
        if self._states.newest == self.progress.step and not again:
            return
        self._window.gather(self.progress.step)  # waits for the device: that is a step's time
        with self._clock.aside():
            self.progress.elapsed = self._clock.elapsed()
            kept = (self._best, self._average.values)
            tensors, meta = capture(self.objective.model, self.optimizer, self.schedule, self.progress, *kept)
            meta |= {"window": self._window.saved(), "metrics_position": self.run.metrics_position()}
            meta |= {"reserve": self._reserve, "config": self.config.config, "data": self.config.data}
            meta |= {"choices": self.config.choices, "spikes": self._watch.saved()}
            best = [self.progress.best_step] if self._best else []
            self._states.save(self.progress.step, tensors, meta, best, self._watch.reach)

    def _ends_best(self) -> bool:
        """Whether a run that used all of its budget ends with weights that beat the best ones kept on the way."""
        figures, best = self._validate(whole=False), self.progress.best_loss
        return bool(figures) and (best is None or float(figures["valid_loss"]) < best)

    def _finish(self, stop: StopSignals, bar: Bar) -> TrainResult:
        """The last validation, on the whole split, with the weights that are kept."""
        self._rows.end()
        self._save(again=self.schedule.seconds is not None)  # a state of this step may not know that time is over
        if self._window.has_steps:  # nobody knew that they were the last
            self._reporting.line(self.progress, self._window, self._clock, bar)
        for note in self.schedule.notes(self.progress.step, self._clock.warm_up):
            self.config.console.warn(note)
        best = bool(self._best) and self.config.train.early_stopping is not None
        best = best and (self.progress.stopped_early or not self._ends_best())
        self._states.settle()
        if best:
            self._average.forget()
            put_back(self.objective.model, self._best)
        else:
            self._average.settle(self.objective.model)
        self.objective.before_pass = lambda: self._leave_if_asked(stop)  # what is left can be done later
        self._observe(last=True)
        self.progress.newest = self._validate(whole=True) or self.progress.newest
        return train_result(self.progress, self._clock, self._reporting.rates, self.config, best, self._watch.left_out)
