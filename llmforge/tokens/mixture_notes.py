"""What a person should know of a mixture before the run: shares by stage, passes over each source, and what runs out.

Plain lines of text from a plan; decides nothing but whether the plan can be kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmforge.errors import DataError
from llmforge.tokens.mixture import Phase
from llmforge.tokens.run_rows import RunRows

_RAISE = "raise data.sources.N.max_repetition (N from 0), shorten the run or add text"


def notes(rows: RunRows, steps: int | None) -> list[str]:
    """Lines about a mixture of several sources, stages or limits, and about packing; none where all is plain.

    `steps` is None when the run's length is a time.
    """
    names = [source.name for source in rows.sources]
    lines = []
    if len(names) > 1 or len(rows.mixture.phases) > 1:
        lines += [_phase(rows, phase) for phase in _reached(rows, steps)]
        later = [stage.start_row // rows.batch_rows for stage in rows.mixture.stages]
        unused = [start for start in later if steps is not None and start >= steps]
        if unused:
            lines.append(f"weights from step {unused[0]:,} on are never used: the run has {steps:,} steps")
        if steps is not None:
            for served in rows.served(steps):
                lines.append(f"{served.source}: {served.tokens:,} tokens, {served.epochs:.2f} passes over its rows")
    lines += exhausted(rows, steps)
    lines += _packing(rows)
    end = rows.max_steps
    if steps is None and end is not None:
        lines.append(f"max_repetition ends the data after {end:,} steps; a longer run fails there ({_RAISE})")
    return lines


def check(rows: RunRows, steps: int | None, when_exhausted: str) -> None:
    """Refuses a run that would use up its data, or (`refuse`) any source of it.

    Raises:
        DataError: it would; the line names the source and the step.
    """
    end = rows.max_steps
    if steps is not None and end is not None and end < steps:
        what = f"the run has {steps} steps and max_repetition ends the data after {end}"
        raise DataError(what, "data.sources", _RAISE)
    if when_exhausted == "refuse":
        found = exhausted(rows, steps)
        if found:
            raise DataError("; ".join(found), "data.sources", f"{_RAISE}, or set data.when_exhausted: redistribute")


def exhausted(rows: RunRows, steps: int | None) -> list[str]:
    """A line for each source that max_repetition ends before the run."""
    lines = []
    for phase in _reached(rows, steps):
        for source in phase.left:
            others = ", ".join(rows.sources[at].name for at in phase.active)
            limit = rows.sources[source].max_repetition
            lines.append(
                f"{rows.sources[source].name} reaches max_repetition {limit:g} at step {_step(rows, phase):,}; "
                f"from there on its rows come from {others}"
            )
    return lines


def _reached(rows: RunRows, steps: int | None) -> Iterator[Phase]:
    for phase in rows.mixture.phases:
        if steps is None or _step(rows, phase) < steps:
            yield phase


def _step(rows: RunRows, phase: Phase) -> int:
    return phase.start // rows.batch_rows


def _phase(rows: RunRows, phase: Phase) -> str:
    total = sum(phase.weights)
    pairs = zip(phase.active, phase.weights, strict=True)
    shares = ", ".join(f"{rows.sources[at].name} {weight / total:.1%}" for at, weight in pairs)
    return f"from step {_step(rows, phase):,}: {shares}"


def _packing(rows: RunRows) -> Iterator[str]:
    for source, layout in zip(rows.sources, rows.layouts, strict=True):
        if rows.packing == "best_fit":
            yield (
                f"{source.name}: {layout.num_rows:,} rows by best fit, {layout.wasted:.2%} of the positions wasted, "
                f"{layout.cut_documents:.2%} of the documents longer than a row"
            )
