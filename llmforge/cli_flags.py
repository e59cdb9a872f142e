"""The options of the command line: what every command takes, and the short flags of some.

Dataclasses, which `cli` turns into typer's parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from llmforge.stages.request import Request


@dataclass(frozen=True)
class Call:
    """The options that every command takes."""

    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Dotted overrides; the value is YAML.")
    ] = None
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="The YAML config.")] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the config, where each value came from and what would be written.")
    ] = False
    schema: Annotated[bool, typer.Option("--schema", help="Print the config's JSON Schema.")] = False
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout at the end, nothing else.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More of what happens.")] = False

    def request(self, command: str, flags: Sequence[str] = ()) -> Request:
        """The same for the stages; `flags` are overrides that stand for short flags and win."""
        from llmforge.stages.request import Request

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Request(**{**values, "command": command, "overrides": [*(self.overrides or []), *flags]})


class _Flags:
    """Short flags, each of which stands for an override."""

    def overrides(self) -> list[str]:
        """The flags that were given, as overrides."""
        from llmforge.config.overrides import spell_override

        given: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        for listed in ("tasks", "against"):
            if given.get(listed) is not None:
                given[listed] = given[listed].split(",")
        return [spell_override(_KEYS.get(name, name), value) for name, value in given.items() if value is not None]


_KEYS = {name: f"sampling.{name}" for name in ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "seed")}
_Model = Annotated[str | None, typer.Option("--model", "-m", metavar="DIR", help="The model folder.")]


@dataclass(frozen=True)
class Answering(_Flags):
    """Short flags of `generate` and `chat`."""

    model: _Model = None
    max_new_tokens: Annotated[int | None, typer.Option(help="Most tokens of one answer.")] = None
    temperature: Annotated[float | None, typer.Option(help="0: always the likeliest token.")] = None
    top_k: Annotated[int | None, typer.Option(help="Draw among this many likeliest tokens.")] = None
    top_p: Annotated[float | None, typer.Option(help="Draw among the fewest tokens with this probability.")] = None
    min_p: Annotated[float | None, typer.Option(help="Leave out tokens below this share of the likeliest.")] = None
    seed: Annotated[int | None, typer.Option(help="Another seed, another draw.")] = None


@dataclass(frozen=True)
class Prompts(_Flags):
    """Short flags of `generate`: what is asked."""

    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="One prompt; - reads it from stdin.")
    ] = None
    prompts: Annotated[
        str | None, typer.Option("--prompts", metavar="FILE", help="Prompts: a file of lines or JSONL.")
    ] = None


@dataclass(frozen=True)
class Judged(_Flags):
    """Short flags of `evaluate`."""

    model: _Model = None
    tasks: Annotated[str | None, typer.Option("--tasks", metavar="A,B", help="The tasks, by name.")] = None


@dataclass(frozen=True)
class Asked:
    """Flags of `clean` that ask something of a run instead of making one."""

    why: Annotated[str | None, typer.Option(metavar="ID", help="Tell one document's story, from a finished run.")] = (
        None
    )
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE.KEY=A,B", help="What other thresholds would drop (a finished run)."),
    ] = None
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --dry-run: what would become of N documents.")
    ] = None

    reveal: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Put the originals of stand-ins back, by the key; - is stdin.")
    ] = None

    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Measure one shard of the input only, for a later --merge.")
    ] = None
    merge: Annotated[bool, typer.Option("--merge", help="Make the corpus of what all shards measured.")] = False

    def options(self) -> dict[str, object]:
        """The flags as arguments of the stage."""
        return {
            "shard": self.shard,
            "merge": self.merge,
            "reveal": self.reveal,
            "why": self.why,
            "sweep": self.sweep or (),
            "sample": self.sample,
        }


@dataclass(frozen=True)
class Training:
    """Flags of `pretrain` and `finetune`."""

    resume: Annotated[
        str, typer.Option(metavar="auto|never|DIR", help="Go on from the newest checkpoint, never, or from this one.")
    ] = "auto"
    allow_changed: Annotated[
        str | None,
        typer.Option(metavar="KEY,KEY", help="Go on although these keys of the config have changed since."),
    ] = None
    nproc: Annotated[int, typer.Option(min=1, max=1024, help="Processes on this machine (one per GPU).")] = 1
    max_restarts: Annotated[
        int, typer.Option(min=0, metavar="N", help="Go on by itself so often after a process was killed or failed.")
    ] = 0
    nnodes: Annotated[int, typer.Option(min=1, metavar="N", help="Machines, on each of which this command runs.")] = 1
    rdzv_endpoint: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the machines meet: the first of them and a port.")
    ] = None

    def options(self) -> dict[str, object]:
        """The flags as arguments of the stage, and the processes that it runs on."""
        from llmforge.runtime.launch import Fleet

        allowed = tuple(key.strip() for key in (self.allow_changed or "").split(",") if key.strip())
        fleet = Fleet(self.nproc, self.nnodes, self.rdzv_endpoint, self.max_restarts)
        return {"resume": self.resume, "allow_changed": allowed, "fleet": fleet}


@dataclass(frozen=True)
class Traced:
    """Flags of `trace`."""

    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder of a pretrain, or of a pipeline with one.")
    ] = None
    step: Annotated[int | None, typer.Option(metavar="N", help="The documents in this step's batch (from 1).")] = None
    document: Annotated[
        str | None, typer.Option(metavar="ID", help="The steps that saw this document, or why none did.")
    ] = None
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False


@dataclass(frozen=True)
class Audited(_Flags):
    """Short flags of `tokenizer audit`."""

    tokenizer: Annotated[str | None, typer.Option("--tokenizer", metavar="DIR", help="The tokenizer's folder.")] = None
    corpus: Annotated[str | None, typer.Option("--corpus", metavar="DIR", help="The corpus it reads.")] = None
    against: Annotated[
        str | None, typer.Option("--against", metavar="A,B", help="Tokenizer folders to stand beside it.")
    ] = None


@dataclass(frozen=True)
class Verified:
    """Flags of `verify-resume`."""

    kills: Annotated[int, typer.Option(min=1, max=1000, metavar="K", help="SIGKILLs, at random moments.")] = 3
    steps: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="Steps of the short run.")] = 20
    nproc: Annotated[int, typer.Option(min=1, max=1024, help="Processes on this machine.")] = 1
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other moments.")] = 0


@dataclass(frozen=True)
class Examined:
    """What `doctor` looks at, and whether it may mend."""

    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="A folder of a run or an artefact, or a config."),
    ] = None
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="A YAML config.")] = None
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without losing anything.")] = False
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False
