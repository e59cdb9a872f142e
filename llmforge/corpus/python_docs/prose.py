"""A docstring to text that reads like a page: markup of reStructuredText taken out, wrapped lines joined again.

Code, doctests, tables and lists keep their lines. Loads the standard library only (it runs in child processes).
"""

from __future__ import annotations

import re

MIN_WRAPPED = 40  # a line at least this long is taken to go on in the next
_ROLE = re.compile(r":[a-zA-Z][\w+-]*(?::[\w+-]+)?:`([^`]*)`")
_TARGET = re.compile(r"^!?~?(.*?)\s*<[^<>]*>$", re.DOTALL)
_LINK = re.compile(r"`([^`<>]+?)\s*<[^<>`]+>`__?")
_LITERAL = re.compile(r"``([^`]+)``")
_REFERENCE = re.compile(r"\s?\[(?:\d+|[A-Z][\w.]*)\]_|(?<=\w)`_\b|\|version\|")
_UNDERLINE = re.compile(r"^\s*([=\-~^*\"'#+`:])\1{2,}\s*$")
_LATEX_NAME = re.compile(r"\\(?:text|mathrm|mathbf|mathcal|operatorname|mathbb|textbf|textit)\{([^{}]*)\}")
_LATEX_SIGN = re.compile(r"\\(times|cdot|leq|geq|le|ge|ldots|dots|neq|in|infty|to|_|,|;|!|left|right)(?![a-zA-Z])")
_DIRECTIVE = re.compile(r"^(\s*)\.\. ([a-zA-Z][\w:+-]*)::\s*(.*)$")
_FOOTNOTE = re.compile(r"^(\s*)\.\. (\[[^\]]+\]\s+.*)$")
_FIELD = re.compile(
    r"^(\s*):(param|parameter|arg|argument|keyword|key|type|raises?|returns?|rtype|ivar|cvar|var|vartype)\b"
    r"\s*([^:]*):\s*(.*)$"
)
_MARKER = re.compile(
    r"^(?:>>>|\.\.\.|[-*+•|=#:~>]|\.\. |\d+[.)]\s|\([a-z0-9]+\)\s|@|[\w.*]+(?:, [\w.*]+)*(?: \([^)]*\))? ?:\s)"
)
_BULLET = re.compile(r"^(?:[-*+•]|\d+[.)])\s+")
_SPACED = re.compile(r"[^\s.?!:,;)] {2,}\S| {3,}\S")
_SENTENCE_GAP = re.compile(r"(?<=[.?!:,;)])  (?=\S)")
_NAMED = {
    "note": "Note:", "warning": "Warning:", "seealso": "See also:", "tip": "Tip:", "important": "Important:",
    "caution": "Caution:", "attention": "Attention:", "hint": "Hint:", "math": "", "rubric": "",
    "versionadded": "Added in version", "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "admonition": "", "topic": "", "centered": "", "describe": "", "function": "", "class": "", "method": "",
}  # fmt: skip
_SIGNS = {
    "times": "x", "cdot": "*", "leq": "<=", "le": "<=", "geq": ">=", "ge": ">=", "ldots": "...", "dots": "...",
    "neq": "!=", "in": "in", "infty": "infinity", "to": "->",
}  # fmt: skip
_FIELD_NAMES = {
    "raise": "Raises", "raises": "Raises", "return": "Returns:", "returns": "Returns:", "rtype": "Return type:",
}  # fmt: skip


def to_prose(doc: str) -> str:
    """The docstring dedented, without markup, its paragraphs on one line each."""
    lines = _dedented(doc)
    if not lines:
        return ""
    text = "\n".join(_without_directives(lines))
    if "`" in text or "_" in text:
        text = inline_plain(text)
    if "\\" in text:
        text = _LATEX_SIGN.sub(_sign_text, _LATEX_NAME.sub(r"\1", text))
    return _joined(text.split("\n"))


def inline_plain(text: str) -> str:
    """Roles, links and double backticks to plain text in single backticks."""
    if "`" in text:
        text = _ROLE.sub(_role_text, text)
        text = _LINK.sub(lambda found: found.group(1), text)
        text = _LITERAL.sub(r"`\1`", text)
    return _REFERENCE.sub("", text)


