"""Run folders under `doctor`'s eyes: owner, record, saved states, metrics, artefacts, and what a crash left behind.

Repairs only what loses nothing, and only while it owns the folder: an artefact that was moved aside comes back, what no
process will ever finish is removed, `latest` names the newest whole state. A state is never removed.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from llmforge.errors import DamagedError, UsageError
from llmforge.runtime.files import restore_folder, write_atomic
from llmforge.runtime.owner import UNREADABLE, held, owner_of
from llmforge.stages.doctor_files import ARTEFACTS, check_artefact, check_folder
from llmforge.stages.doctor_findings import Diagnosis

_CHECKPOINTS, _LATEST = "checkpoints", "latest"
# In its place, or moved aside by a crash between two renames: a resume puts that one back.
_STEP = re.compile(r"step-(\d+)|\.step-(\d+)\.old")
_LINES = ("metrics.jsonl", "samples.jsonl")
_OLD = re.compile(r"\.(?P<name>[\w.-]+)\.old")
_UNFINISHED = re.compile(r"\.[\w.-]+\.(tmp-\w+|gone)")
# What a stopped or killed run goes on from: no leftovers.
_KEPT = {"parts": "measured parts", ".tokens.partial": "whole shards", ".samples.partial": "finished answers"}


def check_run(folder: Path, found: Diagnosis, repair: bool) -> list[Path]:
    """A run folder of any command; a pipeline's steps are run folders of their own. Returns the damaged artefacts, and
    the folder of the states when none of them is whole.

    Only a repair keeps others out: a look takes minutes, and a run that is started meanwhile must not be refused.

    Raises:
        BusyError: it is to be repaired, and another process works in it.
        UsageError: it is to be repaired, and belongs to another user.
    """
    with held(folder) if repair else nullcontext():
        owner = None if repair else owner_of(folder)
        record = _record(folder, found, owner)
        _check_leftovers(folder, found, repair, owner)  # first: a state that comes back is checked with the others
        newest = _check_states(folder, found, repair)
        for name in _LINES:
            _check_lines(folder / name, found)
        kinds = [kind for kind in ARTEFACTS if (folder / kind).is_dir() and not (folder / kind / "run.json").exists()]
        for kind in kinds:
            if not (folder / kind / "manifest.json").is_file():
                found.add("damaged", folder / kind / "manifest.json", "is missing; every artefact of a run has one")
        broken = [folder / kind for kind in kinds if not check_folder(folder / kind, kind, found)]
        if found.facts["states"] and newest is None:
            broken.append(folder / _CHECKPOINTS)
        for name, what in _KEPT.items():
            if (folder / name).exists() and record.get("status") != "finished":
                found.add("note", folder / name, f"{what} of an unfinished run: the same command goes on behind them")
    for inner in sorted(path.parent for path in folder.glob("*/run.json")):
        below = Diagnosis("run folder", str(inner))
        broken += check_run(inner, below, repair)
        found.findings += below.findings
        found.repaired += below.repaired
        found.facts.setdefault("steps", {})[inner.name] = below.facts
    _say_next(folder, found, record, newest, owner, broken)
    return broken


def _record(folder: Path, found: Diagnosis, owner: str | None) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        command, status = str(record["command"]), str(record["status"])
    except FileNotFoundError:
        found.add("note", folder, "there is no run.json: no run of llmforge began here")
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        found.add("damaged", path, f"cannot be read: {error}")
        return {}
    found.facts |= {"command": command, "status": status, "owner": owner}
    if owner is not None and (owner != UNREADABLE or status == "running"):
        found.add("note", folder, f"`{command}` works in it now ({owner})")
    elif status == "running":
        found.facts["status"] = "killed"
        found.add("note", folder, f"`{command}` began here and neither ended nor runs: it was killed")
    else:
        ended = f"`{command}` {status} (exit code {record.get('exit_code')}, {record.get('end')})"
        found.facts |= {"error": record["error"]} if record.get("error") else {}
        reason = f": {record['error']}" if record.get("error") else ""
        found.add("whole" if status == "finished" else "note", folder, ended + reason)
    return record if isinstance(record, dict) else {}


def _steps(checkpoints: Path) -> dict[int, Path]:
    matches = ((_STEP.fullmatch(path.name), path) for path in sorted(checkpoints.glob("*")))  # those moved aside first
    return {int(match[1] or match[2]): path for match, path in matches if match}


def _check_states(folder: Path, found: Diagnosis, repair: bool) -> int | None:
    """Every saved state, and which of them a resume takes: the newest whole one."""
    checkpoints = folder / _CHECKPOINTS
    steps = _steps(checkpoints)
    whole = [step for step in sorted(steps) if _is_whole(steps[step], found)]
    newest = max(whole, default=None)
    found.facts["states"] = {f"step-{step}": step in whole for step, path in sorted(steps.items()) if path.exists()}
    if not found.facts["states"]:
        return None
    found.facts["use_state"] = None if newest is None else str(checkpoints / f"step-{newest}")
    if newest is None:
        found.add("damaged", checkpoints, f"none of the {len(found.facts['states'])} states is whole")
        return None
    found.add("whole", steps[newest], "the newest whole state: a resume goes on from here")
    _check_latest(checkpoints, f"step-{newest}", found, repair)
    return newest


def _is_whole(state: Path, found: Diagnosis) -> bool:
    """Whether a state is as it was saved; what a run removes while its bytes are read is no damage."""
    below = Diagnosis("state", str(state))
    whole = check_artefact(state, "state", below)
    if not state.exists():
        return False
    found.findings += below.findings
    return whole


def _check_latest(checkpoints: Path, newest: str, found: Diagnosis, repair: bool) -> None:
    path = checkpoints / _LATEST
    try:
        named = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, ValueError):
        named = "nothing"
    if named == newest:
        return
    if repair:
        write_atomic(path, newest + "\n")
        found.repaired.append(f"{path} names {newest} (it named {named})")
    else:
        found.add("leftover", path, f"names {named}, the newest whole state is {newest}")


def _check_lines(path: Path, found: Diagnosis) -> None:
    """A line that is no JSON; the last one of a killed run may be half a line, which a resume cuts off."""
    if not path.is_file():
        return
    content, start = path.read_bytes(), 0
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        stop = start + len(line)
        if line:
            try:
                json.loads(line)
            except ValueError:
                half = number == len(lines)
                what = (
                    "the last line is half a line, as a kill leaves it: a resume cuts it off"
                    if half
                    else (f"line {number} is not JSON")
                )
                found.add("note" if half else "damaged", path, what, ((start, stop),))
        start = stop + 1


def _check_leftovers(folder: Path, found: Diagnosis, repair: bool, owner: str | None) -> None:
    """What a crash between two renames or within a write left; a working owner's temporary files are its own."""
    if owner is not None:
        return
    for place in (folder, folder / _CHECKPOINTS):
        for path in sorted(place.glob(".*")) if place.is_dir() else ():
            old = _OLD.fullmatch(path.name)
            if old and path.is_dir():
                _put_back(place / old["name"], path, found, repair)
            elif _UNFINISHED.fullmatch(path.name):
                if repair:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    found.repaired.append(f"removed {path}, which a killed process left unfinished")
                else:
                    found.add("leftover", path, "was left unfinished by a killed process")


