"""The command line: reads a command's options, loads its config, calls its stage.

Thin on purpose: it knows names, help and examples, and loads the one stage that was asked for, never torch or numpy.
The options that all commands share are dataclasses that `_spread` turns into typer's parameters.
"""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, get_type_hints

import typer
from typer.core import TyperGroup

from llmforge.cli_flags import Answering, Asked, Audited, Call, Examined, Judged, Prompts, Traced, Training, Verified
from llmforge.errors import UsageError
from llmforge.runtime.exits import guarded, leave
from llmforge.runtime.threads import spin_briefly

if TYPE_CHECKING:
    from llmforge.stages.request import Request


class _Contents(TyperGroup):
    """A help page that reads as a table of contents: the commands under the headings of their groups."""

    def list_commands(self, ctx: Any) -> list[str]:
        order = ("clean", "tokenizer", "tokenize")  # the way of the data; typer would put the nested ones last
        return sorted(super().list_commands(ctx), key=lambda name: order.index(name) if name in order else len(order))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            inner = getattr(command, "commands", None)
            rows = [(f"{name} {sub}", entry) for sub, entry in inner.items()] if inner else [(name, command)]
            for label, entry in rows:
                groups.setdefault(str(entry.rich_help_panel), []).append((label, entry.get_short_help_str(200)))
        for heading, lines in groups.items():
            with formatter.section(heading):
                formatter.write_dl(lines)


_SETTINGS: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "no_args_is_help": True}
_HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(cls=_Contents, context_settings=_HELP, **_SETTINGS)
tokenizer_app = typer.Typer(
    help="Train a tokenizer, or look into one.", add_completion=False, context_settings=_HELP, **_SETTINGS
)
app.add_typer(tokenizer_app, name="tokenizer")


