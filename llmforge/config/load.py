"""A YAML file and dotted overrides into one frozen config, with the origin of every value.

Merges once (defaults, file, overrides) and reports every fault at once; knows no schema of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from llmforge.config.explain import explain, in_order, mixed_booleans
from llmforge.config.overrides import OVERRIDE, apply_overrides
from llmforge.config.schema import Config
from llmforge.config.shape import allowed_at, default_list, is_config
from llmforge.config.yaml_tree import Node, read_tree
from llmforge.errors import ConfigError, Fault, UsageError

T = TypeVar("T", bound=Config)
DEFAULT = "default"


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A config, and for each dotted path of a plain value `default`, `override` or `file:line`."""

    config: T
    origins: dict[str, str]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of nested dicts and lists (empty ones count) by dotted path."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _origin(root: Node, path: str) -> str:
    node = root
    for part in path.split("."):
        child = node.child(part)
        if child is None:
            # Left of what was given lies a map that a short form was turned into, or a default.
            return DEFAULT if isinstance(node.value, (dict, list)) or node.value is None else _named(node)
        node = child
    return _named(node)


def _named(node: Node) -> str:
    return OVERRIDE if node.where.startswith(OVERRIDE) else node.where


def node_of(value: Any, where: str) -> Node:
    """A tree of plain values that all stand at one place."""
    if isinstance(value, dict):
        return Node({str(key): node_of(inner, where) for key, inner in value.items()}, where)
    if isinstance(value, (list, tuple)):
        return Node([node_of(inner, where) for inner in value], where)
    return Node(value, where)


def seed_default_lists(schema: type[Config], root: Node, parts: Sequence[str]) -> None:
    """Writes a default list out into the tree where an override is about to change one of its items."""
    node = root
    for index, part in enumerate(parts[:-1]):
        child = node.child(part)
        if child is None and isinstance(node.value, dict) and parts[index + 1].isdecimal():
            items = default_list(schema, root, list(parts[: index + 1]))
            if items:
                child = node.value.setdefault(part, node_of(items, DEFAULT))
        if child is None:
            return
        node = child


def drop_alternatives(schema: type[Config], root: Node, parts: Sequence[str]) -> None:
    """Takes what the file gave in place of an overridden key out of the tree, as max_steps where max_minutes is set."""
    parent: Node | None = root
    for part in parts[:-1]:
        parent = parent.child(part) if parent is not None else None
    chosen = parent.child(parts[-1]) if parent is not None else None
    if parent is None or not isinstance(parent.value, dict) or chosen is None or chosen.value is None:
        return
    for member in allowed_at(schema, root, parts[:-1]):
        for group in member.alternatives if is_config(member) else ():
            for key in set(group) - {parts[-1]} if parts[-1] in group else ():
                other = parent.child(key)
                if other is not None and not other.where.startswith(OVERRIDE):
                    del parent.value[key]


def build(schema: type[T], root: Node) -> Loaded[T]:
    """Validates a tree.

    Raises:
        ConfigError: every fault, each with the place of the value.
    """
    faults = mixed_booleans(schema, root)
    places = {fault.where for fault in faults}
    try:
        config = schema.model_validate(root.plain())
    except ValidationError as error:
        faults += [fault for fault in explain(schema, root, error) if fault.where not in places]
    if faults:
        raise ConfigError(in_order(faults))
    values = config.model_dump(mode="json")
    return Loaded(config, {path: _origin(root, path) for path, _ in leaves(values) if path})


def merged_tree(schema: type[Config], path: Path | None, overrides: Sequence[str]) -> tuple[Node, list[Fault]]:
    """The tree of a file with the overrides on it, and the faults of the overrides."""
    root = read_tree(path) if path is not None else Node({}, "command line")
    for override in overrides:
        seed_default_lists(schema, root, override.partition("=")[0].split("."))
    faults = apply_overrides(root, overrides)
    for override in overrides:
        drop_alternatives(schema, root, override.partition("=")[0].strip().split("."))
    return root, faults


def load_config(
    schema: type[T],
    path: Path | None,
    overrides: Sequence[str],
    others: Callable[[], Mapping[str, type[Config]]] | None = None,
) -> Loaded[T]:
    """The config of a file (or of the defaults) with the overrides on it.

    `others` gives the schemas of the other commands by name; it is asked only when the file has unknown keys, so that
    the answer can say whose config the file is.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: every fault at once.
    """
    root, faults = merged_tree(schema, path, overrides)
    try:
        loaded = build(schema, root)
    except ConfigError as error:
        owner = owner_of(schema, root, others) if path is not None else None
        if owner:
            raise UsageError(f"this is a config of `llmforge {owner}`", path, f"llmforge {owner} -c {path}") from error
        raise ConfigError(in_order([*error.faults, *faults])) from error
    if faults:
        raise ConfigError(faults)
    return loaded


def owner_of(schema: type[Config], root: Node, others: Callable[[], Mapping[str, type[Config]]] | None) -> str | None:
    """The other command whose config this must be: it knows more of the file's top keys, and all that matter."""
    keys = set(root.value) if isinstance(root.value, dict) else set()
    unknown = keys - set(schema.model_fields)
    if others is None or not unknown:
        return None
    best, found = len(keys) - len(unknown), None
    for name, other in others().items():
        known = len(keys & set(other.model_fields))
        required = {key for key, field in other.model_fields.items() if field.is_required()}
        if known > best and required <= keys and known == len(keys):
            best, found = known, name
    return found
