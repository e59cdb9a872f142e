"""Where a reader would import an object from: the shortest public name of everything that the modules define.

    torch.nn.modules.linear.Linear -> torch.nn.Linear,  posixpath.join -> os.path.join,  builtins.str -> str

Follows `from x import y` and `*` through the parsed modules; nothing is imported.
"""

from __future__ import annotations

from collections.abc import Iterable

from llmforge.corpus.python_docs.parse import ParsedModule

_RENAMED = (("posixpath.", "os.path."), ("builtins.", ""), ("_collections_abc.", "collections.abc."))


def shown_name(full_name: str) -> str:
    """A full name as readers know it: without builtins, os.path for posixpath."""
    for old, new in _RENAMED:
        if full_name.startswith(old):
            return new + full_name.removeprefix(old)
    return full_name


def is_public(name: str) -> bool:
    """True when no part of the dotted name starts with an underscore."""
    return not any(part.startswith("_") for part in name.split("."))


class PublicNames:
    """The public name of each definition in a set of modules (one source: the standard library or a package)."""

    def __init__(self, modules: Iterable[ParsedModule]) -> None:
        self._modules = {module.name: module for module in modules}
        self._defined = {name: set(module.defined) for name, module in self._modules.items()}
        self._imports = {
            name: {local: (source, there) for local, source, there in module.imported}
            for name, module in self._modules.items()
        }
        for module in list(self._modules.values()):
            for entry in module.absolute:
                self._define(entry.name)
        self._resolved: dict[tuple[str, str], str | None] = {}
        self._best: dict[str, str] = {}
        for name, module in self._modules.items():
            if is_public(name):
                self._collect(module)

    def of(self, full_name: str) -> str:
        """The best public name of a top-level definition or of a member of one; the full name when there is none."""
        head, tail = full_name, ""
        while head:
            if head in self._best:
                return shown_name(self._best[head] + tail)
            head, _, last = head.rpartition(".")
            tail = f".{last}{tail}"
            if head in self._modules and f"{head}{tail.split('.')[0]}" not in self._best:
                break
        return shown_name(full_name)

    def _define(self, full_name: str) -> None:
        """Note a definition that another file documents, as numpy's add_newdoc does."""
        module, _, name = full_name.rpartition(".")
        while module:
            if module in self._defined:
                self._defined[module].add(name.partition(".")[0])
                return
            module, _, head = module.rpartition(".")
            name = f"{head}.{name}"

    def _collect(self, module: ParsedModule) -> None:
        for name in self._exports(module, set()):
            target = self._resolve(module.name, name, set())
            if target is None:
                continue
            alias = f"{module.name}.{name}"
            old = self._best.get(target)
            if old is None or _rank(alias, target) < _rank(old, target):
                self._best[target] = alias

    def _exports(self, module: ParsedModule, seen: set[str]) -> set[str]:
        if module.exported is not None:
            return set(module.exported)
        names = {name for name in self._defined[module.name] if not name.startswith("_")}
        if module.is_package:
            names.update(local for local, _, _ in module.imported if not local.startswith("_"))
            for star in module.stars:
                other = self._modules.get(star)
                if other is not None and star not in seen:
                    names.update(self._exports(other, seen | {module.name, star}))
        return names

    def _resolve(self, module: str, name: str, seen: set[tuple[str, str]]) -> str | None:
        """The full name of the definition that `module.name` stands for."""
        key = (module, name)
        if key in self._resolved:
            return self._resolved[key]
        if key in seen or module not in self._modules:
            return None
        found = self._look_up(module, name, seen | {key})
        if found is not None or not seen:  # inside a ring of imports, nothing found is no answer yet
            self._resolved[key] = found
        return found

    def _look_up(self, module: str, name: str, seen: set[tuple[str, str]]) -> str | None:
        if name in self._imports[module]:
            source, there = self._imports[module][name]
            found = self._resolve(source, there, seen)
            if found is not None:
                return found
        if name in self._defined[module]:
            return f"{module}.{name}"
        for star in self._modules[module].stars:
            exported = self._modules[star].exported if star in self._modules else None
            if exported is not None and name not in exported:
                continue
            found = self._resolve(star, name, seen)
            if found is not None:
                return found
        return None


def _rank(alias: str, target: str) -> tuple[int, bool, int, str]:
    same_leaf = alias.rpartition(".")[2] == target.rpartition(".")[2]
    return (alias.count("."), not same_leaf, len(alias), alias)
