"""What the lines of a text begin with, end in and repeat.

A line is what stands between newlines and is not blank; white space around it is not looked at, but counts as its
length.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

# What ends a sentence in the scripts of the world's larger languages, and what closes a quotation after it.
SENTENCE_ENDS = tuple(".!?\"'”’…。！？؟।۔｡．")
BULLETS = ("•", "-")
ELLIPSES = ("...", "…")
LINE_SIGNALS = (
    "num_lines",
    "bullet_line_ratio",
    "ellipsis_line_ratio",
    "punctuated_line_ratio",
    "duplicate_line_character_ratio.without_newlines",
)
PART_SIGNALS = (
    "duplicate_line_ratio",
    "duplicate_line_character_ratio",
    "duplicate_paragraph_ratio",
    "duplicate_paragraph_character_ratio",
)
SHORT_LINE_RATIO = "short_line_ratio."  # followed by the characters that a short line has at most

_PARAGRAPHS = re.compile(r"\n{2,}")


def _duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts came before, and their characters."""
    unique = set(parts)
    if len(unique) == len(parts):
        return 0, 0
    return len(parts) - len(unique), sum(map(len, parts)) - sum(map(len, unique))


def line_signals(text: str, short: Collection[int]) -> dict[str, float]:
    """The numbers named in LINE_SIGNALS, and for each of `short` the share of lines with at most that many characters.

    Characters in duplicate lines are those of lines that came before, over all that are no newline (FineWeb,
    https://arxiv.org/abs/2406.17557).
    """
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    stripped = list(map(str.strip, lines))
    per_line = max(len(lines), 1)
    characters = max(len(text) - text.count("\n"), 1)
    found: dict[str, float] = {
        "num_lines": len(lines),
        "bullet_line_ratio": sum([line.startswith(BULLETS) for line in stripped]) / per_line,
        "ellipsis_line_ratio": sum([line.endswith(ELLIPSES) for line in stripped]) / per_line,
        "punctuated_line_ratio": sum([line.endswith(SENTENCE_ENDS) for line in stripped]) / per_line,
        "duplicate_line_character_ratio.without_newlines": _duplicates(lines)[1] / characters,
    }
    for limit in short:
        found[f"{SHORT_LINE_RATIO}{limit}"] = sum([len(line) <= limit for line in lines]) / per_line
    return found


def part_signals(text: str) -> dict[str, float]:
    """The numbers named in PART_SIGNALS: lines and paragraphs that came before, by number and by characters.

    Gopher's (https://arxiv.org/abs/2112.11446, table A1): a paragraph ends at an empty line, characters are counted
    against the whole text.
    """
    stripped = text.strip()
    paragraphs = _PARAGRAPHS.split(stripped) if "\n\n\n" in stripped else stripped.split("\n\n")
    lines = [line for line in stripped.split("\n") if line] or [""]
    paragraph_count, paragraph_characters = _duplicates(paragraphs)
    line_count, line_characters = _duplicates(lines)
    length = max(len(text), 1)
    return {
        "duplicate_line_ratio": line_count / len(lines),
        "duplicate_line_character_ratio": line_characters / length,
        "duplicate_paragraph_ratio": paragraph_count / len(paragraphs),
        "duplicate_paragraph_character_ratio": paragraph_characters / length,
    }
