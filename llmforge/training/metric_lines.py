"""The lines of a run's metrics.jsonl, read back. Torch-free; knows no run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def metric_lines(folder: Path) -> list[dict[str, object]]:
    """The lines of a run folder's metrics.jsonl; one that cannot be read is left out."""
    path, found = folder / "metrics.jsonl", []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found


def steady(values: Sequence[float]) -> float | None:
    """The median of a figure over the lines, without the first, in which the machine warms up and compiles."""
    return statistics.median(values[1:] or values) if values else None


def steady_figure(lines: Iterable[Mapping[str, object]], key: str) -> float | None:
    """The same of the lines that have the figure; None: there is none."""
    return steady([value for line in lines if isinstance(value := line.get(key), int | float)])
