"""YAML text into a tree that knows where each value stands; plain values only.

Makes of a file or an override's text `Node`s with YAML 1.2 scalars (https://yaml.org/spec/1.2.2/#103-core-schema):
`1e-4` is a number, `no`, `off` and `12:30:45` are text, `010` is ten. Duplicate keys, tags, anchors, aliases, deep
nesting and numbers beyond 64 bits are faults. Knows no schema.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmforge.errors import ConfigError, Fault, UsageError

Scalar = str | int | float | bool | None

MAX_DEPTH = 32
MAX_BYTES = 1 << 20
_LARGEST = 2**63

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class Node:
    """A value of the tree and where it stands: `file:line`, or the override that set it."""

    value: Scalar | dict[str, Node] | list[Node]
    where: str

    def plain(self) -> Any:
        """The same as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """The value under a key or an index, or None."""
        if isinstance(self.value, dict):
            return self.value.get(str(part))
        if isinstance(self.value, list) and str(part).isdecimal() and int(part) < len(self.value):
            return self.value[int(part)]
        return None


def read_text(path: Path) -> str:
    """The text of a config file.

    Raises:
        UsageError: it is missing, not a regular file, unreadable, too large, empty, or not UTF-8.
    """
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
            raise UsageError(f"the config is {kind}", path, "name a YAML file")
        if facts.st_size > MAX_BYTES:
            raise UsageError(f"the config has {facts.st_size:,} bytes, at most {MAX_BYTES:,} are read", path)
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError("no such config file", path, "examples lie under configs/") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the config: {reason}", path) from error
    return _decode(data, path)


def _decode(data: bytes, path: Path) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(data) > 1 and 0 in data[:2]):
        raise UsageError("the config is not UTF-8 (it looks like UTF-16)", path, "save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError("the config is not UTF-8", f"{path}:{line}", "save it as UTF-8") from error
    if not text.strip():
        raise UsageError("the config is empty", path, "examples lie under configs/")
    return text


class _Builder:
    """One pass over the parser's events; `where` of a node is `name:line`, or `fixed` where one is given."""

    def __init__(self, events: Iterator[Any], name: str, fixed: str | None) -> None:
        self.events, self.name, self.fixed = events, name, fixed
        self.faults: list[Fault] = []

    def place(self, event: Any) -> str:
        return self.fixed or f"{self.name}:{event.start_mark.line + 1}"

    def fault(self, event: Any, what: str, hint: str | None = None) -> None:
        self.faults.append(Fault(self.place(event), what, hint))

    def node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self.fault(event, f"values are nested more than {MAX_DEPTH} deep")
            raise ConfigError(self.faults)
        if isinstance(event, yaml.AliasEvent):
            self.fault(event, "YAML aliases (*name) are not used here", "write the value out")
            return Node(None, self.place(event))
        if event.anchor is not None:
            self.fault(event, "YAML anchors (&name) are not used here", "write the value out")
        if event.tag is not None:
            self.fault(event, f"YAML tags ({event.tag}) are not used here", "write a plain value")
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self.mapping(depth), self.place(event))
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(following := next(self.events), yaml.SequenceEndEvent):
                items.append(self.node(following, depth + 1))
            return Node(items, self.place(event))
        return Node(self.scalar(event), self.place(event))

    def mapping(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while not isinstance(key := next(self.events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                self.fault(key, "a key must be plain text")
                self.node(key, depth + 1)
                self.node(next(self.events), depth + 1)
                continue
            if key.tag is not None or key.anchor is not None:
                self.fault(key, "YAML tags and anchors are not used here")
            value = self.node(next(self.events), depth + 1)
            if key.value in found:
                self.fault(key, f"the key `{key.value}` stands twice", f"the first is at {found[key.value].where}")
            else:
                # A map or list begins on the line after its key; a fault in it is looked for at the key.
                found[key.value] = Node(value.value, self.place(key))
        return found

    def scalar(self, event: Any) -> Scalar:
        text = str(event.value)
        if event.style in ("'", '"', "|", ">"):
            return text
        if text in _NULL:
            return None
        if text in _BOOLEAN:
            return _BOOLEAN[text]
        if _NOT_FINITE.fullmatch(text):
            self.fault(event, f"`{text}` is not a finite number")
            return None
        if _INTEGER.fullmatch(text):
            base = 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10
            whole = int(text, base) if len(text) < 40 else _LARGEST
            if not -_LARGEST <= whole < _LARGEST:
                self.fault(event, f"the number {_short(text)} is too large", "whole numbers go up to 2^63 - 1")
                return None
            return whole
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                self.fault(event, f"the number {_short(text)} is too large")
                return None
            return number
        return text


def _short(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _syntax_fault(error: yaml.YAMLError, text: str, name: str, fixed: str | None) -> Fault:
    mark = getattr(error, "problem_mark", None)
    line = mark.line if mark is not None else 0
    lines = text.splitlines()
    written = lines[line] if line < len(lines) else ""
    hint = "quote a value that begins with a special sign, and check the indentation"
    if written[: len(written) - len(written.lstrip())].count("\t"):
        hint = "indent with spaces, not tabs"
    problem = getattr(error, "problem", None) or "it cannot be read"
    return Fault(fixed or f"{name}:{line + 1}", f"not valid YAML: {problem}", hint)


def parse(text: str, name: str, fixed: str | None = None) -> Node:
    """The tree of one YAML document; `name` is the file for `file:line`, `fixed` replaces it for an override.

    Raises:
        ConfigError: every fault found.
    """
    if wrong := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, wrong.start()) + 1
        what = f"a character that cannot stand in YAML (U+{ord(wrong.group()):04X})"
        raise ConfigError([Fault(fixed or f"{name}:{line}", what, "save the file as plain UTF-8 text")])
    events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
    builder = _Builder(events, name, fixed)
    root = Node(None, fixed or f"{name}:1")
    try:
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                root = builder.node(event, 0)
                break
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                builder.fault(event, "a second YAML document (---) begins here", "a config is one document")
                break
    except yaml.YAMLError as error:
        raise ConfigError([*builder.faults, _syntax_fault(error, text, name, fixed)]) from error
    if builder.faults:
        raise ConfigError(builder.faults)
    return root


def read_tree(path: Path) -> Node:
    """The tree of a config file, whose top is a map.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: every fault found.
    """
    root = parse(read_text(path), str(path))
    if root.value is None:
        raise UsageError("the config is empty", path, "examples lie under configs/")
    if not isinstance(root.value, dict):
        raise ConfigError([Fault(root.where, "the config must be a map of keys (`key: value`)")])
    return root