def _spread(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The same command with each dataclass parameter spread into one option for each of its fields."""
    groups: dict[str, Any] = {name: cls for name, cls in get_type_hints(function).items() if name != "return"}
    parameters = []
    for cls in groups.values():
        hints = get_type_hints(cls, include_extras=True)
        for field in fields(cls):
            kind = inspect.Parameter.KEYWORD_ONLY
            parameter = inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])
            parameters.append(parameter)

    @wraps(function)
    def command(**values: Any) -> Callable[[], None]:
        # The work begins when typer is through, which would give its own answers to Ctrl-C and closed pipes.
        return partial(
            function, **{n: cls(**{f.name: values[f.name] for f in fields(cls)}) for n, cls in groups.items()}
        )

    del command.__wrapped__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _command(group: str, *examples: str, to: typer.Typer = app, name: str | None = None) -> Callable[..., Any]:
    """Adds a command to a group of the help page, with examples below its own."""
    epilog = "\b\nExamples:\n" + "\n".join(f"  llmforge {example}" for example in examples)

    def add(function: Callable[..., None]) -> Callable[..., None]:
        # The folded line breaks of a docstring would stand in the help text.
        text = " ".join(inspect.getdoc(function).split()) if function.__doc__ else None  # type: ignore[union-attr]
        to.command(name, help=text, epilog=epilog, rich_help_panel=group)(_spread(function))
        return function

    return add


@_command(
    "Data",
    "clean -c configs/clean/python-docs.yaml",
    "clean -c configs/clean/folder.yaml sources.0.path=books/ output_dir=runs/books",
    "clean -c configs/clean/folder.yaml sources.0.path=books/ --dry-run --sample 1000",
)
def clean(call: Call, asked: Asked) -> None:
    """Raw text (files, folders, datasets) -> a corpus folder, and what was dropped and why."""
    if asked.sample is not None and not call.dry_run:
        raise UsageError("--sample goes with --dry-run", "--sample", "add --dry-run; nothing is written then")
    _execute(call.request("clean"), **asked.options())


@_command(
    "Data",
    "tokenizer train -c configs/tokenizer/train.yaml",
    "tokenizer train corpus=runs/quickstart/clean output_dir=runs/tokenizer vocab_size=4096",
    to=tokenizer_app,
    name="train",
)
def tokenizer_train(call: Call) -> None:
    """A corpus -> a lossless tokenizer folder that transformers opens too."""
    _execute(call.request("tokenizer train"))


@_command(
    "Data",
    "tokenizer audit -c configs/tokenizer/audit.yaml",
    "tokenizer audit --tokenizer runs/quickstart/tokenizer --corpus runs/quickstart/clean output_dir=runs/audit",
    to=tokenizer_app,
    name="audit",
)
def tokenizer_audit(call: Call, audited: Audited) -> None:
    """A report on any tokenizer: losses, compression, numbers, code, idle pieces; beside others."""
    _execute(call.request("tokenizer audit", audited.overrides()))


@_command(
    "Data",
    "tokenize -c configs/tokenize/corpus.yaml",
    "tokenize corpus=runs/quickstart/clean tokenizer=runs/quickstart/tokenizer output_dir=runs/tokens",
)
def tokenize(call: Call) -> None:
    """A corpus and a tokenizer -> memory-mapped token shards."""
    _execute(call.request("tokenize"))


@_command(
    "Models",
    "pretrain -c configs/pretrain/quickstart.yaml",
    "pretrain -c configs/pretrain/quickstart.yaml train.max_steps=100 optimizer.lr=0.02 output_dir=runs/try",
    "pretrain -c configs/pretrain/quickstart.yaml --nproc 2 --max-restarts 3",
)
def pretrain(call: Call, training: Training) -> None:
    """Token shards -> a model folder, from scratch or from another model; goes on where it was stopped."""
    _execute(call.request("pretrain"), **training.options())


@_command(
    "Models",
    "finetune -c configs/finetune/full.yaml",
    "finetune -c configs/finetune/lora.yaml base_model=runs/quickstart/pretrain",
)
def finetune(call: Call, training: Training) -> None:
    """A model folder and conversations -> a model folder that answers (full or LoRA)."""
    _execute(call.request("finetune"), **training.options())


@_command(
    "Judge",
    "evaluate -c configs/evaluate/quickstart.yaml",
    "evaluate --model runs/quickstart/finetune --tasks python-docs:choices output_dir=runs/scores",
)
def evaluate(call: Call, judged: Judged) -> None:
    """A model folder -> scores with standard errors and chance levels."""
    _execute(call.request("evaluate", judged.overrides()))


@_command(
    "Use",
    "generate -m runs/quickstart/finetune -p 'What does str.partition do?'",
    "generate -m runs/quickstart/finetune --prompts python-docs:questions limit=5 --json",
)
def generate(call: Call, prompts: Prompts, answering: Answering) -> None:
    """Prompts -> text; with --json one object a line for each sample."""
    _execute(call.request("generate", [*prompts.overrides(), *answering.overrides()]))


@_command("Use", "chat -m runs/quickstart/finetune", "chat -m runs/quickstart/finetune --temperature 0.3")
def chat(call: Call, answering: Answering) -> None:
    """A conversation in the terminal; /help there shows what can be typed."""
    _execute(call.request("chat", answering.overrides()))


@_command(
    "Whole way",
    "run -c configs/quickstart.yaml",
    "run -c configs/quickstart.yaml clean.sources.0.path=books/ output_dir=runs/books",
    "run -c configs/quickstart.yaml pretrain.train.max_minutes=10",
)
def run(call: Call) -> None:
    """A pipeline file: all of the above in order; steps whose config, inputs and code are unchanged are skipped."""
    from llmforge.stages.run import run_request

    run_request(call.request("run"))


@_command(
    "Whole way",
    "trace --run runs/quickstart/pretrain --step 100",
    "trace --run runs/quickstart --document stdlib/str.partition --json",
)
def trace(traced: Traced) -> None:
    """From a training step to its documents and their origin; from a document to its steps or its fate."""
    from llmforge.stages.trace import answer

    answer(traced.run, traced.step, traced.document, traced.json)


@_command(
    "Whole way",
    "verify-resume -c configs/pretrain/quickstart.yaml",
    "verify-resume -c configs/pretrain/quickstart.yaml train.compile=true --kills 5 --steps 40",
)
def verify_resume(call: Call, verified: Verified) -> None:
    """Kills and resumes a short run of a training config and compares it bit for bit with one left alone."""
    from llmforge.stages.verify_resume import Asked, answer

    answer(call.request("verify-resume"), Asked(verified.kills, verified.steps, verified.nproc, verified.seed))


@_command("Whole way", "doctor", "doctor runs/quickstart/pretrain", "doctor -c configs/pretrain/quickstart.yaml")
def doctor(examined: Examined) -> None:
    """Says what is whole and what is damaged (machine, config, run, artefact), and what to type next."""
    from llmforge.stages.doctor import answer

    answer(examined.path, examined.config, examined.repair, examined.json)


def _execute(request: Request, **options: object) -> None:
    from llmforge.stages.request import execute

    execute(request, **options)


def _invoke() -> int:
    try:
        work = app(args=sys.argv[1:], prog_name="llmforge", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of typer's own
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "llmforge"
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(f"{error.format_message()}\n")
            return UsageError.exit_code
        raise UsageError(error.format_message().rstrip("?."), hint=f"see `{command} --help`") from error
    if callable(work):
        work()
    return 0


def main(on_interrupt: Any = None) -> None:
    """Does what the command line asks; `on_interrupt`, if any, answers SIGINT before and after, as a signal handler."""
    spin_briefly()

    def work() -> int:
        if on_interrupt is not None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on `guarded` catches it
        return _invoke()

    code = guarded(work)
    if on_interrupt is not None:
        signal.signal(signal.SIGINT, on_interrupt)
    leave(code)
