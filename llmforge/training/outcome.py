"""What came out of a run, for the stage that asked for it: counts, losses, rates. Knows no loop."""

from __future__ import annotations

from collections.abc import Sequence

from llmforge.runtime.device import peak_memory_bytes
from llmforge.training.loop_parts import Loop, TrainResult
from llmforge.training.metric_lines import steady
from llmforge.training.metrics import Clock, mfu, mfu_formula
from llmforge.training.state import Progress


def train_result(
    progress: Progress, clock: Clock, rates: Sequence[float], loop: Loop, restored: bool, left_out: Sequence[int]
) -> TrainResult:
    """The result of a run at its end; `rates` are the tokens a second of each line of metrics.jsonl.

    The rate is their median without the first, in which the machine warms up and compiles. `restored`: the best weights
    were put back; `left_out` are the data steps that no step saw.
    """
    rate = steady(rates)
    usage = (loop.flops_per_token, loop.peak, loop.world.size)
    return TrainResult(
        steps=progress.step,
        tokens=progress.tokens,
        train_loss=progress.train_loss,
        figures=progress.newest,
        untrained=progress.untrained,
        tokens_per_second=rate,
        compile_seconds=clock.warm_up if loop.choices.get("compile") else 0.0,
        peak_memory_bytes=peak_memory_bytes(loop.device),
        best_step=progress.best_step if restored else None,
        stopped_early=progress.stopped_early,
        seconds=clock.elapsed(),
        new_steps=clock.steps,
        left_out=left_out,
        micro_batch_size=progress.micro_batch_size or loop.train.micro_batch_size,
        epochs=progress.tokens / loop.epoch_tokens if loop.epoch_tokens else None,
        mfu=mfu(rate, *usage) if rate else None,
        mfu_formula=mfu_formula(rate, *usage) if rate else None,
    )