def _put_back(final: Path, old: Path, found: Diagnosis, repair: bool) -> None:
    """An older artefact that was moved aside for a newer one: back in place when the newer one never came."""
    if final.exists():
        found.add("note", old, f"the one before {final.name}, moved aside; the next run removes it")
    elif repair:
        restore_folder(final)
        found.repaired.append(f"{final} is back (a crash had left it as {old.name})")
    else:
        found.add("leftover", old, f"is {final.name} from before a crash; it can be put back")


def _say_next(
    folder: Path, found: Diagnosis, record: dict[str, Any], newest: int | None, owner: str | None, broken: list[Path]
) -> None:
    states = found.facts["states"]
    again = _again(record.get("argv"), bool(states))
    if found.of("leftover"):
        found.next.append(f"llmforge doctor {shlex.quote(str(folder))} --repair")
    if owner is not None or not again:
        return
    typed = f"llmforge {shlex.join(again)}"
    model = _newest_model(folder, record)
    finished = record.get("status") == "finished"
    if again[0] == "run" and broken:
        # Typed for a whole pipeline, which has no --resume and goes on from what it finds.
        found.next += [f"rm -r {shlex.quote(str(path))}" for path in _out_of_the_way(broken)]
        found.next.append(f"{typed} (makes again what is missing)")
    elif states and newest is None:
        found.next.append(f"{typed} --resume never (no state is whole: it begins anew)")
    elif not finished or broken:
        fresh = " (publishes it again from the saved state)" if broken and newest is not None else ""
        goes_on = f" (goes on from step {newest})" if newest is not None and not broken else ""
        mend = f" (mend this first: {record['error']})" if not fresh and record.get("error") else ""
        found.next.append(typed + (fresh or goes_on) + mend)
    elif model is not None:
        asks = f"llmforge generate -m {shlex.quote(str(model[0]))} -p '...'"
        found.next.append(f"llmforge chat -m {shlex.quote(str(model[0]))}" if model[1] == "finetune" else asks)


def _newest_model(folder: Path, record: dict[str, Any]) -> tuple[Path, str] | None:
    """The run folder with the last model that a run or a pipeline made, and the command that made it."""
    if (folder / "model").is_dir():
        return folder, str(record.get("command"))
    # A pipeline notes the seconds of its steps in their order.
    steps = record.get("seconds")
    for name in reversed(steps if isinstance(steps, dict) else {}):
        if (folder / name / "model").is_dir():
            return folder / name, str(name).partition("-")[0]
    return None


def _again(argv: object, states: bool) -> list[str]:
    """The words of a run's command for going on with it: without its --resume, which would go back behind the states
    saved since, or delete them. A run that has saved none still begins with the state that it names."""
    words = iter([str(word) for word in argv] if isinstance(argv, list) else [])
    kept: list[str] = []
    for word in words:
        flag, _, value = word.partition("=")
        if flag != "--resume":
            kept.append(word)
            continue
        place = value or next(words, "auto")
        if not states and place not in ("auto", "never"):
            kept += ["--resume", place]
    return kept


def _out_of_the_way(broken: list[Path]) -> list[Path]:
    """What must go for a pipeline to make it again: it knows a step by its model, which an adapter comes with."""
    found = [near for path in broken for near in (path, *([path.with_name("model")] if path.name == "adapter" else []))]
    return [path for path in dict.fromkeys(found) if path.is_dir()]


def check_state_folder(folder: Path, found: Diagnosis) -> None:
    """One saved state alone."""
    if check_artefact(folder, "state", found):
        found.next.append(f"--resume {shlex.quote(str(folder))} goes on from it")


def require_folder(path: Path) -> None:
    """Raises UsageError when there is nothing at a path, or DamagedError when it cannot be entered."""
    if not path.exists():
        raise UsageError("no such file or folder", path, "give a run, model, token, corpus or tokenizer folder")
    try:
        next(path.iterdir(), None)
    except OSError as error:
        raise DamagedError(f"cannot be read: {error.strerror}", path) from error
