"""One self-contained HTML page: headings, paragraphs, tables, folded examples and charts; no script, no network.

Strings in, a string out. Everything that is given is text and is escaped; only what these functions return is markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --line: #d9dee7; --bar: #5b8def; --mark: #d9480f;
  --paper: #ffffff; --shade: #f5f7fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #364152; --bar: #7aa5f5;
  --mark: #ff8a4c; --paper: #11151c; --shade: #1a2029; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; } h4 { font-size: .9rem; margin: .8rem 0 .2rem; }
h1, h3, h4, summary, p { overflow-wrap: anywhere; } p { margin: .4rem 0; } .soft { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } .right { text-align: right; }
details { margin: .3rem 0; } summary { cursor: pointer; color: var(--soft); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--shade); padding: .5rem .7rem; margin: .3rem 0;
  border-radius: 4px; font-size: 13px; }
svg { display: block; max-width: 100%; height: auto; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); gap: .6rem 1.6rem; }
.grid > div { min-width: 0; }
@media (max-width: 40rem) { body { margin: 1rem auto; } th, td { padding-right: .5rem; }
  td:first-child { min-width: 8rem; overflow-wrap: anywhere; } }
"""


def page(title: str, lead: str, sections: Iterable[str]) -> str:
    """The whole document."""
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body>\n"
    )
    body = "\n".join(sections)
    return f'{head}<h1>{escape(title)}</h1>\n<p class="soft">{escape(lead)}</p>\n{body}\n</body></html>\n'


def section(heading: str, *parts: str) -> str:
    """A heading over parts of markup; "" when there is none."""
    body = "\n".join(part for part in parts if part)
    return f"<h2>{escape(heading)}</h2>\n{body}" if body else ""


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: Sequence[int] = ()) -> str:
    """A table of plain texts; the columns numbered in `right` (from 0) are aligned to the right."""
    if not rows:
        return ""

    def line(cells: Sequence[str], tag: str) -> str:
        marked = (
            f"<{tag}{' class=right' if place in right else ''}>{escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if header else ""
    body = "".join(line(row, "td") for row in rows)
    # A table wider than the window scrolls by itself, not the page with it.
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def folded(summary: str, texts: Iterable[tuple[str, str]]) -> str:
    """(caption, text) pairs behind a line that opens them; "" when there are none."""
    inner = "".join(f"<p>{escape(caption)}</p><pre>{escape(text)}</pre>" for caption, text in texts)
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>" if inner else ""


def grid(cells: Iterable[str]) -> str:
    """Pieces of markup side by side as the window allows; "" when there are none."""
    inner = "".join(f"<div>{cell}</div>" for cell in cells)
    return f'<div class="grid">{inner}</div>' if inner else ""


def titled(title: str, *parts: str) -> str:
    """A small heading over parts of markup."""
    return f"<h3>{escape(title)}</h3>" + "".join(parts)


def captioned(title: str, *parts: str) -> str:
    """A heading of a cell, smaller than that of `titled`, over parts of markup."""
    return f"<h4>{escape(title)}</h4>" + "".join(parts)
