"""A resolved config as YAML text with the origin of every value behind it, and a schema as JSON Schema.

The text loads again to the same config.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llmforge.config.schema import Config

# Letters, digits and a few signs, beginning with a letter: no number, no sign that means something in YAML.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./ -]*[A-Za-z0-9_./-]|[A-Za-z]|\./[A-Za-z0-9_./-]+|/[A-Za-z0-9_./-]*")
# Unprintable in YAML, or line breaks to it.
_ESCAPED = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_WIDTH = 56


def scalar(value: Any) -> str:
    """A plain value as YAML 1.2 that YAML 1.1 readers take for the same."""
    if value is None or isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, float):
        text = repr(value)
        return text.replace("e", ".0e", 1) if "e" in text and "." not in text else text
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\U{ord(found.group()):08X}", quoted)


def _lines(value: Any, path: str, indent: int) -> Iterator[tuple[str, str]]:
    """Lines of YAML, each with the dotted path of the plain value on it, or "" for a line that opens a map or list."""
    pad = "  " * indent
    items = value.items() if isinstance(value, dict) else ((None, inner) for inner in value)
    for index, (key, inner) in enumerate(items):
        here = f"{path}.{index if key is None else key}".lstrip(".")
        lead = f"{pad}-" if key is None else f"{pad}{scalar(key)}:"
        if isinstance(inner, (dict, list)) and inner:
            below = list(_lines(inner, here, indent + 1))
            if key is None:  # the first line of an item stands behind its dash
                first, first_path = below[0]
                yield f"{lead} {first.lstrip()}", first_path
                below = below[1:]
            else:
                yield lead, ""
            yield from below
        else:
            yield f"{lead} {_empty_or_scalar(inner)}", here


def _empty_or_scalar(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "{}" if isinstance(value, dict) else "[]"
    return scalar(value)


def render(config: Config | Mapping[str, Any], origins: Mapping[str, str] | None = None) -> str:
    """YAML of a config; with origins each value's line ends in `# file:line`, `# override` or `# default`."""
    values = config.model_dump(mode="json") if isinstance(config, Config) else dict(config)
    out = []
    for line, path in _lines(values, "", 0):
        origin = (origins or {}).get(path)
        out.append(f"{line:<{_WIDTH}}  # {origin}" if origin else line)
    return "\n".join(out) + "\n"


def json_schema(schema: type[Config]) -> str:
    """The JSON Schema of a config class, for editors."""
    body = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema.model_json_schema()}
    return json.dumps(body, indent=2) + "\n"
