"""A run of `pretrain` seen from behind: its config, how far it came, and its rows over the very shards it read.

Paths in the config are those of the folder in which the run was started; one that is not there is looked for beside the
run. Nothing is read that the run did not use: every artefact's digest is compared.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmforge.errors import ConfigError, DamagedError, DataError, LlmforgeError, UsageError
from llmforge.runtime.manifest import find_artefact, read_manifest
from llmforge.tokens.folder import TokenFolder, TokenSplit
from llmforge.training.metric_lines import metric_lines

if TYPE_CHECKING:
    from llmforge.stages.pretrain import PretrainConfig
    from llmforge.tokens.run_rows import RunRows


@dataclass(frozen=True)
class TracedRun:
    """`steps` are done; the weights that were kept are those of `kept_step` (None: of the last one)."""

    path: Path
    config: PretrainConfig
    steps: int
    kept_step: int | None
    folders: tuple[TokenFolder, ...]
    valid: tuple[TokenSplit, ...]
    rows: RunRows
    # data steps (from 0) that no step of the run saw, since it went back and left them out
    left_out: tuple[int, ...] = ()


def open_run(given: Path) -> TracedRun:
    """Opens a run folder of `pretrain`, or that of a pipeline with one such step.

    Raises:
        UsageError: it is no such folder.
        DataError: a tokens folder is not there; the line names it.
        DamagedError: it was made anew since, or is damaged.
    """
    from llmforge.stages.pretrain_data import batch_rows, mixing, run_sources, train_splits
    from llmforge.tokens.run_rows import RunRows

    path, facts = _find(given)
    config = _config(path)
    used = _used_digests(path)
    folders = tuple(
        TokenFolder.open(locate(source.path, "tokens", path, used.get(source.name), f"the tokens of {source.name}"))
        for source in config.data.sources
    )
    rows = batch_rows(config, folders)
    sources = run_sources(config, train_splits(config, folders))
    plan = RunRows(sources, config.data.seq_len, rows, config.seed, mixing(config))
    result = facts.get("result") if isinstance(facts.get("result"), dict) else {}
    kept = result.get("best_step") if isinstance(result, dict) else None
    steps, held_out = _steps_done(path, facts), _held_out(config, folders, path)
    return TracedRun(path, config, steps, kept, folders, held_out, plan, _left_out(facts))


def locate(path: str, kind: str, run: Path, digest: str | None, what: str) -> Path:
    """The artefact that a run used, at its path or at the same path seen from a folder above the run.

    Raises:
        DataError: it is not there.
        DamagedError: another one lies in its place.
    """
    given = Path(path).expanduser()
    above = [] if given.is_absolute() else [parent / given for parent in run.resolve().parents]
    other = None
    for place in (given, *above):
        try:
            found = find_artefact(place, kind)
            if digest is None or read_manifest(found, kind).digest == digest:
                return found
            other = other or found
        except DataError:
            continue
    if other is not None:
        message = f"{what} in this folder were made anew since the run read them"
        raise DamagedError(message, other, "put back the earlier ones")
    hint = "put it back, or call trace from the folder in which the run was started"
    raise DataError(f"{what} are not there: moved or deleted", path, hint)


def _find(given: Path) -> tuple[Path, dict[str, Any]]:
    facts = _read(given / "run.json")
    if facts is None:
        what = "no such folder" if not given.exists() else "no run here: there is no run.json"
        raise UsageError(what, given, "give the run folder of a pretrain (its output_dir)")
    if facts.get("command") == "run":
        inner = [(path.parent, found) for path in sorted(given.glob("*/run.json")) if (found := _read(path))]
        trained = [(path, found) for path, found in inner if found.get("command") == "pretrain"]
        if len(trained) != 1:
            names = ", ".join(str(path) for path, _ in trained) or "none"
            raise UsageError(f"a pipeline with {len(trained)} runs of pretrain ({names})", given, "name one of them")
        return trained[0]
    if facts.get("command") != "pretrain":
        raise UsageError(f"a run of {facts.get('command')}; trace follows runs of pretrain", given, "name such a run")
    return given, facts


def _read(path: Path) -> dict[str, Any] | None:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def _config(path: Path) -> PretrainConfig:
    from llmforge.config.load import load_config
    from llmforge.stages.pretrain import PretrainConfig

    try:
        return load_config(PretrainConfig, path / "config.yaml", []).config
    except ConfigError as error:
        raise DamagedError(f"not a config that this version wrote: {error.what}", error.where) from error
    except UsageError as error:
        raise DamagedError(error.what, error.where, error.hint) from error


def _left_out(facts: dict[str, Any]) -> tuple[int, ...]:
    rewinds = facts.get("rewinds", [])
    return tuple(sorted({int(step) for entry in rewinds for step in entry["data"]}))


def _used_digests(path: Path) -> dict[str, str]:
    """What the run was made from, by the newest state or by the published model."""
    newest = path / "checkpoints" / _text(path / "checkpoints" / "latest") / "state.json"
    state, record = _read(newest) or {}, _read(path / "manifest.json") or {}
    found = state.get("data") or record.get("made_from") or {}
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    try:
        return Path(path.read_text(encoding="utf-8").strip()).name
    except (OSError, ValueError):
        return "none"


def _steps_done(path: Path, facts: dict[str, Any]) -> int:
    """By the result of a finished run, else by the newest line of metrics and the newest state."""
    result = facts.get("result")
    if facts.get("status") == "finished" and isinstance(result, dict) and isinstance(result.get("steps"), int):
        return int(result["steps"])
    steps = [0]
    state = _text(path / "checkpoints" / "latest").removeprefix("step-")
    steps += [int(state)] if state.isdecimal() else []
    with suppress(OSError):
        steps += [step for line in metric_lines(path) if isinstance(step := line.get("step"), int)]
    return max(steps)


def _held_out(config: PretrainConfig, folders: tuple[TokenFolder, ...], run: Path) -> tuple[TokenSplit, ...]:
    if config.data.valid is None:
        return tuple(folder.split("valid") for folder in folders if "valid" in folder.split_names)
    try:
        folder = TokenFolder.open(locate(config.data.valid, "tokens", run, None, "the held-out tokens"))
    except LlmforgeError:
        return ()
    return (folder.split("valid" if "valid" in folder.split_names else "train"),)
