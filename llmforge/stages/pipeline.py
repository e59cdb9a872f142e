"""A pipeline file into steps, each with the checked config of its command.

A step is a map of one key: the command's first word, and behind a dash whatever tells two steps of one command apart
(`evaluate`, `evaluate-untuned`). Its body is the command's config, on top of the file that its key `config` names.
`${clean}` stands for the output_dir of the step `clean`; a step without an output_dir gets `<output_dir>/<step>`, also
where the file that it names has one: two pipelines by one file would write into one folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from llmforge.config.explain import in_order, near
from llmforge.config.load import Loaded, build, drop_alternatives, owner_of, seed_default_lists
from llmforge.config.overrides import put, split_override
from llmforge.config.schema import Config
from llmforge.config.yaml_tree import Node, read_tree
from llmforge.errors import ConfigError, Fault, UsageError
from llmforge.stages import table
from llmforge.stages.table import Stage

# By the first word of a step's name. `chat` talks to a person and is no step.
_APART = ("chat", "tokenizer audit")  # not steps of a way
STEPS = {command.split()[0]: command for command in table.COMMANDS if command not in _APART}
PIPELINE = "pipeline"
_REFERENCE = re.compile(r"\$\{([^}]*)\}")


class RunConfig(Config):
    """A pipeline: steps in order, each skipped when its config, its inputs and the code are those of its last run."""

    name: str = Field("pipeline", min_length=1, max_length=100, description="stands above the closing page")
    output_dir: str = Field(min_length=1, description="holds a folder for each step, and what the steps said")
    steps: list[dict[str, dict[str, Any] | None]] = Field(
        min_length=1, description="maps of one key: a command and its config; ${name} is an earlier step's output_dir"
    )


@dataclass(frozen=True)
class Step:
    """One command of a pipeline with its config; `after` are the earlier steps whose output it names."""

    name: str
    stage: Stage
    loaded: Loaded[Any]
    after: tuple[str, ...]

    @property
    def config(self) -> Any:
        """The frozen config."""
        return self.loaded.config


@dataclass(frozen=True)
class Pipeline:
    """What `llmforge run` works through; `path` is the file it was read from."""

    config: RunConfig
    steps: tuple[Step, ...]
    path: Path | None = None

    @property
    def output_dir(self) -> Path:
        """The folder of the whole pipeline."""
        return Path(self.config.output_dir)


class _Reading:
    """One reading of a pipeline file: collects faults, so that all of them come at once."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.faults: list[Fault] = []
        self.bodies: dict[str, Node] = {}

    def find_steps(self) -> None:
        """Names every step and merges its body onto the file it names."""
        steps = self.root.child("steps")
        for item in steps.value if steps is not None and isinstance(steps.value, list) else []:
            if not isinstance(item.value, dict) or len(item.value) != 1:
                self.faults.append(Fault(item.where, "a step is a map of one key, as in `- clean: {...}`"))
                continue
            [(name, body)] = item.value.items()
            word = name.split("-")[0]
            if word not in STEPS:
                hint = near(word, list(STEPS)) or f"known: {', '.join(STEPS)}"
                self.faults.append(Fault(body.where, f"`{name}` is no command that a pipeline can run", hint))
            elif name in self.bodies:
                hint = f"give the second one a name of its own, as in {name}-second"
                self.faults.append(Fault(body.where, f"two steps are named `{name}`", hint))
            elif body.value is not None and not isinstance(body.value, dict):
                self.faults.append(Fault(body.where, f"the step `{name}` must be a map of keys"))
            else:
                self.bodies[name] = self._with_its_file(body)

    def _with_its_file(self, body: Node) -> Node:
        inline = dict(body.value) if isinstance(body.value, dict) else {}
        file = inline.pop("config", None)
        merged = Node({}, body.where)
        if file is not None and isinstance(file.value, str):
            try:
                merged = read_tree(Path(file.value))
                if isinstance(merged.value, dict):
                    merged.value.pop("output_dir", None)
            except ConfigError as error:
                self.faults += error.faults
        elif file is not None:
            self.faults.append(Fault(file.where, "`config` must name a YAML file"))
        _merge(merged, Node(inline, body.where))
        return merged

    def override(self, text: str) -> None:
        """Sets a key of the pipeline (`output_dir=X`) or of a step (`clean.sources.0.path=X`)."""
        try:
            parts, value = split_override(text)
            if parts[0] in self.bodies and len(parts) > 1:
                body = self.bodies[parts[0]]
                seed_default_lists(_stage(parts[0]).schema, body, parts[1:])
                put(body, parts[1:], value)
                drop_alternatives(_stage(parts[0]).schema, body, parts[1:])
            elif parts[0] in ("name", "output_dir") and len(parts) == 1:
                put(self.root, parts, value)
            else:
                known = [*self.bodies, *RunConfig.model_fields]
                hint = near(parts[0], known) or f"begin with one of: {', '.join(known)}"
                self.faults.append(Fault(value.where, f"`{parts[0]}` is no step of this pipeline", hint))
        except ConfigError as error:
            self.faults += error.faults

    def resolve(self, node: Node, outputs: dict[str, str], used: set[str]) -> None:
        """Puts output folders for `${name}` in every text below a node."""
        if isinstance(node.value, str):
            for name in _REFERENCE.findall(node.value):
                if name in outputs:
                    used.add(name)
                else:
                    hint = near(name, list(outputs)) or f"earlier steps: {', '.join(outputs) or 'none'}"
                    self.faults.append(Fault(node.where, f"${{{name}}} names no earlier step", hint))
            node.value = _REFERENCE.sub(lambda found: outputs.get(found.group(1), found.group()), node.value)
        elif isinstance(node.value, (dict, list)):
            for child in node.value.values() if isinstance(node.value, dict) else node.value:
                self.resolve(child, outputs, used)

    def steps(self, output_dir: str) -> list[Step]:
        """Every step with its checked config; faults are collected."""
        found: list[Step] = []
        outputs: dict[str, str] = {}
        for name, body in self.bodies.items():
            chosen = _stage(name)
            used: set[str] = set()
            self.resolve(body, outputs, used)
            if "output_dir" in chosen.schema.model_fields and body.child("output_dir") is None:
                put(body, ["output_dir"], Node(f"{output_dir}/{name}", PIPELINE))
            given = body.child("output_dir")
            outputs[name] = given.value if given is not None and isinstance(given.value, str) else ""
            try:
                after = tuple(step for step in outputs if step in used)
                found.append(Step(name, chosen, build(chosen.schema, body), after))
            except ConfigError as error:
                self.faults += error.faults
        return found


