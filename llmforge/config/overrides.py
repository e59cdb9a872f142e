"""Dotted overrides (`train.max_steps=100 sources.0.path=books/`) onto a tree.

The value is YAML; a number addresses an item of a list, and the one behind the last adds an item.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from llmforge.config.yaml_tree import Node, parse
from llmforge.errors import ConfigError, Fault, UsageError

OVERRIDE = "override"
# They open aliases, anchors, tags, directives and comments, none of which an override can mean: *.txt is a glob.
_LITERAL_OPENINGS = "*&!%@`#"
_SHOWN = 60


def place_of(override: str) -> str:
    """How an override is named in a fault and as an origin."""
    text = override if len(override) <= _SHOWN else override[: _SHOWN - 3] + "..."
    return f"{OVERRIDE} `{text}`"


def spell_override(key: str, value: object) -> str:
    """The override that sets `key` to `value`, in ASCII: YAML takes neither control characters nor surrogate pairs.

    Raises:
        UsageError: a text that came from bytes that are not UTF-8.
    """
    if not isinstance(value, str):
        return f"{key}={json.dumps(value)}"
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UsageError("the text holds bytes that are not UTF-8", f"--{key}", "encode it in UTF-8")
    plain = (letter if " " <= letter <= "~" and letter not in '"\\' else f"\\U{ord(letter):08x}" for letter in value)
    return f'{key}="{"".join(plain)}"'


def split_override(override: str) -> tuple[list[str], Node]:
    """The path's parts and the value of `a.b.0=VALUE`.

    Raises:
        ConfigError: there is no `=`, no key, or the value is no YAML.
    """
    where = place_of(override)
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError([Fault(where, "not an override", "write key=value, as in train.max_steps=100")])
    if text[:1] and text[0] in _LITERAL_OPENINGS:
        return parts, Node(text, where)
    return parts, parse(text, override, where)


def _step(node: Node, part: str, where: str) -> Node | str:
    """The node under `part`, made when it is not there; or what is wrong."""
    if node.value is None:
        node.value = [] if part == "0" else {}
    if isinstance(node.value, dict):
        return node.value.setdefault(part, Node(None, where))
    if not isinstance(node.value, list):
        return "the key goes through a plain value"
    if not part.isdecimal():
        return f"`{part}` is not the number of a list's item"
    if int(part) > len(node.value):
        return f"there is no item {part}: the list has {len(node.value)}"
    if int(part) == len(node.value):
        node.value.append(Node(None, where))
    return node.value[int(part)]


def put(root: Node, parts: Sequence[str], value: Node) -> None:
    """Sets a value in the tree, in place.

    Raises:
        ConfigError: the path goes through a plain value or beyond a list's end.
    """
    node = root
    for part in parts:
        following = _step(node, part, value.where)
        if isinstance(following, str):
            raise ConfigError([Fault(value.where, following)])
        node = following
    node.value, node.where = value.value, value.where


def apply_overrides(root: Node, overrides: Sequence[str]) -> list[Fault]:
    """Sets every override in turn, and returns the faults of those that cannot be set."""
    faults: list[Fault] = []
    for override in overrides:
        try:
            parts, value = split_override(override)
            put(root, parts, value)
        except ConfigError as error:
            faults.extend(error.faults)
    return faults
