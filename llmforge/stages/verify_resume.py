"""`llmforge verify-resume`: a short run of a training config, killed and resumed, compared bit for bit with one left
alone.

Takes any config of `pretrain` or `finetune`; writes a certificate, or says the first difference. Bit for bit is what is
promised on one machine with one number of processes (DESIGN.md, contract 4); no tolerance is used.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmforge.config.load import Loaded, load_config, merged_tree
from llmforge.config.overrides import split_override
from llmforge.config.schema import Config
from llmforge.errors import GateError, UsageError
from llmforge.runtime.console import Console, duration
from llmforge.stages.table import Stage, stage

if TYPE_CHECKING:
    from llmforge.stages.request import Request
    from llmforge.stages.verify_resume_compare import Compared
    from llmforge.stages.verify_resume_runs import Killed, Timing

CERTIFICATE = "verify-resume.json"
_BUDGETS = ("max_steps", "max_tokens", "num_epochs", "max_minutes")
_SAVES = 6  # of the short run, so that kills find states of every age
_LOOKS = 3  # validations and samples within it, where the config has any


@dataclass(frozen=True)
class Asked:
    """`kills` SIGKILLs over a run of `steps` steps on `nproc` processes, at moments drawn with `seed`."""

    kills: int
    steps: int
    nproc: int
    seed: int


def answer(request: Request, asked: Asked) -> None:
    """The whole command: reads the config, shows what would be done (--dry-run) or does it and says the result.

    Raises:
        UsageError: no config of pretrain or finetune.
        GateError: the resumed run differs; the line names the first difference and the folder of both runs.
        LlmforgeError: the undisturbed run failed; the error is the one that it gave.
    """
    from llmforge.stages.request import require_config, say_json

    if request.schema:
        return _show_schemas()
    require_config(request)
    command = _owner(request.config, request.overrides)
    chosen = stage(command)
    loaded: Loaded[Any] = load_config(chosen.schema, request.config, request.overrides, _owners)
    facts = chosen.preview(loaded.config)
    short = shortened(loaded.config, asked.steps)
    console = request.console()
    for line in _not_used(request.overrides, loaded.config.model_dump(mode="json"), short):
        console.warn(line)
    if request.dry_run:
        return _show(request, asked, chosen, short, facts)
    certificate = verify(chosen, loaded.config, asked, console)
    if request.json:
        say_json(certificate)


def verify(chosen: Stage, config: Any, asked: Asked, console: Console) -> dict[str, object]:
    """Runs, kills, resumes, compares; returns the certificate, which is also left in the config's output_dir.

    The two runs lie in a temporary folder, which is kept only when they differ.

    Raises:
        GateError, LlmforgeError: as `answer`.
    """
    from llmforge.stages.verify_resume_compare import Differs, compare_runs
    from llmforge.stages.verify_resume_runs import Command, draw_kills, run_killed, run_straight

    place = Path(tempfile.mkdtemp(prefix="llmforge-verify-resume-"))
    short, began = shortened(config, asked.steps), time.monotonic()
    keep = False
    try:
        commands = [
            Command(chosen.command, _written(chosen, short, place / name), place / name, asked.nproc)
            for name in ("undisturbed", "resumed")
        ]
        console.say(f"an undisturbed run of {asked.steps} steps in {commands[0].output}")
        timing = run_straight(commands[0])
        console.say(f"it took {duration(timing.total)}; the same, killed {asked.kills} times")
        drawn = draw_kills(asked.kills, asked.steps, asked.seed)
        console.detail(f"moments: {', '.join(map(str, drawn))}")
        kills = run_killed(commands[1], drawn, timing)
        for kill in kills:
            console.say(
                f"killed {kill.where} ({kill.processes} processes); newest state: {kill.newest_state or 'none'}"
            )
        try:
            compared = compare_runs(commands[0].output, commands[1].output)
        except Differs as error:
            keep = True
            hint = "both runs are kept there; set deterministic=true in your own runs"
            raise GateError(f"the resumed run differs: {error}", place, hint) from error
        seconds = time.monotonic() - began
        certificate = _certificate(chosen, config, short, asked, timing, kills, compared, seconds)
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    path = _keep(certificate, Path(config.output_dir))
    console.result(_words(certificate, path))
    return {**certificate, "output": str(path)}


def shortened(config: Any, steps: int) -> dict[str, Any]:
    """The values of a training config cut to a run of `steps` steps that is deterministic, logs every step and saves
    several times; `output_dir` is for the caller to set."""
    values: dict[str, Any] = config.model_dump(mode="json")
    values["deterministic"] = True
    train, scheduler = values["train"], values["scheduler"]
    train |= dict.fromkeys(_BUDGETS) | {"max_steps": steps, "log_every": 1, "save_every": max(1, steps // _SAVES)}
    train["keep_every"] = None  # a multiple of the config's own save_every
    for key in ("eval_every", "sample_every"):
        if train.get(key) is not None:
            train[key] = min(train[key], max(1, steps // _LOOKS))
    if isinstance(scheduler.get("warmup_steps"), int):
        scheduler["warmup_steps"] = min(scheduler["warmup_steps"], max(1, steps // 4))
    # Nobody wants these runs among those that a tracker shows.
    values.pop("tracking", None)
    return values


def _not_used(overrides: Sequence[str], given: dict[str, Any], short: dict[str, Any]) -> list[str]:
    """A line for each override that the short run does not follow, since it has its own length, saves and lines."""
    lines = []
    for key in dict.fromkeys(".".join(split_override(text)[0]) for text in overrides):
        wanted, taken = _at(given, key), _at(short, key)
        if wanted != taken and not isinstance(wanted, dict):
            lines.append(f"{key}={json.dumps(wanted)} is not used: these runs have {json.dumps(taken)} (see --steps)")
    return lines


def _at(values: Any, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        if isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, dict) else None
    return values


def _owner(path: Path | None, overrides: Sequence[str]) -> str:
    """Which of the two training commands a config belongs to: only fine-tuning has a base model."""
    from llmforge.stages.pretrain import PretrainConfig

    root, _ = merged_tree(PretrainConfig, path, overrides)
    return "finetune" if isinstance(root.value, dict) and "base_model" in root.value else "pretrain"


def _owners() -> dict[str, type[Config]]:
    from llmforge.stages.request import owners

    return {name: schema for name, schema in owners().items() if name not in ("pretrain", "finetune")}


def _written(chosen: Stage, values: dict[str, Any], output: Path) -> Path:
    import yaml

    path = output.with_suffix(".yaml")
    checked = chosen.schema.model_validate({**values, "output_dir": str(output)})
    path.write_text(yaml.safe_dump(checked.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    return path


def _show_schemas() -> None:
    from pydantic import TypeAdapter

    from llmforge.stages.finetune import FinetuneConfig
    from llmforge.stages.pretrain import PretrainConfig

    schema = TypeAdapter(PretrainConfig | FinetuneConfig).json_schema()
    sys.stdout.write(json.dumps({"type": "object", **schema}, indent=2) + "\n")


def _show(request: Request, asked: Asked, chosen: Stage, short: dict[str, Any], facts: dict[str, object]) -> None:
    """The answer to --dry-run."""
    import yaml

    from llmforge.stages.request import preview_lines, say_json
    from llmforge.stages.verify_resume_runs import draw_kills

    kills = [asdict(kill) for kill in draw_kills(asked.kills, asked.steps, asked.seed)]
    chosen.schema.model_validate(short)  # what is shown is what would be run
    size = facts.get("bytes")
    place = f"a folder below {tempfile.gettempdir()}, removed when the runs are equal"
    writes = [place, str(Path(short["output_dir"]) / CERTIFICATE)]
    shown = {"reads": facts.get("reads", []), "writes": writes, "bytes": 2 * size if isinstance(size, int) else size}
    if request.json:
        return say_json({"command": chosen.command, "config": short, "kills": kills, "preview": shown})
    lines = [f"# llmforge {chosen.command}, twice, of this config", yaml.safe_dump(short, sort_keys=False)]
    lines += [f"kill: in the start-up, {kill['share']:.0%} of the way" for kill in kills if kill["step"] is None]
    lines += [f"kill: after the line of step {kill['step']}" for kill in kills if kill["step"] is not None]
    sys.stdout.write("\n".join([*lines, *preview_lines(shown)]) + "\n")


def _certificate(
    chosen: Stage,
    config: Any,
    short: dict[str, Any],
    asked: Asked,
    timing: Timing,
    kills: list[Killed],
    compared: Compared,
    seconds: float,
) -> dict[str, object]:
    from llmforge.runtime.manifest import git_commit, versions

    return {
        "identical": True,
        "command": chosen.command,
        "output_dir": config.output_dir,
        **asdict(asked),
        "kills_done": [kill.as_json() for kill in kills],
        "compared": {key: value for key, value in asdict(compared).items() if key != "digests"},
        "digests": compared.digests,
        "config": short,
        "notes": _notes(config, asked, kills),
        "seconds": round(seconds, 1),
        "undisturbed_seconds": round(timing.total, 1),
        "versions": versions(),
        "git_commit": git_commit(),
        "host": {"name": platform.node(), "machine": platform.machine()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _notes(config: Any, asked: Asked, kills: list[Killed]) -> list[str]:
    """What the certificate does not cover."""
    found = []
    if len(kills) < asked.kills:
        found.append(f"{asked.kills - len(kills)} of {asked.kills} kills came too late: the run was over")
    if config.train.compile == "auto":
        found.append("train.compile is auto, which compiles no run this short; train.compile=true certifies that too")
    if config.train.max_minutes is not None:
        found.append("a budget in minutes gives as many steps as fit; certified is that the steps are the same")
    if config.deterministic is False:
        found.append("deterministic is false in this config; the certified runs had it on")
    return found


def _keep(certificate: dict[str, object], output: Path) -> Path:
    from llmforge.runtime.files import write_atomic

    if output.exists() and not output.is_dir():
        raise UsageError("output_dir is a file", output, "name a folder")
    path = output / CERTIFICATE
    write_atomic(path, json.dumps(certificate, indent=2) + "\n")
    return path


def _words(certificate: dict[str, Any], path: Path) -> str:
    compared, kills = certificate["compared"], certificate["kills_done"]
    states = ", ".join(f"{kill['where']} (newest state {kill['newest_state'] or 'none'})" for kill in kills)
    lines = [
        f"identical: {certificate['command']}, {certificate['steps']} steps, {len(kills)} kills, "
        f"{certificate['nproc']} process{'es' if certificate['nproc'] > 1 else ''}",
        f"killed {states}" if kills else "killed never",
        f"compared {compared['tensors']} tensors ({compared['tensor_bytes']:,} bytes) of {compared['states']} states "
        f"and the model, {compared['files']} files, {compared['metric_lines']} lines of metrics.jsonl",
        *(f"{digest}  {name}" for name, digest in certificate["digests"].items()),
        *(f"note: {note}" for note in certificate["notes"]),
        f"certificate: {path} (after {duration(certificate['seconds'])})",
    ]
    return "\n".join(lines)