def _merge(onto: Node, new: Node) -> None:
    if not isinstance(onto.value, dict) or not isinstance(new.value, dict):
        onto.value, onto.where = new.value, new.where
        return
    for key, child in new.value.items():
        if key in onto.value:
            _merge(onto.value[key], child)
        else:
            onto.value[key] = child


def _stage(name: str) -> Stage:
    return table.stage(STEPS[name.split("-")[0]])


def load_pipeline(path: Path | None, overrides: Sequence[str]) -> Pipeline:
    """The pipeline of a file with overrides on it; every step's config is checked before the first one starts.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: every fault of the pipeline and of all its steps at once.
    """
    reading = _Reading(read_tree(path) if path is not None else Node({}, "command line"))
    steps_given = [text for text in overrides if text.startswith("steps=")]
    for text in steps_given:
        parts, value = split_override(text)
        put(reading.root, parts, value)
    reading.find_steps()
    for text in overrides:
        if text not in steps_given:
            reading.override(text)
    try:
        config = build(RunConfig, reading.root).config
    except ConfigError as error:
        owner = owner_of(RunConfig, reading.root, table.schemas) if path is not None else None
        if owner:
            raise UsageError(f"this is a config of `llmforge {owner}`", path, f"llmforge {owner} -c {path}") from error
        raise ConfigError(in_order([*error.faults, *reading.faults])) from error
    steps = reading.steps(config.output_dir)
    if reading.faults:
        raise ConfigError(in_order(reading.faults))
    return Pipeline(config, tuple(steps), path)
