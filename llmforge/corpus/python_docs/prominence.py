"""How well known a name is: what is asked first, and which of several names with one text is kept."""

from __future__ import annotations

_TYPES = frozenset("str list dict set int float bytes tuple bool frozenset bytearray complex".split())
_MODULES = (
    "math", "os.path", "numpy", "json", "pandas.DataFrame", "torch", "re", "networkx", "os", "collections", "sympy",
    "random", "pandas", "torch.nn", "itertools", "functools", "datetime", "pathlib", "statistics", "string", "time",
    "torch.Tensor", "pandas.Series", "shutil", "subprocess", "csv", "copy", "heapq", "bisect", "textwrap",
    "logging", "threading", "asyncio", "torch.optim", "torch.nn.functional", "numpy.linalg", "numpy.random",
    "numpy.ndarray",
)  # fmt: skip
_GROUPS = {name: index + 2 for index, name in enumerate(_MODULES)}
_REST = len(_GROUPS) + 2
_LAST = ("tkinter", "idlelib", "lib2to3", "distutils", "pydoc", "turtle")


def prominence(name: str) -> tuple[int, int, int]:
    """(group, parts, length): smaller is better known. Group 0 is built-in types, 1 functions, then modules."""
    owner, _, leaf = name.rpartition(".")
    parts = name.count(".")
    if not owner:
        return (1, parts, len(name))
    if owner in _TYPES:
        return (0, parts, len(name))
    top = name.partition(".")[0]
    group = _GROUPS.get(owner)
    if group is None and leaf and owner.rpartition(".")[0] in ("collections", "datetime", "pathlib"):
        group = _GROUPS[owner.rpartition(".")[0]]
    if group is None:
        group = _REST + (1 if top in _LAST else 0)
    return (group, parts, len(name))
