"""Docstrings that Python code gives to objects written in C: torch's add_docstr and NumPy's add_newdoc.

    add_docstr(torch.abs, r'''abs(input) -> Tensor ... {input}'''.format(**common_args))
    gelu = _add_docstr(torch._C._nn.gelu, r'''gelu(input) -> Tensor ...''')
    add_docstr_all("abs", r'''abs() -> Tensor ...''')
    add_newdoc('numpy._core.multiarray', 'ndarray', ('T', '''View of the transposed array.'''))

The templates' {names} are filled from the file's own parse_kwargs('''name: text''') tables, without running it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from llmforge.corpus.python_docs.signatures import split_call_line

Added = tuple[str, str, str, list[str], str]  # kind, full name, signature, parameters, text
_FIELD = re.compile(r"\{(\w+)\}")


def added_entries(tree: ast.Module, module: str) -> Iterator[Added]:
    """What the module documents under full names of other modules, or under its own by assignment."""
    table = _template_table(tree)
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            call, assigned = node.value, f"{module}.{node.targets[0].id}"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call, assigned = node.value, ""
        else:
            continue
        name = _called(call)
        if name.endswith("add_docstr") and len(call.args) >= 2:
            yield from _entry(assigned or _dotted(call.args[0]), _text(call.args[1], table), "function")
        elif name == "add_docstr_all" and len(call.args) >= 2 and isinstance(call.args[0], ast.Constant):
            yield from _entry(f"torch.Tensor.{call.args[0].value!s}", _text(call.args[1], table), "method")
        elif name == "add_newdoc" and len(call.args) >= 3:
            yield from _newdoc(call.args, table)


def _newdoc(args: list[ast.expr], table: dict[str, str]) -> Iterator[Added]:
    place, owner, what = args[0], args[1], args[2]
    if not isinstance(place, ast.Constant) or not isinstance(owner, ast.Constant):
        return
    name = f"{place.value!s}.{owner.value!s}"
    pairs = what.elts if isinstance(what, ast.List) else [what]
    for pair in pairs:
        if isinstance(pair, ast.Tuple) and len(pair.elts) == 2 and isinstance(pair.elts[0], ast.Constant):
            yield from _entry(f"{name}.{pair.elts[0].value!s}", _text(pair.elts[1], table), "method")
        else:
            text = _text(pair, table)
            leaf = str(owner.value)
            yield from _entry(name, text, "class" if leaf in ("ndarray", "dtype", "flatiter", "nditer") else "function")


def _entry(name: str, text: str, kind: str) -> Iterator[Added]:
    if name and text.strip():
        signature, parameters, rest = split_call_line(text, name)
        if not signature and kind == "method":
            kind = "property"
        yield kind, name, signature, parameters, rest


def _called(call: ast.Call) -> str:
    return _dotted(call.func).rpartition(".")[2]


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _text(node: ast.expr, table: dict[str, str]) -> str:
    """A string constant, a sum of them, or one with .format(...) or .replace(...); "" for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, table) + _text(node.right, table)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        inner = _text(node.func.value, table)
        if node.func.attr != "format":
            return inner
        filled = _FIELD.sub(lambda found: table.get(found.group(1), ""), inner.replace("{{", "\0"))
        return filled.replace("\0", "{").replace("}}", "}")
    return ""


def _template_table(tree: ast.Module) -> dict[str, str]:
    """Names and texts of every parse_kwargs block of the file; `name: text` with deeper lines going on."""
    table: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "parse_kwargs" and node.args:
            block = _text(node.args[0], {})
            for part in re.split(r"\n {4}(?=\S)", block):
                key, colon, value = part.strip().partition(": ")
                word = key.split(" ", 1)[0].split("(", 1)[0]
                if colon and word.isidentifier():
                    table.setdefault(word, f"{key}: {value}")
    return table
