"""One call of a command, from its options to its answer: load the config, check the inputs, show or run, say JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmforge.config.load import Loaded, load_config
from llmforge.config.render import json_schema, render
from llmforge.config.schema import Config
from llmforge.errors import LlmforgeError, UsageError
from llmforge.runtime.console import Console, quantity
from llmforge.runtime.exits import rank
from llmforge.runtime.launch import Fleet, launch, restarted
from llmforge.runtime.launch_note import has_begun
from llmforge.stages.table import Stage, schemas, stage

_KINDS = ("corpus", "tokenizer", "tokens", "model")
_LOOKS_BACK = ("why", "sweep", "reveal")  # questions to a finished run of clean, whose sources may be gone


@dataclass(frozen=True)
class Request:
    """What was typed behind a command."""

    command: str
    config: Path | None
    overrides: Sequence[str]
    dry_run: bool = False
    schema: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def console(self) -> Console:
        """The terminal of this call; ranks above 0 of a distributed run are silent."""
        silent = rank() > 0
        return Console(quiet=self.quiet or silent, verbose=self.verbose, json=self.json or silent)


def say_json(value: object) -> None:
    """One JSON object (or, of a list, one a line) on stdout."""
    for entry in value if isinstance(value, list) else [value]:
        sys.stdout.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")


def require_config(request: Request) -> None:
    """Raises UsageError when neither a file nor an override was given."""
    if request.config is None and not request.overrides:
        first = "--model DIR or " if request.command in ("chat", "generate", "evaluate") else ""
        hint = f"give {first}--config FILE or key=value; `llmforge {request.command} --help` has examples"
        raise UsageError("no config was given", f"llmforge {request.command}", hint)


def refuse_output_over_input(config: Config, facts: Mapping[str, object]) -> None:
    """Raises UsageError when output_dir is what is read, or the run folder in which what is read would be replaced."""
    given = getattr(config, "output_dir", None)
    reads = facts.get("reads")
    if given is None or not isinstance(reads, (list, tuple)):
        return
    output = Path(str(given)).expanduser().resolve()
    for read in reads:
        path = Path(str(read)).expanduser().resolve()
        if path == output or (path.parent == output and path.name in _KINDS):
            raise UsageError(f"output_dir is the folder that is read ({read})", str(given), "name another output_dir")


def show(request: Request, loaded: Loaded[Any], facts: Mapping[str, object]) -> None:
    """The answer to --dry-run: the resolved config with the origin of each value, what is read and written."""
    if request.json:
        values = loaded.config.model_dump(mode="json")
        return say_json({"config": values, "origins": loaded.origins, "preview": dict(facts)})
    lines = [f"# llmforge {request.command}, resolved", render(loaded.config, loaded.origins)]
    sys.stdout.write("\n".join([*lines, *preview_lines(facts)]) + "\n")


def preview_lines(facts: Mapping[str, object]) -> list[str]:
    """What a stage would read and write, a line each."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, (list, tuple)):
            lines += [f"{key}: {entry}" for entry in value]
        elif key == "bytes":
            lines.append(
                f"size: about {quantity(value, 'B')}" if isinstance(value, (int, float)) else "size: not known"
            )
        elif isinstance(value, int) and not isinstance(value, bool):
            lines.append(f"{key}: {value:,}")
        else:
            lines.append(f"{key}: {value}")
    return lines


def owners() -> dict[str, type[Config]]:
    """The config classes by command, to tell whose config a file is."""
    from llmforge.stages.pipeline import RunConfig

    return {**schemas(), "run": RunConfig}


def execute(request: Request, **options: object) -> None:
    """Runs the stage of a command, or shows its schema or what it would do; `options` go to the stage."""
    chosen = stage(request.command)
    if request.schema:
        sys.stdout.write(json_schema(chosen.schema))
        return
    require_config(request)
    loaded = load_config(chosen.schema, request.config, request.overrides, owners)
    looks_back = any(options.get(name) for name in _LOOKS_BACK) and not request.dry_run
    facts = {} if looks_back else chosen.preview(loaded.config)
    refuse_output_over_input(loaded.config, facts)
    if request.dry_run and options.get("sample") is None:
        show(request, loaded, facts)
        return
    _run(chosen, loaded.config, request, options)


def _run(chosen: Stage, config: Config, request: Request, options: dict[str, object]) -> None:
    fleet = options.pop("fleet", None)
    if isinstance(fleet, Fleet):
        if "RANK" not in os.environ and not fleet.alone:
            launch(fleet, sys.argv[1:])
        if restarted() and has_begun(Path(config.output_dir)):  # type: ignore[attr-defined]  # every training has one
            options["resume"] = "auto"  # what was to be started anew, or from a folder, has been by now
    try:
        result = chosen.run(config, request.console(), **options)
    except LlmforgeError as error:
        if options.get("resume", "auto") != "auto" and error.hint is not None:
            error.hint = error.hint.replace("the same command goes on", "the same command without --resume goes on")
        raise
    if request.json and rank() == 0 and result is not None:
        say_json(result["samples"] if request.command == "generate" else result)  # CLI.md: an object for each sample
