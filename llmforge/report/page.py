"""A page of sections for the terminal: headings, paragraphs, tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

WIDTH = 100


def section(heading: str, lines: Iterable[str]) -> list[str]:
    """A heading over indented lines; nothing when there are none."""
    body = [f"  {line}".rstrip() for line in lines]
    return [f"── {heading} " + "─" * max(0, WIDTH - len(heading) - 4), *body, ""] if body else []


def paragraph(text: str, indent: str = "", most_lines: int | None = None) -> list[str]:
    """Text folded to the page's width; with `most_lines` what is beyond ends in an ellipsis."""
    inner = WIDTH - 2
    folded: list[str] = []
    for line in text.splitlines() or [""]:
        options = {"initial_indent": indent, "subsequent_indent": indent, "break_on_hyphens": False}
        folded += textwrap.wrap(line, inner, **options) or [indent.rstrip()]  # type: ignore[arg-type]
    if most_lines is not None and len(folded) > most_lines:
        folded = [*folded[:most_lines]]
        folded[-1] = folded[-1][: inner - 4] + " ..."
    return folded


def share(part: float, whole: float) -> str:
    """`12.3 %` of a whole; a dash when there is none."""
    return f"{100 * part / whole:.1f} %" if whole else "-"
