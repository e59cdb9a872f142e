"""One Python source file to what it documents, by `ast` alone: nothing of it is imported or run.

Also what the file imports and exports, from which public names are worked out later. Loads the standard library only,
because it runs in short-lived child processes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from llmforge.corpus.python_docs.added_docs import added_entries
from llmforge.corpus.python_docs.signatures import signature_of

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_SKIPPED_DECORATORS = ("overload", "setter", "deleter", "getter")
_PROPERTY_DECORATORS = ("property", "cached_property", "cache_readonly")


@dataclass(slots=True)
class Entry:
    """One documented object: `kind` module | class | function | method | property, `name` inside its module."""

    kind: str
    name: str
    signature: str
    doc: str
    parameters: list[str] = field(default_factory=list)  # names; optional ones end in "="


@dataclass(slots=True)
class ParsedModule:
    """A module's entries in source order, its top-level names, and where its imported names come from."""

    name: str
    is_package: bool
    entries: list[Entry] = field(default_factory=list)
    absolute: list[Entry] = field(default_factory=list)  # documented from here under a full name of another module
    defined: list[str] = field(default_factory=list)
    imported: list[tuple[str, str, str]] = field(default_factory=list)  # (local name, module, name there)
    stars: list[str] = field(default_factory=list)
    exported: list[str] | None = None  # a literal __all__

    def as_row(self) -> dict[str, Any]:
        """JSON values, for `from_row` of another process."""
        return asdict(self)

    @staticmethod
    def from_row(row: dict[str, Any]) -> ParsedModule:
        """What `as_row` gave."""
        entries = [Entry(**entry) for entry in row.pop("entries")]
        absolute = [Entry(**entry) for entry in row.pop("absolute")]
        imported = [(local, module, name) for local, module, name in row.pop("imported")]
        return ParsedModule(entries=entries, absolute=absolute, imported=imported, **row)


def parse_module(source: bytes, name: str, is_package: bool) -> ParsedModule:
    """The module `name` from its source; raises SyntaxError, ValueError or RecursionError for what is no Python."""
    parsed = ParsedModule(name, is_package)
    tree = ast.parse(source)
    doc = _docstring(tree)
    if doc:
        parsed.entries.append(Entry("module", "", "", doc))
    for node in _statements(tree.body):
        if isinstance(node, Definition):
            parsed.defined.append(node.name)
            parsed.entries.extend(_definition(node, "", in_class=False))
        elif isinstance(node, ast.ImportFrom):
            _note_import(node, parsed)
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            _note_assignment(node, parsed)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            target = node.value.func
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "__all__":
                parsed.exported = None
    if b"_docstr" in source or b"add_newdoc" in source:
        for kind, full_name, signature, parameters, text in added_entries(tree, name):
            parsed.absolute.append(Entry(kind, full_name, signature, text, parameters))
    return parsed


def _docstring(node: ast.Module | Definition) -> str:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return first.value.value
    return ""


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module or class, also those under if, try and with."""
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.With):
            yield from _statements(node.body)
            yield from _statements(getattr(node, "orelse", []))
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)
        else:
            yield node


def _definition(node: Definition, prefix: str, in_class: bool) -> Iterator[Entry]:
    decorators = {_decorator_name(decorator) for decorator in node.decorator_list}
    if decorators.intersection(_SKIPPED_DECORATORS):
        return
    doc = _docstring(node)
    name = prefix + node.name
    if not isinstance(node, ast.ClassDef):
        if not doc:
            return
        is_property = bool(decorators.intersection(_PROPERTY_DECORATORS))
        bound = in_class and "staticmethod" not in decorators
        signature, parameters = ("", []) if is_property else signature_of(node.args, bound)
        kind = "property" if is_property else "method" if in_class else "function"
        yield Entry(kind, name, signature, doc, parameters)
        return
    if doc:
        signature, parameters = _constructor(node)
        yield Entry("class", name, signature, doc, parameters)
    for inner in _statements(node.body):
        if isinstance(inner, Definition):
            yield from _definition(inner, f"{name}.", in_class=True)


def _constructor(node: ast.ClassDef) -> tuple[str, list[str]]:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return signature_of(inner.args, bound=True)
    return "", []


def _decorator_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _note_import(node: ast.ImportFrom, parsed: ParsedModule) -> None:
    module = node.module or ""
    if node.level:
        parts = parsed.name.split(".")
        above = node.level - 1 if parsed.is_package else node.level
        kept = parts[: len(parts) - above] if above else parts
        module = ".".join([*kept, module] if module else kept)
    for alias in node.names:
        if alias.name == "*":
            parsed.stars.append(module)
        else:
            parsed.imported.append((alias.asname or alias.name, module, alias.name))


def _note_assignment(node: ast.Assign | ast.AugAssign | ast.AnnAssign, parsed: ParsedModule) -> None:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        if not isinstance(target, ast.Name):
            continue
        if target.id != "__all__":
            parsed.defined.append(target.id)
        elif not isinstance(node.value, ast.List | ast.Tuple):
            parsed.exported = None  # put together from other lists: every public name counts
        elif not isinstance(node, ast.AugAssign) or parsed.exported is not None:
            names = [item.value for item in node.value.elts if isinstance(item, ast.Constant)]
            old = parsed.exported or [] if isinstance(node, ast.AugAssign) else []
            parsed.exported = [*old, *(name for name in names if isinstance(name, str))]
