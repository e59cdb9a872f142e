"""The lines of a run's metrics.jsonl, read back. Torch-free; knows no run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path


def metric_lines(folder: Path) -> list[dict[str, object]]:
    """The lines of a run folder's metrics.jsonl; one that cannot be read is left out."""
    path, found = folder / "metrics.jsonl", []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found


def steady(lines: Iterable[Mapping[str, object]], key: str) -> float | None:
    """The median of a figure, without the first, in which the machine warms up and compiles; None: there is none."""
    values = [value for line in lines if isinstance(value := line.get(key), int | float)]
    return statistics.median(values[1:] or values) if values else None
