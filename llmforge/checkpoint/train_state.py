"""All that a run needs to go on, in a folder that is whole or not there: `step-N/` with a manifest, renamed into place.

    checkpoints/latest            the name of the newest, for people and scripts
    checkpoints/step-200/         state.safetensors (tensors), state.json (everything else), manifest.json (SHA-256)

A save writes a hidden folder beside, flushes it, renames it, then points `latest` at it, then removes what retention
does not keep. A kill at any moment leaves every earlier state as it was. Loading verifies the digests, since a flipped
bit in such files is otherwise read without a word. Does not know what the tensors are.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.errors import DamagedError, DataError, MachineError
from llmforge.runtime.files import disk_errors, publish_folder, restore_folder, temporary_sibling, write_atomic
from llmforge.runtime.manifest import read_manifest, write_manifest

if TYPE_CHECKING:
    from torch import Tensor

KIND = "state"
TENSORS = "state.safetensors"
META = "state.json"
LATEST = "latest"
KEEP_MIN = 2
_STEP = re.compile(r"step-(\d+)")
_LEFT_BEHIND = re.compile(r"\.step-\d+\.(tmp-\d+|gone)|\.latest\.tmp-\w+")
_MARK = "$tensor"


def save_state(
    folder: Path, step: int, tensors: dict[str, Tensor], meta: dict[str, object], keep_last: int = KEEP_MIN
) -> Path:
    """Writes `folder/step-<step>` and keeps the newest `keep_last` states (at least 2); returns its path.

    `folder` is the run's `checkpoints` folder. `meta` is plain JSON values, nested as one likes with strings as keys;
    tensors and bytes inside it are kept exactly (random number generators' states). Tuples come back as lists. States
    of later steps are removed: they belong to a course that the run has gone back from.

    Raises:
        MachineError: the disk is full or fails; what was there is untouched.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    final = folder / f"step-{step}"
    stored = dict(tensors)
    plain = _extract(meta, "meta", stored)
    temp = temporary_sibling(final)
    try:
        with disk_errors(temp):
            save_file(_separate(stored), temp / TENSORS)
            (temp / META).write_text(json.dumps(plain), encoding="utf-8")
        write_manifest(temp, KIND, config={}, facts={"step": step})
        publish_folder(temp, final)
    except SafetensorError as error:
        needed = sum(value.numel() * value.element_size() for value in stored.values())
        raise MachineError(f"cannot write a state of {needed:,} bytes: {error}", final, "free space") from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    write_atomic(folder / LATEST, final.name + "\n")
    _retain(folder, step, max(keep_last, KEEP_MIN))
    return final


def latest_state(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole state below a `checkpoints` folder, its digests verified, and notes on those passed over.

    (None, []) when there is no state at all.

    Raises:
        DamagedError: there are states and every one of them is damaged.
    """
    for left in folder.glob(".step-*.old"):
        restore_folder(folder / left.name.removeprefix(".").removesuffix(".old"))
    steps = _steps(folder)
    notes: list[str] = []
    for step in sorted(steps, reverse=True):
        try:
            read_manifest(steps[step], KIND, verify="digests")
        except (DamagedError, DataError) as error:
            notes.append(f"{steps[step].name} is damaged ({error}) and is passed over")
        else:
            return steps[step], notes
    if notes:
        raise DamagedError(
            f"none of the {len(notes)} saved states is whole; the newest: {notes[0]}",
            folder,
            "start anew: --resume never",
        )
    return None, notes


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The tensors and the meta that `save_state` was given, their digests verified.

    Raises:
        DataError: the folder holds no state.
        DamagedError: a file is missing, truncated or changed.
    """
    from safetensors.torch import load_file

    read_manifest(path, KIND, verify="digests")
    # Copies, since safetensors hands out views of the file, which retention may remove.
    stored = {name: value.clone() for name, value in load_file(path / TENSORS).items()}
    meta = _restore(json.loads((path / META).read_text(encoding="utf-8")), stored)
    assert isinstance(meta, dict)
    return {name: value for name, value in stored.items() if not name.startswith("meta/")}, meta


def _steps(folder: Path) -> dict[int, Path]:
    matches = ((_STEP.fullmatch(path.name), path) for path in folder.glob("step-*") if path.is_dir())
    return {int(match[1]): path for match, path in matches if match}


def _retain(folder: Path, step: int, keep: int) -> None:
    steps = _steps(folder)
    earlier = sorted((number for number in steps if number < step), reverse=True)
    for number in set(steps) - {step, *earlier[: keep - 1]}:
        # Renamed first: a folder that is half removed must not look like a state.
        gone = folder / f".step-{number}.gone"
        shutil.rmtree(gone, ignore_errors=True)
        steps[number].rename(gone)
    # The run's lock keeps other writers out: whatever is unfinished here was left by a killed save.
    for left in folder.glob(".*"):
        if _LEFT_BEHIND.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, contiguous, no two in the same memory, as safetensors wants them."""
    seen: set[int] = set()
    result = {}
    for name, value in tensors.items():
        plain = value.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        result[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return result


def _extract(value: object, path: str, stored: dict[str, Tensor]) -> object:
    """`value` with every tensor and bytes moved into `stored` under its path and a mark left in its place."""
    import torch

    if isinstance(value, torch.Tensor):
        stored[path] = value
        return {_MARK: path, "bytes": False}
    if isinstance(value, bytes):
        stored[path] = torch.tensor(list(value), dtype=torch.uint8)
        return {_MARK: path, "bytes": True}
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value), f"only strings as keys: {path}"
        return {key: _extract(inner, f"{path}/{key}", stored) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_extract(inner, f"{path}/{index}", stored) for index, inner in enumerate(value)]
    return value


def _restore(value: object, stored: dict[str, Tensor]) -> object:
    if isinstance(value, dict):
        if _MARK in value:
            tensor = stored[value[_MARK]]
            return bytes(tensor.tolist()) if value["bytes"] else tensor
        return {key: _restore(inner, stored) for key, inner in value.items()}
    if isinstance(value, list):
        return [_restore(inner, stored) for inner in value]
    return value
