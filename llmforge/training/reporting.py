"""What a run says of its steps: lines of metrics.jsonl and the progress display. Knows no model and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmforge.runtime.console import Bar, duration, pace
from llmforge.runtime.device import peak_memory_bytes
from llmforge.runtime.run_folder import RunFolder
from llmforge.training.horizon import Horizon
from llmforge.training.loop_parts import Loop
from llmforge.training.metrics import Clock, Window, mfu
from llmforge.training.norms import GroupNorms
from llmforge.training.optimizer import Optimizer
from llmforge.training.state import Progress


class Reporting:
    """A run's lines so far; `rates` are the tokens a second of each."""

    def __init__(self, config: Loop, run: RunFolder, schedule: Horizon, optimizer: Optimizer) -> None:
        self._config, self._run, self._schedule, self._optimizer = config, run, schedule, optimizer
        self.norms = GroupNorms(optimizer.parameters, config)
        self.rates: list[float] = []
        self._marked: tuple[float, int, int] = (0.0, 0, 0)
        self._shown = 0

    def mark(self, progress: Progress, clock: Clock) -> None:
        """The next line is about what comes from here on."""
        self._marked = (clock.working(), progress.tokens, progress.step)

    def shown(self, step: int) -> None:
        """The display stands at this step."""
        self._shown = step

    def line(self, progress: Progress, window: Window, clock: Clock, bar: Bar) -> None:
        """Writes a line about the steps since the last one, and moves the display on; waits for the device."""
        step, schedule = progress.step, self._schedule
        window.gather(step)
        clock.caught_up()
        _, tokens, first = self._marked
        share = (step - first) / max(1, progress.tokens - tokens)  # steps a token, for two rates of the same steps
        figures = self._figures(progress, window, clock)
        self.write(progress, figures)
        left = schedule.seconds_left(step, clock.elapsed(), clock.pace())
        rate = figures["tokens_per_second"]
        note = f"loss {figures.get('loss', float('nan')):.3f}, {pace(rate * share, 'steps')}, {rate:,.0f} tokens/s"
        if schedule.steps is not None:
            bar.set_total(schedule.steps)  # from now on the bar itself knows how long to go
        elif left is not None:
            note += f", {duration(left)} left"
        bar.advance(step - self._shown, note)
        self._shown = step

    def write(self, progress: Progress, figures: Mapping[str, object]) -> None:
        """A line of metrics.jsonl with these figures."""
        size = self._config.epoch_tokens
        epoch = {"epoch": round(progress.tokens / size, 4)} if size else {}
        self._run.metrics({"step": progress.step, "tokens": progress.tokens, **epoch, **figures})

    def _figures(self, progress: Progress, window: Window, clock: Clock) -> dict[str, Any]:
        config, (working, before, _) = self._config, self._marked
        rate = (progress.tokens - before) / max(clock.working() - working, 1e-9)
        self.mark(progress, clock)
        self.rates.append(rate)
        figures: dict[str, Any] = window.close()
        progress.train_loss = figures.get("loss", progress.train_loss)
        figures["lr"] = self._optimizer.rate * self._schedule.factor(progress.step - 1)
        figures["tokens_per_second"] = round(rate, 1)
        figures["step_seconds"] = clock.step_seconds or clock.first_step
        share = mfu(rate, config.flops_per_token, config.peak, config.world.size)
        if share is not None:
            figures["mfu"] = round(share, 4)
        figures["memory_bytes"] = peak_memory_bytes(config.device)
        return figures | {"split_seconds": clock.split.close()} | self.norms.close()
