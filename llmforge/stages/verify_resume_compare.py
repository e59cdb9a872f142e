"""Two run folders of one training command, compared bit for bit but for what the clock says.

States (weights, optimizer, random number generators, data position), the published model, metrics.jsonl and
samples.jsonl; answers with what was compared, or with the first difference in words. Loads no torch: tensors are
bytes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from llmforge.checkpoint.tensor_spans import ITEM_BYTES, TensorSpan, read_spans
from llmforge.runtime.files import files_below
from llmforge.runtime.run_folder import CLOCKED

# What differs between two runs of the same bits: rates and times, and where the run lies.
_CLOCKED = CLOCKED | {"elapsed", "reserve", "output_dir"}
_POSITION = "metrics_position"
_MANIFEST, _LINES = "manifest.json", ("metrics.jsonl", "samples.jsonl")
_ARTEFACTS = ("model", "adapter")
_CHECKPOINTS = "checkpoints"
_BLOCK = 1 << 20
_UNPACK = {"F32": "<f", "F64": "<d", "I64": "<q", "I32": "<i", "U8": "<B"}


class Differs(Exception):
    """The first difference, in words that name file and place."""


@dataclass
class Compared:
    """How much was found equal, and digests (SHA-256) of the last state's and the model's tensors."""

    states: int = 0
    tensors: int = 0
    tensor_bytes: int = 0
    files: int = 0
    metric_lines: int = 0
    digests: dict[str, str] = field(default_factory=dict)


def compare_runs(straight: Path, disturbed: Path) -> Compared:
    """Everything that two finished runs left behind.

    Raises:
        Differs: the first thing that is not the same.
        DamagedError: a safetensors file cannot be read.
    """
    done = Compared()
    for name in _LINES:
        _compare_lines(straight / name, disturbed / name, done)
    steps = [{path.name for path in (run / _CHECKPOINTS).glob("step-*")} for run in (straight, disturbed)]
    if max(steps[0], key=_number, default="") != max(steps[1], key=_number, default=""):
        raise Differs(f"the last states are not of one step: {sorted(steps[0])} and {sorted(steps[1])}")
    for name in sorted(steps[0] & steps[1], key=_number, reverse=True):
        _compare_folders(straight, disturbed, Path(_CHECKPOINTS) / name, done)
        done.states += 1
    for kind in _ARTEFACTS:
        if (straight / kind).is_dir() or (disturbed / kind).is_dir():
            _compare_folders(straight, disturbed, Path(kind), done)
    return done


def _number(name: str) -> int:
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else -1


def without_clock(value: Any) -> Any:
    """A JSON value without the keys that hold times and places."""
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if key not in _CLOCKED and not key.endswith("seconds")}
        return {key: without_clock(inner) for key, inner in kept.items()}
    return [without_clock(inner) for inner in value] if isinstance(value, list) else value


def _compare_lines(first: Path, second: Path, done: Compared) -> None:
    if not first.exists() and not second.exists():
        return
    rows = [_lines(path) for path in (first, second)]
    for number, (left, right) in enumerate(zip_longest(*rows), start=1):
        if left is None or right is None:
            more = f"{first.name} has {len(rows[0])} lines undisturbed and {len(rows[1])} resumed"
            raise Differs(f"{more}; the first that only one has: {(left or right)[:200]}")
        try:
            values = without_clock(json.loads(left)), without_clock(json.loads(right))
        except ValueError:
            raise Differs(f"{first.name} line {number} is not JSON: {left[:80]!r} and {right[:80]!r}") from None
        if values[0] != values[1]:
            raise Differs(f"{first.name} line {number}: {_first_json(*values)}")
    done.metric_lines += len(rows[0]) if first.name == _LINES[0] else 0


def _lines(path: Path) -> list[str]:
    # Not splitlines: the text of a sample may hold U+2028 or U+0085, which end no line of JSON.
    lines = path.read_bytes().decode("utf-8", "backslashreplace").split("\n") if path.exists() else []
    return lines[:-1] if lines and not lines[-1] else lines


def _first_json(left: Any, right: Any, place: str = "") -> str | None:
    """The first difference of two JSON values, by its dotted place; None when they are equal."""
    if isinstance(left, dict) and isinstance(right, dict):
        pairs: Iterator[tuple[object, Any, Any]] = (
            (key, left.get(key), right.get(key)) for key in sorted({*left, *right})
        )
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = ((index, a, b) for index, (a, b) in enumerate(zip(left, right, strict=True)))
    else:
        return None if left == right else f"{place or 'value'} is {left!r} undisturbed and {right!r} resumed"
    found = (_first_json(a, b, f"{place}.{key}" if place else str(key)) for key, a, b in pairs)
    return next((text for text in found if text is not None), None)


def _compare_folders(straight: Path, disturbed: Path, inner: Path, done: Compared) -> None:
    names = [{path.as_posix() for path in files_below(run / inner)} for run in (straight, disturbed)]
    if names[0] != names[1]:
        raise Differs(f"{inner} holds other files: {', '.join(sorted(names[0] ^ names[1]))} in one run only")
    for name in sorted(names[0]):
        first, second = straight / inner / name, disturbed / inner / name
        label = (inner / name).as_posix()
        if name == _MANIFEST:  # it digests the very files that are compared here, times and places included
            continue
        if name.endswith(".safetensors"):
            done.digests[label] = _compare_tensors(first, second, label, done)
        elif name.endswith(".json"):
            left, right = _json(first, straight), _json(second, disturbed)
            if (text := _first_json(left, right)) is not None:
                raise Differs(f"{label}: {text}")
        elif first.read_bytes() != second.read_bytes():
            raise Differs(f"{label} differs")
        done.files += 1


def _json(path: Path, run: Path) -> Any:
    """A JSON file without times; a place in metrics.jsonl becomes the number of lines before it."""
    value = without_clock(json.loads(path.read_text(encoding="utf-8")))
    if isinstance(value, dict) and isinstance(value.get(_POSITION), int):
        before = (run / _LINES[0]).read_bytes()[: value[_POSITION]]
        value[_POSITION] = {"lines": before.count(b"\n"), "at the end of one": before[-1:] in (b"\n", b"")}
    return value


def _compare_tensors(first: Path, second: Path, label: str, done: Compared) -> str:
    """Compares by name; returns the SHA-256 over names, dtypes, shapes and bytes."""
    spans = [{span.name: span for span in read_spans(path)} for path in (first, second)]
    if spans[0].keys() != spans[1].keys():
        names = ", ".join(sorted(spans[0].keys() ^ spans[1].keys())[:5])
        raise Differs(f"{label}: tensors in one run only: {names}")
    digest = hashlib.sha256()
    with first.open("rb") as left, second.open("rb") as right:
        maps = [mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) for stream in (left, right)]
        for name, span in sorted(spans[0].items()):
            other = spans[1][name]
            if (span.dtype, span.shape) != (other.dtype, other.shape):
                raise Differs(f"{label}: {name} is {span.dtype} {list(span.shape)} and {other.dtype} {other.shape}")
            digest.update(f"{name} {span.dtype} {span.shape}".encode())
            for offset in range(0, span.stop - span.start, _BLOCK):
                size = min(_BLOCK, span.stop - span.start - offset)
                blocks = [
                    m[s.start + offset : s.start + offset + size] for m, s in zip(maps, (span, other), strict=True)
                ]
                if blocks[0] != blocks[1]:
                    raise Differs(f"{label}: {_first_byte(span, offset, blocks)}")
                digest.update(blocks[0])
            done.tensors += 1
            done.tensor_bytes += span.stop - span.start
        for mapped in maps:
            mapped.close()
    return digest.hexdigest()


def _first_byte(span: TensorSpan, offset: int, blocks: list[bytes]) -> str:
    at = next(place for place, (a, b) in enumerate(zip(*blocks, strict=True)) if a != b)
    size = ITEM_BYTES.get(span.dtype, 1)
    start = at // size * size
    items = [block[start : start + size] for block in blocks]
    form = _UNPACK.get(span.dtype)
    shown = [repr(struct.unpack(form, item)[0]) if form else f"0x{item.hex()}" for item in items]
    place = f"element {span.element_at(span.start + offset + at)} (byte {span.start + offset + at} of the file)"
    return f"{span.name} differs first in {place}: {shown[0]} undisturbed, {shown[1]} resumed"
