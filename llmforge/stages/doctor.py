"""`llmforge doctor`: looks at a machine, a config, a run folder or an artefact, says what is whole, and what to type.

Exit code 0: whole; 4: the machine lacks something; 6: something is damaged. Reads only, unless --repair is given.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmforge.errors import DamagedError, DataError, LlmforgeError, MachineError, UsageError
from llmforge.runtime.console import Console
from llmforge.stages.doctor_findings import Diagnosis

if TYPE_CHECKING:
    from llmforge.config.schema import Config

_CONFIGS = frozenset({".yaml", ".yml", ".json"})


def answer(path: Path | None, config: Path | None, repair: bool, json: bool) -> None:
    """Looks, mends when asked to, and says it; raises when something is wrong, for the exit code.

    Raises:
        UsageError: nothing that llmforge knows lies there, or --repair without a run folder.
        DamagedError: something is damaged.
        MachineError: the machine lacks memory or disk for it, or has a package with a known hole.
        BusyError: it is to be repaired, and another process works in it.
    """
    from llmforge.stages.request import say_json

    if path is not None and config is not None:
        raise UsageError("give a folder or --config FILE, not both", "llmforge doctor")
    found = examine(path if path is not None else config, repair)
    if json:
        say_json(found.as_json())
    else:
        Console().result(found.page())
    damaged, lacking = found.of("damaged"), found.of("lacking")
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        hint = found.next[0] if found.next else None
        raise DamagedError(f"{damaged[0].what}{more}", damaged[0].where, hint)
    if lacking:
        raise MachineError(lacking[0].what, lacking[0].where)


def examine(path: Path | None, repair: bool = False) -> Diagnosis:
    """The diagnosis of a path, or of the machine.

    Raises:
        UsageError, BusyError: as `answer`.
    """
    from llmforge.stages.doctor_files import MADE_BY, check_folder
    from llmforge.stages.doctor_machine import check_machine
    from llmforge.stages.doctor_run import check_run, check_state_folder

    kind, place = _kind(path)
    found = Diagnosis(kind, None if place is None else str(place))
    if repair and kind != "run folder":
        raise UsageError(f"--repair mends run folders; this is a {kind}", place, "name the run folder")
    if place is None:
        check_machine(found)
    elif kind == "config":
        check_config(place, found)
    elif kind == "run folder":
        check_run(place, found, repair)
    elif kind == "state":
        check_state_folder(place, found)
    elif not check_folder(place, kind, found) and kind in MADE_BY:
        found.next.append(f"llmforge {MADE_BY[kind]}, with the config as before, makes it again")
    return found


def _kind(path: Path | None) -> tuple[str, Path | None]:
    """What lies at a path, and where it begins."""
    from llmforge.stages.doctor_files import ARTEFACTS, kind_of
    from llmforge.stages.doctor_run import require_folder

    if path is None:
        return "machine", None
    if path.suffix in _CONFIGS and not path.is_dir():
        return "config", path
    if path.is_file():
        raise UsageError("neither a folder nor a config (.yaml)", path, "llmforge doctor --help")
    require_folder(path)
    if (path / "run.json").exists() or (path / "checkpoints").is_dir():
        return "run folder", path
    kind = kind_of(path)
    if kind == "state" or kind in ARTEFACTS:
        return kind, path
    if (path / "config.json").exists():
        return "model", path
    if (path / "tokenizer.json").exists() or (path / "tokenizer.model").exists():
        return "tokenizer", path
    if any(path.glob("step-*")):
        return "run folder", path.parent
    if (path / "manifest.json").exists() and path.name in (*ARTEFACTS, "state"):
        return path.name, path  # its manifest is damaged: the name says what it was
    what = "nothing here that llmforge made or knows"
    runs = sorted(record.parent for record in path.glob("*/run.json"))
    if runs:
        raise UsageError(what, path, f"look at a run folder in it: llmforge doctor {runs[0]}")
    raise UsageError(what, path, "give a run, model, token, corpus or tokenizer folder, or a config")


def check_config(path: Path, found: Diagnosis) -> None:
    """A config of any command: its faults, its inputs byte for byte, and whether machine and disk are large enough.

    Raises:
        UsageError: it is not a config of any command, or has faults (all of them are named).
    """
    from llmforge.stages.doctor_machine import judge_disk, judge_training

    command, loaded = _load(path)
    found.facts["command"] = command
    found.add("whole", path, f"a config of `llmforge {command}`")
    if loaded is None:
        found.next = [f"llmforge {command} -c {shlex.quote(str(path))} --dry-run"]
        return
    stage, config = loaded
    try:
        facts = stage.preview(config)
    except DataError as error:
        found.add("lacking", error.where or path, f"an input is not there: {error.what}")
        found.next = [error.hint] if error.hint else []
        return
    except LlmforgeError as error:
        found.add("damaged", error.where or path, error.what)
        return
    _check_inputs(facts.get("reads"), found)
    size, output = facts.get("bytes"), getattr(config, "output_dir", None)
    if isinstance(size, int) and output:
        judge_disk(found, Path(output), size)
    if isinstance(facts.get("parameters"), int) and hasattr(config, "train"):
        found.facts["parameters"] = facts["parameters"]
        judge_training(found, config, int(str(facts["parameters"])))
    found.next.append(f"llmforge {command} -c {shlex.quote(str(path))}" + _what_is_there(output))


def _check_inputs(reads: object, found: Diagnosis) -> None:
    """Artefacts that a config reads, every byte; other inputs are there, as the preview has seen."""
    from llmforge.stages.doctor_files import ARTEFACTS, check_folder, kind_of

    for read in reads if isinstance(reads, Sequence) and not isinstance(reads, str) else ():
        folder = Path(str(read))
        kind = kind_of(folder) if folder.is_dir() else None
        if kind in ARTEFACTS:
            check_folder(folder, str(kind), found)
        else:
            found.add("note", read, "is there; it has no manifest to compare it with")


def _what_is_there(output: str | None) -> str:
    states = sorted(Path(output).glob("checkpoints/step-*")) if output else []
    return " (goes on from the states in its output_dir; see llmforge doctor on that)" if states else ""


def _load(path: Path) -> tuple[str, tuple[Any, Config] | None]:
    """The command whose config a file is, its stage and the config; a pipeline has no stage of its own.

    Raises:
        UsageError: a fault in it.
    """
    from llmforge.config.load import load_config
    from llmforge.config.yaml_tree import read_tree
    from llmforge.stages.pipeline import load_pipeline
    from llmforge.stages.request import owners
    from llmforge.stages.table import stage

    root = read_tree(path)
    keys = set(root.value) if isinstance(root.value, dict) else set()
    scores = {
        name: len(keys & set(schema.model_fields)) - len(keys - set(schema.model_fields))
        for name, schema in owners().items()
    }
    best = max(scores, key=lambda name: (scores[name], _required(owners()[name], keys)))
    if best == "run":
        load_pipeline(path, [])
        return best, None
    chosen = stage(best)
    return best, (chosen, load_config(chosen.schema, path, [], owners).config)


def _required(schema: type[Config], keys: set[str]) -> int:
    """How many of a schema's required keys are there, less those that are not."""
    required = {key for key, field in schema.model_fields.items() if field.is_required()}
    return len(required & keys) - len(required - keys)
