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
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.checkpoint.tensor_file import write_tensors
from llmforge.errors import DamagedError, DataError, MachineError
from llmforge.runtime.files import publish_folder, restore_folder, temporary_sibling, write_atomic
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


@dataclass(frozen=True)
class Retention:
    """Which states stay when a new one is there: the newest `last` (two at least), and what is named beside."""

    last: int = KEEP_MIN
    # states whose step is a multiple stay for good
    every: int | None = None
    # these stay (the best one's)
    steps: Collection[int] = ()
    # the newest state of this step or an earlier one stays: a run may have to go back so far
    reach: int | None = None

    def kept(self, steps: Collection[int], newest: int) -> set[int]:
        """Those of `steps` that stay when `newest` has just been saved; later ones are of a course that was left."""
        earlier = sorted((step for step in steps if step < newest), reverse=True)
        kept = {newest, *earlier[: max(self.last, KEEP_MIN) - 1]} | {step for step in earlier if step in self.steps}
        if self.every is not None:
            kept |= {step for step in earlier if step and step % self.every == 0}
        if self.reach is not None:
            kept |= set([step for step in earlier if step <= self.reach][:1])
        return kept


def save_state(
    folder: Path,
    step: int,
    tensors: dict[str, Tensor],
    meta: dict[str, object],
    keep: Retention = Retention(),  # noqa: B008
) -> Path:
    """Writes `folder/step-<step>`, removes the states that `keep` does not name, and returns its path.

    `folder` is the run's `checkpoints` folder. `meta` is plain JSON values, nested as one likes with strings as keys;
    tensors and bytes inside it are kept exactly (random number generators' states). Tuples come back as lists. States
    of later steps are removed: they belong to a course that the run has gone back from.

    Raises:
        MachineError: the disk is full or fails; what was there is untouched.
    """
    final = folder / f"step-{step}"
    stored = dict(tensors)
    plain = _extract(meta, "meta", stored)
    _write(final, step, _separate(stored), json.dumps(plain))
    write_atomic(folder / LATEST, final.name + "\n")
    _retain(folder, keep.kept(_steps(folder), step))
    return final


def _write(final: Path, step: int, stored: dict[str, Tensor], meta: str) -> None:
    """The folder of a state, beside its place and then in it."""
    temp: Path | None = None
    try:
        temp = temporary_sibling(final)
        write_tensors(temp / TENSORS, stored)
        (temp / META).write_text(meta, encoding="utf-8")
        write_manifest(temp, KIND, config={}, facts={"step": step})
        publish_folder(temp, final)
    except (MachineError, OSError) as error:
        needed = len(meta) + sum(value.numel() * value.element_size() for value in stored.values())
        said = error.what if isinstance(error, MachineError) else error
        what = f"cannot write a state of {needed:,} bytes ({said}); the states saved before are whole"
        hint = "free space or choose another output_dir, and the same command goes on"
        raise MachineError(what, final, hint) from error
    finally:
        if temp is not None:
            shutil.rmtree(temp, ignore_errors=True)


def latest_state(folder: Path, at_most: int | None = None) -> tuple[Path | None, list[str]]:
    """The newest whole state below a `checkpoints` folder, its digests verified, and notes on those passed over.

    `at_most` leaves out states of later steps. (None, []) when there is no state at all.

    Raises:
        DamagedError: there are states and every one of them is damaged.
    """
    for left in folder.glob(".step-*.old"):
        restore_folder(folder / left.name.removeprefix(".").removesuffix(".old"))
    steps = {step: path for step, path in _steps(folder).items() if at_most is None or step <= at_most}
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


def check_state(path: Path) -> None:
    """Compares the digests of a state's files.

    Raises:
        DataError: the folder holds no state.
        DamagedError: a file is missing, truncated or changed.
    """
    read_manifest(path, KIND, verify="digests")


def load_state(path: Path, verified: bool = False) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The tensors and the meta that `save_state` was given; digests are compared unless the caller just did.

    Raises:
        DataError: the folder holds no state.
        DamagedError: a file is missing, truncated or changed.
    """
    from safetensors.torch import load_file

    read_manifest(path, KIND, verify="sizes" if verified else "digests")
    # Copies, since safetensors hands out views of the file, which retention may remove.
    stored = {name: value.clone() for name, value in load_file(path / TENSORS).items()}
    meta = _restore(json.loads((path / META).read_text(encoding="utf-8")), stored)
    assert isinstance(meta, dict)
    return {name: value for name, value in stored.items() if not name.startswith("meta/")}, meta


def _steps(folder: Path) -> dict[int, Path]:
    matches = ((_STEP.fullmatch(path.name), path) for path in folder.glob("step-*") if path.is_dir())
    return {int(match[1]): path for match, path in matches if match}


def _retain(folder: Path, kept: set[int]) -> None:
    for number, path in _steps(folder).items():
        if number in kept:
            continue
        # Renamed first: a folder that is half removed must not look like a state.
        gone = folder / f".step-{number}.gone"
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
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
