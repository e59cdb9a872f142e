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
    """Text folded to the page's width, its line breaks kept; with `most_lines` what is beyond ends in an ellipsis."""
    folded: list[str] = []
    for line in text.strip().expandtabs(4).splitlines():
        own = indent + " " * min(len(line) - len(line.lstrip()), WIDTH // 4)
        wrapper = textwrap.TextWrapper(WIDTH - 2, initial_indent=own, subsequent_indent=own, break_on_hyphens=False)
        folded += wrapper.wrap(line.strip()) or [""]
    if most_lines is not None and len(folded) > most_lines:
        folded = folded[:most_lines]
        while folded and not folded[-1]:
            folded.pop()
        folded[-1:] = [folded[-1][: WIDTH - 6].rstrip() + " ..."]
    return folded


def share(part: float, whole: float) -> str:
    """`12.3 %` of a whole; a dash when there is none."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def number(value: float) -> str:
    """A number for people: four digits that count, thousands parted, no powers of ten."""
    if value and abs(value) < 1e-4:
        return f"{value:.7f}".rstrip("0").rstrip(".")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
