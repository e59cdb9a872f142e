"""What a pipeline remembers of its steps, and from it whether a step may be skipped.

`<output_dir>/results/<step>.json` holds the step's last run: what it was made of (config, inputs, code), whether it
finished, its result and its seconds. A step is skipped when all of it is the same and its artefact is still whole,
every byte of it: reading takes seconds where a second run takes minutes, and damage found later stops the next step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmforge.config.load import leaves
from llmforge.errors import LlmforgeError
from llmforge.runtime.code import code_digest
from llmforge.runtime.files import disk_errors, write_atomic
from llmforge.runtime.manifest import find_artefact, read_manifest
from llmforge.runtime.owner import held
from llmforge.stages.pipeline import Step

_SHOWN = 3


@dataclass(frozen=True)
class Makings:
    """What a step is made of: its resolved config, the digests of its inputs, the digest of our code."""

    config: dict[str, Any]
    inputs: dict[str, str]
    code: str


@dataclass
class Record:
    """A step's last run."""

    makings: Makings
    status: Literal["started", "finished"]
    seconds: float = 0.0
    artefact: str | None = None
    result: dict[str, Any] = field(default_factory=dict)


def makings_of(step: Step) -> Makings:
    """What a run of the step now would be made of.

    Raises:
        DataError, DamagedError: an input is missing or damaged.
    """
    prints = step.stage.inputs_fingerprint
    assert prints is not None, f"{step.stage.command} is no step"
    return Makings(step.config.model_dump(mode="json"), dict(prints(step.config)), code_digest())


def results_folder(output_dir: Path) -> Path:
    """Where the records lie."""
    return output_dir / "results"


def read_record(output_dir: Path, name: str) -> Record | None:
    """The record of a step's last run; None when there is none that can be read."""
    try:
        body = json.loads((results_folder(output_dir) / f"{name}.json").read_text(encoding="utf-8"))
        return Record(**{**body, "makings": Makings(**body["makings"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_record(output_dir: Path, name: str, record: Record) -> None:
    """Keeps a record."""
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False, default=str)
    write_atomic(results_folder(output_dir) / f"{name}.json", text + "\n")


def artefact_digest(step: Step, verify: Literal["sizes", "digests"] = "sizes") -> str | None:
    """The digest of the artefact that the step left; None for a step that leaves none.

    Raises:
        DataError, DamagedError: there is none, or a file of it is missing, has another size or (verify="digests")
            other bytes.
    """
    kind = step.stage.artefact
    return None if kind is None else read_manifest(find_artefact(step.config.output_dir, kind), kind, verify).digest


def forget_states(step: Step) -> None:
    """Removes the training states that runs of other makings left in a step's folder; a folder in which another
    command ran is left to the step, which refuses it.

    Raises:
        BusyError: another process works in the folder.
        UsageError, MachineError: they cannot be removed.
    """
    folder = Path(step.config.output_dir)
    states = folder / "checkpoints"
    if not states.is_dir() or _command_there(folder) not in (None, step.stage.command):
        return
    with held(folder), disk_errors(states):
        shutil.rmtree(states)


def _command_there(folder: Path) -> str | None:
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("command")
    except (OSError, ValueError, AttributeError):
        return None
    return str(found) if found else None


def why_redo(step: Step, now: Makings, last: Record | None) -> str | None:
    """Why the step has to run (completes "because"), or None when it may be skipped."""
    if last is None:
        return "it was not run before"
    if last.status != "finished":
        return "its last run did not finish"
    if last.makings.code != now.code:
        return "llmforge's code changed"
    if changed := _changed(last.makings.config, now.config):
        return f"its config changed ({changed})"
    if changed := _changed(last.makings.inputs, now.inputs):
        return f"its input changed ({changed})"
    try:
        if artefact_digest(step, "digests") != last.artefact:
            return "its artefact was replaced"
    except LlmforgeError as error:
        return f"its artefact is not whole ({error.what})"
    return None


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The dotted keys whose values differ, the first few of them."""
    old, new = dict(leaves(dict(before))), dict(leaves(dict(now)))
    # JSON knows no tuples, so both sides are compared as JSON.
    differing = [key for key in dict.fromkeys([*old, *new]) if _json(old.get(key)) != _json(new.get(key))]
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    return ", ".join(differing[:_SHOWN]) + more


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
