"""Charts as SVG, drawn here so that a page needs no library and no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from llmforge.report.page import number

WIDTH, HEIGHT = 340, 110
_BOTTOM = 18


def histogram(edges: Sequence[float], counts: Sequence[float], mark: float | None = None, mark_label: str = "") -> str:
    """Bars between `edges` (one more than counts), heights by the square root of the count so that tails are seen.

    `mark` draws a vertical line at that value; values outside the edges stand at the border.
    """
    first, last = edges[0], edges[-1]
    span = (last - first) or 1.0
    top = max(max(counts, default=0), 1) ** 0.5
    plot = HEIGHT - _BOTTOM - 14

    def across(value: float) -> float:
        return max(0.0, min(1.0, (value - first) / span)) * WIDTH

    bars = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        height = plot * count**0.5 / top
        left, right = across(low), across(high)
        title = f"<title>{count:,.0f} from {number(low)} to {number(high)}</title>"
        place = f'x="{left:.1f}" y="{HEIGHT - _BOTTOM - height:.1f}" width="{max(right - left - 0.6, 0.4):.1f}"'
        bars.append(f'<rect {place} height="{height:.1f}" fill="var(--bar)">{title}</rect>')
    base = HEIGHT - _BOTTOM
    axis = f'<line x1="0" x2="{WIDTH}" y1="{base}" y2="{base}" stroke="var(--line)"/>'
    ends = (
        f'<text x="0" y="{HEIGHT - 4}">{number(first)}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 4}" text-anchor="end">{number(last)}</text>'
    )
    return _svg("".join([*bars, axis, ends, _mark(across(mark), mark_label) if mark is not None else ""]))


def _mark(x: float, label: str) -> str:
    anchor = "end" if x > WIDTH * 0.6 else "start"
    shift = -4 if anchor == "end" else 4
    line = (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{HEIGHT - _BOTTOM}" stroke="var(--mark)" stroke-dasharray="4 3"/>'
    )
    return f'{line}<text x="{x + shift:.1f}" y="12" text-anchor="{anchor}">{escape(label)}</text>'


def _svg(inner: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">{inner}</svg>'
