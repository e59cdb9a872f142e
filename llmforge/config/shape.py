"""What a schema allows at a place: the annotations and config classes under a path of keys and indices.

Reads pydantic's field tables only; it builds and validates nothing.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from llmforge.config.schema import Config
from llmforge.config.yaml_tree import Node


def unwrap(annotation: Any) -> list[Any]:
    """The members of a union, without `Annotated`."""
    if type(annotation).__name__ == "TypeAliasType":
        return unwrap(annotation.__value__)
    origin = get_origin(annotation)
    if origin is Annotated:
        return unwrap(get_args(annotation)[0])
    if origin is Union or origin is types.UnionType:
        return [inner for member in get_args(annotation) for inner in unwrap(member)]
    return [annotation]


def is_config(annotation: Any) -> bool:
    """Whether it is a config class."""
    return isinstance(annotation, type) and issubclass(annotation, Config)


def fitting(annotations: Iterable[Any], node: Node | None) -> list[Any]:
    """Leaves out those config classes whose literal `name` is another than the one that the node gives."""
    chosen = node.child("name") if node is not None else None
    kept = []
    for annotation in annotations:
        if is_config(annotation) and chosen is not None and "name" in annotation.model_fields:
            member = annotation.model_fields["name"].annotation
            if get_origin(member) is Literal and chosen.value not in get_args(member):
                continue
        kept.append(annotation)
    return kept


def below(annotations: Iterable[Any], part: str | int) -> list[Any]:
    """What is allowed under a key or an index."""
    found: list[Any] = []
    for annotation in annotations:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if is_config(annotation):
            if str(part) in annotation.model_fields:
                found += unwrap(annotation.model_fields[str(part)].annotation)
        elif origin in (list, tuple, set, frozenset, Sequence) and arguments and str(part).isdecimal():
            fixed = origin is tuple and Ellipsis not in arguments
            chosen = arguments[int(part)] if fixed and int(part) < len(arguments) else arguments[0]
            found += unwrap(chosen)
        elif origin is not None and isinstance(origin, type) and issubclass(origin, dict) and len(arguments) == 2:
            found += unwrap(arguments[1])
    return found


def allowed_at(schema: type[Config], root: Node, path: Sequence[str | int]) -> list[Any]:
    """The annotations that are allowed at a path of the tree."""
    annotations: list[Any] = [schema]
    node: Node | None = root
    for part in path:
        annotations = below(fitting(annotations, node), part)
        node = node.child(part) if node is not None else None
    return fitting(annotations, node)


def keys_at(schema: type[Config], root: Node, path: Sequence[str | int]) -> list[str]:
    """The keys that are allowed in the map at a path."""
    return [key for member in allowed_at(schema, root, path) if is_config(member) for key in member.model_fields]


def paths_to(schema: type[Config], key: str, depth: int = 3) -> list[str]:
    """Dotted paths of nested maps' keys of that name: where a misplaced key may belong."""
    found: list[str] = []

    def search(cls: type[Config], prefix: str, left: int) -> None:
        for name, field in cls.model_fields.items():
            if name == key and prefix:
                found.append(prefix + name)
            for member in unwrap(field.annotation):
                if is_config(member) and left:
                    search(member, f"{prefix}{name}.", left - 1)

    search(schema, "", depth)
    return list(dict.fromkeys(found))


def default_list(schema: type[Config], root: Node, path: Sequence[str]) -> list[Any] | None:
    """The plain items of a list that a schema's default gives at a path, or None."""
    for member in allowed_at(schema, root, path[:-1]):
        field = member.model_fields.get(path[-1]) if is_config(member) else None
        default = field.get_default(call_default_factory=True) if field and not field.is_required() else None
        if isinstance(default, (list, tuple)):
            return [item.model_dump(mode="json") if isinstance(item, Config) else item for item in default]
    return None
