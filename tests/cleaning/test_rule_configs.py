"""The example configs show every rule set with every key, and are what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from llmforge.cleaning.rules.c4 import C4
from llmforge.cleaning.rules.rule_sets import RuleSet
from llmforge.cleaning.settings import CleanConfig
from llmforge.config.schema import Config

FOLDER = Path(__file__).parents[2] / "configs" / "clean"
FILES = sorted(FOLDER.glob("*.yaml"))
KINDS = {kind.model_fields["name"].default: kind for kind in get_args(get_args(RuleSet)[0])}


def rules_of(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8")).get("rules", [])
    return found


def keys_of(schema: type[Config], prefix: str = "") -> Iterator[str]:
    """Dotted keys of a config and of all configs below it but the rule sets."""
    for name, field in schema.model_fields.items():
        yield f"{prefix}{name}"
        kinds = [field.annotation, *get_args(field.annotation)]
        for kind in [*kinds, *(inner for one in kinds for inner in get_args(one))]:
            if isinstance(kind, type) and issubclass(kind, Config) and name != "rules":
                yield from keys_of(kind, f"{prefix}{name}.")


def test_every_key_of_clean_is_in_an_example_with_a_comment() -> None:
    lines = [line for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    for key in keys_of(CleanConfig):
        name = key.rpartition(".")[2]
        if key.count(".") == 0 or key.startswith(("classify", "decontaminate", "dedup", "anonymize", "sources")):
            shown = [line for line in lines if line.strip(" -#").startswith(f"{name}:")]
            assert shown, f"{key} is in no example"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    config = CleanConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    if "rules" in yaml.safe_load(path.read_text(encoding="utf-8")):
        assert [rule.name for rule in config.rules] == [rule["name"] for rule in rules_of(path)]


@pytest.mark.parametrize("name", KINDS)
def test_every_key_is_shown_once_at_least(name: str) -> None:
    shown = {key for path in FILES for rule in rules_of(path) if rule["name"] == name for key in rule}
    assert shown == set(KINDS[name].model_fields)


def test_examples_of_published_sets_have_the_published_numbers() -> None:
    (c4,) = (rule for rule in rules_of(FOLDER / "web.yaml") if rule["name"] == "c4")
    assert C4.model_validate(c4) == C4.model_validate({"variant": "fineweb"})
    for file, name in (("web", "dclm"), ("web", "web_boilerplate"), ("code", "code"), ("gutenberg", "gutenberg")):
        (rule,) = (rule for rule in rules_of(FOLDER / f"{file}.yaml") if rule["name"] == name)
        assert KINDS[name].model_validate(rule) == KINDS[name]()
