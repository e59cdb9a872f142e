"""A validation error of pydantic as faults in plain words: file and line, what was expected, the near name.

https://docs.pydantic.dev/latest/errors/validation_errors/ lists the error types that are reworded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from llmforge.config.overrides import OVERRIDE
from llmforge.config.qualify import qualified
from llmforge.config.schema import Config
from llmforge.config.shape import allowed_at, below, fitting, is_config, keys_at, paths_to
from llmforge.config.yaml_tree import Node
from llmforge.errors import Fault

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number below 2^63",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "path_parsing": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a map of keys",
    "model_type": "a map of keys",
    "model_attributes_type": "a map of keys",
    "none_required": "null",
}
_SHAPES = frozenset(_EXPECTED) | {"literal_error", "is_instance_of"}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in path)


def _place(root: Node, location: Sequence[str | int]) -> tuple[Node, list[str | int]]:
    """The deepest node of the tree on the way, and its path; the tags of unions are no keys and are passed over."""
    node, path = root, []
    for part in location:
        child = node.child(part)
        if child is not None:
            node = child
            path.append(part)
    return node, path


def near(name: str, known: Sequence[str], parents: Sequence[str | int] = ()) -> str | None:
    """`did you mean X?`, when there is a near name; with the keys that it lies below."""
    match = get_close_matches(name, list(dict.fromkeys(known)), n=1, cutoff=0.6)
    return f"did you mean `{_dotted([*parents, match[0]])}`?" if match else None


def _unknown_key(schema: type[Config], root: Node, path: list[str | int], node: Node) -> Fault:
    key, parents = str(path[-1]), path[:-1]
    known = keys_at(schema, root, parents)
    hint = near(key, known, parents)
    if hint is None and (elsewhere := paths_to(schema, key)):
        hint = f"did you mean `{elsewhere[0]}`?"
    if hint is None and known:
        hint = "known here: " + ", ".join(dict.fromkeys(known))
    return Fault(node.where, f"unknown key `{_dotted(path)}`", hint)


def _range(kind: str, context: dict[str, Any]) -> str | None:
    words = {
        "greater_than": ("gt", "greater than"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "less than"),
        "less_than_equal": ("le", "at most"),
        "multiple_of": ("multiple_of", "a multiple of"),
    }
    if kind not in words:
        return None
    key, text = words[kind]
    return f"{text} {context[key]}"


def _length(kind: str, context: dict[str, Any]) -> str | None:
    unit = "characters" if kind.startswith("string") else "items"
    if kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        return "not be empty" if least == 1 else f"have at least {least} {unit}"
    if kind in ("too_long", "string_too_long"):
        return f"have at most {context['max_length']} {unit}"
    return None


def _reworded(error: Any, name: str) -> tuple[str, str | None]:
    """What is wrong and a hint, from one pydantic error on the key `name`."""
    kind, given, context = error["type"], error.get("input"), error.get("ctx", {})
    subject = f"`{name}`" if name else "the config"
    if kind == "missing":
        return f"{subject} is required", None
    if (limit := _range(kind, context)) is not None:
        return f"{subject} must be {limit}, not {_shown(given)}", None
    if (limit := _length(kind, context)) is not None:
        return f"{subject} must {limit}", None
    if kind == "union_tag_invalid":
        choices = re.findall(r"'([^']*)'", context["expected_tags"])
        known = f"known: {', '.join(choices)}"
        return f"{subject} has the unknown name {_shown(context['tag'])}", near(context["tag"], choices) or known
    if kind == "union_tag_not_found":
        return f"{subject} needs the key {str(context['discriminator']).strip(chr(39))}", None
    if kind in ("value_error", "assertion_error"):
        text = str(context.get("error", error["msg"]))
        return (f"{subject}: {text}" if name else text), None
    if kind == "string_pattern_mismatch":
        return f"{subject} must match {context['pattern']}, not {_shown(given)}", None
    return f"{subject}: {error['msg'][:1].lower()}{error['msg'][1:]}", None


def _is_below(inner: Sequence[str | int], outer: Sequence[str | int]) -> bool:
    return len(inner) > len(outer) and list(inner[: len(outer)]) == list(outer)


def _fits(error: Any, place: Sequence[str | int], path: Sequence[str | int]) -> bool:
    """True for an error at the same place that is of more than the shape: a number that is too small, say."""
    return list(place) == list(path) and error["type"] not in _SHAPES


def _expected(error: Any) -> list[str]:
    """What a value could have been, of an error of its shape."""
    if error["type"] in _EXPECTED:
        return [_EXPECTED[error["type"]]]
    return re.findall(r"'[^']*'", error["ctx"]["expected"]) or [error["ctx"]["expected"]]


def _alternatives(expected: Sequence[str]) -> str:
    """Those of all members of a union, one after the other."""
    return " or ".join(expected) if len(expected) < 3 else f"{', '.join(expected[:-1])} or {expected[-1]}"


def _form(expected: Sequence[str], given: Any) -> str | None:
    """How a list or a map is written, for who gave a plain value."""
    if isinstance(given, (dict, list, tuple)) or given is None:
        return None
    if "a list" in expected:
        return f"write [{given}]" if isinstance(given, str) else None
    return "write {} for its defaults, or {key: value}" if "a map of keys" in expected else None


def explain(schema: type[Config], root: Node, error: ValidationError) -> list[Fault]:
    """All faults of a validation error."""
    located = []
    for entry in error.errors(include_url=False):
        node, path = _place(root, entry["loc"])
        if entry["type"] == "missing":
            path = [*path, entry["loc"][-1]]
        located.append((entry, node, path))
    faults: dict[tuple[str, str], Fault] = {}
    shapes: dict[str, tuple[Node, Any, list[str]]] = {}
    for entry, node, path in located:
        name = _dotted(path)
        inner = any(_is_below(other, path) or _fits(one, other, path) for one, _, other in located)
        if entry["type"] in _SHAPES and inner:
            continue  # one member of a union fits in shape: what is wrong inside it is said instead
        if entry["type"] == "extra_forbidden":
            fault = _unknown_key(schema, root, path, node)
        elif entry["type"] in _EXPECTED or entry["type"] == "literal_error":
            shapes.setdefault(name, (node, entry.get("input"), []))[2].extend(_expected(entry))
            continue
        else:
            what, hint = _reworded(entry, name)
            if name and entry["type"] in ("value_error", "assertion_error"):
                what = qualified(what, allowed_at(schema, root, path), name)
            fault = Fault(node.where, what, hint)
        faults[(fault.where, fault.what)] = fault
    for name, (node, given, expected) in shapes.items():
        kinds = _alternatives(list(dict.fromkeys(expected)))
        what = f"`{name}` must be {kinds}, not {_shown(given)}" if name else f"must be {kinds}"
        fault = Fault(node.where, what, near(str(given), re.findall(r"'([^']*)'", kinds)) or _form(expected, given))
        faults[(fault.where, fault.what)] = fault
    return list(faults.values())


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Faults in the order of the file's lines, those of overrides last."""
    return sorted(faults, key=_order)


