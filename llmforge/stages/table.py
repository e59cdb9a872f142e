"""The commands that work from a config: for each its config class and its functions, loaded when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmforge.config.schema import Config

# In the order of the way of the data. `run` is not among them: it is made of them.
COMMANDS = (
    "clean",
    "tokenizer train",
    "tokenizer audit",
    "tokenize",
    "pretrain",
    "finetune",
    "evaluate",
    "generate",
    "chat",
)


@dataclass(frozen=True)
class Stage:
    """What a command is made of; `artefact` is the kind that it leaves under its output_dir, if any."""

    command: str
    schema: type[Config]
    run: Callable[..., Any]
    preview: Callable[[Any], dict[str, object]]
    inputs_fingerprint: Callable[[Any], dict[str, str]] | None = None
    artefact: str | None = None


def _data(command: str) -> Stage | None:
    if command == "clean":
        from llmforge.cleaning import preparation, settings
        from llmforge.stages import clean, clean_views

        prints = preparation.inputs_fingerprint
        return Stage(command, settings.CleanConfig, clean_views.answer, clean.preview, prints, "corpus")
    if command == "tokenizer train":
        from llmforge.stages import tokenizer as made

        schema = made.TokenizerTrainConfig
        return Stage(command, schema, made.run, made.preview, made.inputs_fingerprint, "tokenizer")
    if command == "tokenizer audit":
        from llmforge.stages import tokenizer_audit as audit

        asked = audit.TokenizerAuditConfig
        return Stage(command, asked, audit.run, audit.preview, audit.inputs_fingerprint)
    if command == "tokenize":
        from llmforge.stages import tokenize

        schema_ = tokenize.TokenizeConfig
        return Stage(command, schema_, tokenize.run, tokenize.preview, tokenize.inputs_fingerprint, "tokens")
    return None


def _models(command: str) -> Stage | None:
    if command == "pretrain":
        from llmforge.stages import pretrain

        schema = pretrain.PretrainConfig
        return Stage(command, schema, pretrain.run, pretrain.preview, pretrain.inputs_fingerprint, "model")
    if command == "finetune":
        from llmforge.stages import finetune

        tuned = finetune.FinetuneConfig
        return Stage(command, tuned, finetune.run, finetune.preview, finetune.inputs_fingerprint, "model")
    return None


def _uses(command: str) -> Stage | None:
    if command == "evaluate":
        from llmforge.stages import evaluate

        schema = evaluate.EvaluateConfig
        return Stage(command, schema, evaluate.run, evaluate.preview, evaluate.inputs_fingerprint)
    if command == "generate":
        from llmforge.stages import generate

        schema_ = generate.GenerateConfig
        return Stage(command, schema_, generate.run, generate.preview, generate.inputs_fingerprint)
    if command == "chat":
        from llmforge.stages import chat

        return Stage(command, chat.ChatConfig, chat.run, chat.preview)
    return None


def stage(command: str) -> Stage:
    """The stage of a command; imports that stage's module only."""
    found = _data(command) or _models(command) or _uses(command)
    assert found is not None, f"no stage for {command}"
    return found


def schemas() -> dict[str, type[Config]]:
    """The config classes of all commands."""
    return {command: stage(command).schema for command in COMMANDS}
