"""Arguments as text: from a syntax tree, or from the first line that C-written docstrings open with."""

from __future__ import annotations

import ast
import re

MAX_SIGNATURE = 240
MAX_DEFAULT = 40
_CALL_LINE = re.compile(r"\s*(?:class )?([A-Za-z_][\w.]*)\((.*)\)\s*(?:(?:->|=>|→)\s*(.+))?$")


def signature_of(args: ast.arguments, bound: bool) -> tuple[str, list[str]]:
    """("(a, *, b=1)", ["a", "b="]): the text without annotations, and the names, "=" behind those with a default.

    `bound` leaves out the first argument (self, cls).
    """
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    texts = [_argument(arg, default) for arg, default in zip(positional, defaults, strict=True)]
    names = [arg.arg + ("=" if default is not None else "") for arg, default in zip(positional, defaults, strict=True)]
    skip = 1 if bound and positional else 0
    shown = texts[skip:]
    if len(args.posonlyargs) > skip:
        shown.insert(len(args.posonlyargs) - skip, "/")
    names = names[skip:]
    if args.vararg:
        shown.append(f"*{args.vararg.arg}")
    elif args.kwonlyargs:
        shown.append("*")
    for arg, keyword_default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        shown.append(_argument(arg, keyword_default))
        names.append(arg.arg + ("=" if keyword_default is not None else ""))
    if args.kwarg:
        shown.append(f"**{args.kwarg.arg}")
    return _bounded(shown), names


def _argument(arg: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return arg.arg
    text = repr(default.value) if isinstance(default, ast.Constant) else ast.unparse(default)
    return f"{arg.arg}={text if len(text) <= MAX_DEFAULT else '...'}"


def _bounded(shown: list[str]) -> str:
    text = ", ".join(shown)
    while len(text) > MAX_SIGNATURE and len(shown) > 1:
        shown = shown[:-1]
        text = ", ".join([*shown, "..."])
    return f"({text})"


def split_call_line(doc: str, name: str) -> tuple[str, list[str], str]:
    """(signature, parameters, rest) of a docstring whose first line is a call of `name`; ("", [], doc) otherwise."""
    first, _, rest = doc.strip().partition("\n")
    found = _CALL_LINE.match(first)
    leaf = name.rpartition(".")[2]
    if not found or found.group(1).rpartition(".")[2] != leaf:
        return "", [], doc
    inner = re.sub(r"\s+", " ", found.group(2).strip())
    while (following := _CALL_LINE.match(rest.strip().partition("\n")[0])) and following.group(1).endswith(leaf):
        rest = rest.strip().partition("\n")[2]
    return f"({inner})"[: MAX_SIGNATURE + 2], _names_in(inner), rest


def _names_in(inner: str) -> list[str]:
    """The names of "a, *, b=1", or nothing when the text is no Python, as in "x[, y]"."""
    try:
        node = ast.parse(f"def f({inner}): 0").body[0]
    except (SyntaxError, ValueError, RecursionError):
        return []
    return signature_of(node.args, bound=False)[1] if isinstance(node, ast.FunctionDef) else []
