"""The house's walls: floors, cycles, no pickle, sizes, names, docstrings, and what a light command may load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llmforge"
FLOORS = {
    "errors": 0,
    "config": 1,
    "runtime": 1,
    "report": 1,
    "model": 2,
    "tokenizer": 2,
    "corpus": 2,
    "tokens": 3,
    "checkpoint": 3,
    "cleaning": 3,
    "planning": 3,
    "training": 4,
    "inference": 4,
    "interop": 4,
    "finetune": 5,
    "evaluation": 5,
    "stages": 6,
    "cli": 8,
    "cli_flags": 7,
    "__main__": 9,
}
# Every component's settings are a Config, and this class alone is what they inherit from; it imports nothing of ours.
GROUND = {"llmforge.config.schema"}
HEAVY = {"torch", "numpy", "pyarrow", "pandas", "datasets"}
MAY_LOAD_TORCH_AT_IMPORT = {"model", "tokens", "checkpoint", "training", "inference", "finetune", "evaluation"}
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def package(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")


def module(path: Path) -> str:
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


def imports(path: Path, top_only: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, also those inside functions and under TYPE_CHECKING."""
    nodes = tree(path).body if top_only else ast.walk(tree(path))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            yield node.lineno, node.module
            for alias in node.names:  # `from llmforge.stages import clean` imports a module
                if (PACKAGE.parent / node.module.replace(".", "/") / f"{alias.name}.py").is_file():
                    yield node.lineno, f"{node.module}.{alias.name}"


def for_types_only(path: Path) -> set[int]:
    """The lines below `if TYPE_CHECKING:`, which no run executes."""
    return {
        line
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in node.body
        for line in range(inner.lineno, (inner.end_lineno or inner.lineno) + 1)
    }


def test_every_package_has_a_floor() -> None:
    assert {package(path) for path in FILES} - {"__init__"} <= set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_run_down_only(path: Path) -> None:
    mine = package(path)
    for line, name in imports(path):
        if name.startswith("llmforge.") and name not in GROUND:
            other = name.split(".")[1]
            down = other == mine or FLOORS[other] < FLOORS[mine]
            assert down, f"{path}:{line}: {mine} (floor {FLOORS[mine]}) imports {other} (floor {FLOORS[other]})"


def test_no_two_modules_import_each_other_in_a_ring() -> None:
    known = {module(path): path for path in FILES}
    below = {
        name: {other for line, other in imports(path) if other in known and line not in for_types_only(path)}
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        assert name not in way, " -> ".join([*way, name])
        if name not in done:
            for other in below[name] - {name}:
                visit(other, [*way, name])
            done.add(name)

    for name in known:
        visit(name, [])


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_pickle_and_no_typer_outside_the_command_line(path: Path) -> None:
    for line, name in imports(path):
        top = name.split(".")[0]
        assert top not in ("pickle", "dill", "cloudpickle", "shelve", "marshal"), f"{path}:{line}: {name}"
        assert top not in ("typer", "click") or package(path) in ("cli", "cli_flags"), f"{path}:{line}: {name}"
        assert top != "transformers" or package(path) == "interop", f"{path}:{line}: {name}"
    text = path.read_text(encoding="utf-8")
    assert "trust_remote_code=True" not in text and "torch.load(" not in text.replace("weights_only=True", "")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_light_floors_load_nothing_heavy_at_import(path: Path) -> None:
    light = package(path) not in MAY_LOAD_TORCH_AT_IMPORT | {"runtime"}
    if light or path.name in ("settings.py", "config.py", "presets.py") or "settings" in path.name:
        for line, name in imports(path, top_only=True):
            assert name.split(".")[0] not in HEAVY, f"{path}:{line}: {name} at import"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_and_functions_can_be_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert path.name not in {"utils.py", "util.py", "common.py", "helpers.py", "base.py", "manager.py", "misc.py"}
    assert text.count("\n") <= 300, f"{path}: {text.count(chr(10))} lines"
    body = tree(path).body
    assert ast.get_docstring(tree(path)), f"{path}: no docstring"
    if path.name == "__init__.py":
        assert len(body) == 1, f"{path}: more than a docstring"
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{path}:{node.lineno}: {node.name} has {lines} lines"
        if isinstance(node, ast.Raise):
            assert "NotImplementedError" not in ast.dump(node), f"{path}:{node.lineno}"


def public(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield owner + node.name, node
            # A protocol's members are those of the classes that follow it.
            protocol = isinstance(node, ast.ClassDef) and any("Protocol" in ast.dump(name) for name in node.bases)
            if isinstance(node, ast.ClassDef) and not protocol:
                yield from public(node.body, f"{node.name}.")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_public_things_say_what_they_do(path: Path) -> None:
    # nn.Module's forward is described by its class.
    bare = [
        name
        for name, node in public(tree(path).body)
        if not ast.get_docstring(node) and not name.endswith(".forward")  # type: ignore[arg-type]
    ]
    assert not bare, f"{path}: no docstring on {', '.join(bare)}"


def loaded_by(*arguments: str, cwd: Path = ROOT) -> set[str]:
    """The top-level modules that a command has loaded when it ends."""
    code = (
        "import sys, json\nfrom llmforge.cli import main\nsys.argv = ['llmforge', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "sys.stderr.write('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["clean", "--help"],
        ["run", "--help"],
        ["clean", "--schema"],
        ["pretrain", "--schema"],
        ["run", "--schema"],
        ["clean", "--config", "configs/clean/python-docs.yaml", "--dry-run"],
        ["run", "--config", "configs/quickstart.yaml", "--dry-run"],
    ],
    ids=" ".join,
)
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    assert not loaded_by(*arguments) & (HEAVY | {"transformers", "sentencepiece", "sympy"})


def test_help_loads_no_stage_and_no_schema_library_of_ours() -> None:
    assert not loaded_by("--help") & {"yaml", "pydantic", "rich"}