def _sign_text(found: re.Match[str]) -> str:
    return _SIGNS.get(found.group(1), found.group(1) if found.group(1) == "_" else "")


def _role_text(found: re.Match[str]) -> str:
    inner = found.group(1)
    target = _TARGET.match(inner)
    if target and target.group(1):
        return target.group(1)
    shown = inner.rpartition(".")[2] if inner.startswith("~") else inner.lstrip("!")
    return f"`{shown}`" if shown else ""


def _dedented(doc: str) -> list[str]:
    """The lines as `inspect.cleandoc` has them."""
    lines = doc.expandtabs().split("\n")
    indents = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    margin = min(indents, default=0)
    out = [lines[0].strip(), *(line[margin:].rstrip() for line in lines[1:])]
    while out and not out[-1]:
        out.pop()
    start = next((index for index, line in enumerate(out) if line), len(out))
    return out[start:]


def _without_directives(lines: list[str]) -> list[str]:
    out: list[str] = []
    for line in lines:
        stripped = line.lstrip()
        if stripped.startswith(".. "):
            out.extend(_directive(line))
        elif stripped.startswith(":") and (found := _FIELD.match(line)):
            out.append(_field(found))
        elif stripped and stripped[0] in "=-~^*\"'#+`:" and _UNDERLINE.match(line):
            if out and out[-1] and not out[-1].endswith((":", ".")) and len(out[-1].split()) <= 3:
                out[-1] += ":"
        else:
            out.append(line)
    return out


def _directive(line: str) -> list[str]:
    found = _DIRECTIVE.match(line)
    if not found:
        footnote = _FOOTNOTE.match(line)
        return [footnote.group(1) + footnote.group(2)] if footnote else []
    indent, name, rest = found.groups()
    if name not in _NAMED:
        return []
    words = f"{_NAMED[name]} {rest}".strip()
    if name.startswith(("version", "deprecated")) and not words.endswith((".", ":")):
        words += "." if " " not in rest else ""
    return [indent + words] if words else []


def _field(found: re.Match[str]) -> str:
    indent, kind, name, text = found.groups()
    label = _FIELD_NAMES.get(kind)
    if label is None:
        return f"{indent}{name}: {text}"
    return f"{indent}{label} {name + ': ' if name else ''}{text}".rstrip()


def _joined(lines: list[str]) -> str:
    """Lines of one paragraph on one line; at most one blank line between paragraphs."""
    out: list[str] = []
    state = _Paragraph()
    for line in lines:
        if not line.strip():
            if out and out[-1]:
                out.append("")
            state.after_blank()
        elif state.goes_on(line):
            out[-1] = _SENTENCE_GAP.sub(" ", f"{out[-1].rstrip()} {line.strip()}")
        else:
            out.append(line)
        if line.strip():
            state.take(line)
    while out and not out[-1]:
        out.pop()
    return "\n".join(line[:-1] if line.endswith("::") else line for line in out)


class _Paragraph:
    """What the line before was, to know whether the next one goes on with its sentence."""

    def __init__(self) -> None:
        self._before = ""
        self._indent = 0
        self._hanging = 0
        self._literal_above: int | None = None  # deeper lines than this are code
        self._code = False

    def after_blank(self) -> None:
        self._before = ""
        self._code = False

    def goes_on(self, line: str) -> bool:
        """True when `line` continues the paragraph of the line before."""
        before = self._before
        if not before or self._code or len(before) < MIN_WRAPPED or before.endswith("::"):
            return False
        stripped = line.lstrip()
        indent = len(line) - len(stripped)
        if indent != self._indent and indent != self._hanging:
            return False
        if self._literal_above is not None and indent > self._literal_above:
            return False
        return not (_MARKER.match(stripped) or _SPACED.search(stripped.rstrip()) or _SPACED.search(before))

    def take(self, line: str) -> None:
        """Remember `line` as the one before."""
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if self._literal_above is not None and indent <= self._literal_above:
            self._literal_above = None
        if not self._before or indent not in (self._indent, self._hanging) or _MARKER.match(stripped):
            bullet = _BULLET.match(stripped)
            self._hanging = indent + (bullet.end() if bullet else 0)
            self._indent = indent
        if stripped.startswith((">>>", "...")):
            self._code = True
        if stripped.endswith("::") and self._literal_above is None:
            self._literal_above = indent
        self._before = stripped
