"""Run by path in a child process (`python -I -S c_objects.py OUT`): what the standard library documents in C.

Imports modules of the standard library only, none of those that open windows, browsers or print, and writes JSON lines
of {"name", "entries"} and a last "done" to OUT. Knows nothing of llmforge.
"""

import importlib
import inspect
import json
import os
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

SKIPPED = frozenset(
    "antigravity this idlelib turtledemo turtle tkinter _tkinter lib2to3 test ensurepip venv __main__ __phello__ "
    "__hello__ pip pip_internal _pyrepl rlcompleter readline msilib winreg winsound nt ntpath".split()
)
Row = dict[str, str]
C_PRIVATE = frozenset(("posix", "nt", "posixsubprocess", "_py_abc"))
DESCRIPTORS = (
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


def main(out: str) -> None:
    """Collect every module's C objects under their best public name."""
    warnings.simplefilter("ignore")
    sys.stdin = open(os.devnull)
    modules = {}
    for name in sorted(sys.stdlib_module_names - SKIPPED):
        if name.startswith(("_test", "_xx", "xx")):
            continue
        try:
            modules[name] = importlib.import_module(name)
        except BaseException:  # a module of another platform, or one that refuses to be imported
            continue
    homes = best_homes(modules)
    with open(out, "w", encoding="utf-8", errors="replace") as stream:
        for name, module in modules.items():
            entries = list(module_entries(name, module, homes))
            if entries:
                stream.write(json.dumps({"name": name, "entries": entries}) + "\n")
        stream.write('"done"\n')


def best_homes(modules: dict[str, types.ModuleType]) -> dict[int, tuple[str, str]]:
    """id of an object -> (module name, attribute): the place where a reader would look it up."""
    homes: dict[int, tuple[tuple[Any, ...], str, str]] = {}
    for name, module in modules.items():
        listed = getattr(module, "__all__", None)
        for attribute, value in list(vars(module).items()):
            if attribute.startswith("_") or (listed is not None and attribute not in listed):
                continue
            if not (inspect.isbuiltin(value) or inspect.isclass(value)):
                continue
            other_name = attribute != getattr(value, "__name__", "")
            key: tuple[Any, ...] = (rank(name, value), len(name), name, other_name, attribute)
            if id(value) not in homes or key < homes[id(value)][0]:
                homes[id(value)] = (key, name, attribute)
    return {key: (name, attribute) for key, (_, name, attribute) in homes.items()}


def rank(module: str, value: Any) -> int:
    """How far a module is from an object's home: 0 for builtins, 1 where it says it lives, up to 4 for private ones."""
    own = getattr(value, "__module__", None) or ""
    if module == "builtins":
        return 0
    if module.startswith("_") or module in C_PRIVATE:
        return 4
    return 1 if own == module else 2 if own.lstrip("_") == module else 3


def module_entries(name: str, module: types.ModuleType, homes: dict[int, tuple[str, str]]) -> Iterator[Row]:
    """The module's own text when it is written in C, then its C functions and classes."""
    in_c = not str(getattr(module, "__file__", "")).endswith((".py", ".pyc"))
    shown = in_c and not name.startswith("_") and name not in C_PRIVATE and name != "builtins"
    doc = inspect.getdoc(module) if shown else None
    if doc:
        yield {"kind": "module", "name": "", "signature": "", "doc": doc}
    for attribute, value in list(vars(module).items()):
        if homes.get(id(value)) != (name, attribute):
            continue
        if inspect.isclass(value):
            yield from class_entries(attribute, value)
        elif isinstance(getattr(value, "__doc__", None), str):
            yield entry("function", attribute, value)


def class_entries(name: str, value: type) -> Iterator[Row]:
    """A class written in C and its public methods and properties; none of a class written in Python."""
    members = [(key, member) for key, member in list(vars(value).items())]
    if any(inspect.isfunction(member) for _, member in members):
        return
    if isinstance(vars(value).get("__doc__"), str):
        yield entry("class", name, value)
    for key, member in members:
        if key.startswith("_") or not isinstance(getattr(member, "__doc__", None), str):
            continue
        if isinstance(member, DESCRIPTORS) or inspect.isbuiltin(member) or isinstance(member, staticmethod):
            is_method = isinstance(member, (*DESCRIPTORS[:2], staticmethod)) or inspect.isbuiltin(member)
            yield entry("method" if is_method else "property", f"{name}.{key}", member)


def entry(kind: str, name: str, value: Any) -> Row:
    """One documented object as a row: kind, name, signature, doc."""
    return {"kind": kind, "name": name, "signature": signature(kind, value), "doc": inspect.cleandoc(value.__doc__)}


def signature(kind: str, value: Any) -> str:
    """ "(a, /, b=1)" without self, or "" when C code does not tell."""
    if kind == "property":
        return ""
    try:
        text = str(inspect.signature(value))
    except Exception:  # some C signatures name modules that are not imported
        return ""
    for first in ("(self, /, ", "(type, /, ", "($self, /, ", "($type, /, "):
        if text.startswith(first):
            return "(" + text[len(first) :]
    return "()" if text in ("(self, /)", "(type, /)") else text


if __name__ == "__main__":
    main(sys.argv[1])