def _order(fault: Fault) -> tuple[bool, str, int]:
    name, _, line = fault.where.rpartition(":")
    numbered = line.isdecimal() and not fault.where.startswith(OVERRIDE)
    return (not numbered, name, int(line)) if numbered else (True, "", 0)


def mixed_booleans(schema: type[Config], root: Node) -> list[Fault]:
    """Faults of `true` for a number and of a number for `true` or `false`: pydantic lets both pass."""
    faults: list[Fault] = []

    def walk(node: Node, annotations: list[Any], path: list[str | int]) -> None:
        if isinstance(node.value, dict):
            for key, child in node.value.items():
                walk(child, below(fitting(annotations, node), key), [*path, key])
        elif isinstance(node.value, list):
            for index, child in enumerate(node.value):
                walk(child, below(annotations, index), [*path, index])
        elif isinstance(node.value, bool) and bool not in annotations and {int, float} & _plain(annotations):
            faults.append(Fault(node.where, f"`{_dotted(path)}` must be a number, not {_shown(node.value)}"))
        elif isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            if bool in annotations and not {int, float} & _plain(annotations):
                faults.append(Fault(node.where, f"`{_dotted(path)}` must be true or false, not {_shown(node.value)}"))

    walk(root, allowed_at(schema, root, []), [])
    return faults


def _plain(annotations: list[Any]) -> set[Any]:
    return {member for member in annotations if isinstance(member, type) and not is_config(member)}
