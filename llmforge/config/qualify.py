"""Keys in a message, spelled as they are typed: with the place of the config that they belong to before them.

A part of the program knows its own keys only; who puts it into a larger config knows where. A word counts as a key when
the schema has it and it cannot be prose: it has a dot or an underscore, or "=" behind it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llmforge.config.shape import below, unwrap

_WORD = re.compile(r"(?<![\w./-])[a-z][a-z0-9_]*(?:\.[A-Za-z0-9_]+)*(?![\w/-])(?P<set>=)?")
_ANY_INDEX = "N"


def qualified(text: str, annotations: Sequence[Any], prefix: str) -> str:
    """`text` with `prefix.` before each key of the config classes among `annotations`; `sources.N.path` is one too."""

    def longer(found: re.Match[str]) -> str:
        key = found.group().removesuffix("=")
        certain = "_" in key or "." in key or found["set"]
        return f"{prefix}.{found.group()}" if certain and _is_there(annotations, key.split(".")) else found.group()

    return _WORD.sub(longer, text)


def _is_there(annotations: Sequence[Any], parts: Sequence[str]) -> bool:
    found = [member for annotation in annotations for member in unwrap(annotation)]
    for part in parts:
        found = below(found, "0" if part == _ANY_INDEX else part)
    return bool(found)
