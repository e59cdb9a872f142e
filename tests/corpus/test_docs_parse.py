"""Source files to documented objects: names, signatures, added docstrings, prose, public names."""

import inspect
import json

import pytest

from llmforge.corpus.python_docs.names import PublicNames, is_public, shown_name
from llmforge.corpus.python_docs.parse import ParsedModule, parse_module
from llmforge.corpus.python_docs.prose import to_prose
from llmforge.corpus.python_docs.signatures import split_call_line
from llmforge.corpus.python_docs.worker import parse_file

SOURCE = '''
"""A module."""
from .inner import Thing as Other, helper
from .more import *
__all__ = ["Thing", "work"]
__all__ += ["late"]

class Thing(Base):
    """A thing."""
    def __init__(self, a, b=2, *rest, c, d=None, **more): ...
    @property
    def size(self):
        """The size."""
    @staticmethod
    def make(x, /, y: int = 3) -> "Thing":
        """Make one."""
    @size.setter
    def size(self, value):
        """Never shown."""
    def silent(self): ...
    class Inner:
        def deep(self, *, k):
            """Deep."""

if True:
    async def work(x=[1, 2], *args):
        """Work."""
        def hidden():
            """Hidden."""

@overload
def work(x): "Not this."
'''


def test_a_module_gives_its_objects_in_order_with_signatures():
    parsed = parse_module(SOURCE.encode(), "pkg.mod", is_package=False)
    assert [(e.kind, e.name, e.signature, e.parameters) for e in parsed.entries] == [
        ("module", "", "", []),
        ("class", "Thing", "(a, b=2, *rest, c, d=None, **more)", ["a", "b=", "c", "d="]),
        ("property", "Thing.size", "", []),
        ("method", "Thing.make", "(x, /, y=3)", ["x", "y="]),
        ("method", "Thing.Inner.deep", "(*, k)", ["k"]),
        ("function", "work", "(x=[1, 2], *args)", ["x="]),
    ]
    assert parsed.exported == ["Thing", "work", "late"]
    assert parsed.imported == [("Other", "pkg.inner", "Thing"), ("helper", "pkg.inner", "helper")]
    assert parsed.stars == ["pkg.more"]
    assert ParsedModule.from_row(json.loads(json.dumps(parsed.as_row()))) == parsed


def test_signatures_agree_with_inspect_on_the_standard_library():
    import textwrap

    parsed = parse_module(inspect.getsource(textwrap).encode(), "textwrap", is_package=False)
    functions = {e.name: e.signature for e in parsed.entries if e.kind == "function"}
    assert len(functions) >= 5
    for name, signature in functions.items():
        assert signature == str(inspect.signature(getattr(textwrap, name)))


def test_docstrings_added_to_c_objects_are_found_and_their_templates_filled():
    source = '''
args = parse_kwargs("""
    input (Tensor): the input.
    dim (int): the dimension.
        With more.
""")
add_docstr(torch.abs, r"""
abs(input, *, out=None) -> Tensor

Computes it. {{x}} {input} {unknown}
""".format(**args))
gelu = _add_docstr(torch._C.gelu, "gelu(input) -> Tensor\\n\\nApplies it.")
add_docstr_all("add_", "add_(other) -> Tensor\\n\\nAdds.")
add_newdoc("numpy._core.multiarray", "ndarray", [("T", "View."), ("all", "a.all(axis=None)\\n\\nTest all.")])
'''
    parsed = parse_module(source.encode(), "torch.docs", is_package=False)
    found = {e.name: (e.kind, e.signature, to_prose(e.doc)) for e in parsed.absolute}
    assert found == {
        "torch.abs": ("function", "(input, *, out=None)", "Computes it. {x} input (Tensor): the input."),
        "torch.docs.gelu": ("function", "(input)", "Applies it."),
        "torch.Tensor.add_": ("method", "(other)", "Adds."),
        "numpy._core.multiarray.ndarray.T": ("property", "", "View."),
        "numpy._core.multiarray.ndarray.all": ("method", "(axis=None)", "Test all."),
    }


@pytest.mark.parametrize(
    ("doc", "name", "expected"),
    [
        ("f(a, b=1) -> int\n\nText.", "m.f", ("(a, b=1)", ["a", "b="])),
        ("f(a[, b])\nText.", "f", ("(a[, b])", [])),
        ("f(a) -> x\nf(b) -> y\n\nText.", "f", ("(a)", ["a"])),
        ("Text (with) words.", "f", ("", [])),
        ("g(x)\n\nText.", "f", ("", [])),
    ],
)
def test_a_call_line_is_taken_off_only_when_it_calls_the_object(doc, name, expected):
    signature, parameters, rest = split_call_line(doc, name)
    assert (signature, parameters) == expected
    assert rest.strip() == ("Text." if signature else doc)


def test_prose_joins_lines_and_drops_markup_but_keeps_code_and_lists():
    doc = """Compute the thing of :class:`~torch.nn.Linear` and ``x`` over a
        line that goes on here, see :func:`abs <builtins.abs>`.

        Parameters
        ----------
        x : array_like
            The first line of the description of this parameter that
            goes on.

        .. versionadded:: 1.2
        .. code-block:: python

        >>> compute(1)
        a line of output that is quite long, but never joined, because
        it is output

        - a first point that is longer than forty-five characters and
          goes on
        - a second
        """
    assert to_prose(doc) == (
        "Compute the thing of `Linear` and `x` over a line that goes on here, see abs.\n\n"
        "Parameters:\nx : array_like\n    The first line of the description of this parameter that goes on.\n\n"
        "Added in version 1.2.\n\n"
        ">>> compute(1)\na line of output that is quite long, but never joined, because\nit is output\n\n"
        "- a first point that is longer than forty-five characters and goes on\n- a second"
    )


def modules(**sources):
    return [
        parse_module(text.encode(), name.replace("__", "."), is_package="pkg" in name.split("__")[-1])
        for name, text in sources.items()
    ]


def test_the_shortest_public_name_is_found_through_imports_and_stars():
    names = PublicNames(
        modules(
            pkg="from .subpkg import *\nfrom ._hidden import Deep as Nice\nfrom .ring import thing",
            pkg__subpkg="from .inner import *",
            pkg__subpkg__inner="__all__ = ['shown']\nfrom ..other import f as unseen\ndef shown(): ...\ndef own(): ...",
            pkg__other="def f(): ...",
            pkg___hidden="class Deep: ...",
            pkg__ring="from . import thing",
        )
    )
    assert names.of("pkg.subpkg.inner.shown") == "pkg.shown"
    assert names.of("pkg.subpkg.inner.own") == "pkg.subpkg.inner.own"
    assert names.of("pkg._hidden.Deep.method") == "pkg.Nice.method"
    assert names.of("pkg.other.f") == "pkg.other.f"
    assert [shown_name(n) for n in ("builtins.str.split", "posixpath.join")] == ["str.split", "os.path.join"]
    assert is_public("a.b") and not is_public("a._b.c")


@pytest.mark.parametrize("content", [b"def f(:", b"\x00\x01'''", b"'''" + b"(" * 50_000, b"# coding: nothing\n'''x'''"])
def test_a_file_that_is_no_python_is_passed_over(tmp_path, content):
    path = tmp_path / "a.py"
    path.write_bytes(content)
    assert parse_file(str(path), "a", False) is None
