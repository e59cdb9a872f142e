"""A child process that renders chat templates of strangers; run as a script, it loads jinja2 and nothing of ours.

One JSON line in: {"template", "renders": [{"messages", "add_generation_prompt"}], "names": {"bos_token": ...}}.
One JSON line out: {"texts": [...]} or {"error": "..."}. The sandbox keeps a template from reaching Python's inside;
loops without end and huge strings are stopped by the limits of the process and by the parent's clock.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_MAX_TEXT = 16 << 20  # characters of one rendered conversation
_MAX_MEMORY = 1 << 30


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows: the clock and the size of the text still hold there
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _environment() -> Any:
    """The environment that transformers gives to chat templates."""
    from datetime import datetime

    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what an assistant wrote; here it is only passed over."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.If(nodes.Const(True), body, [], []).set_lineno(line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment


def _render(template: Any, request: dict[str, Any]) -> list[str]:
    texts = []
    for asked in request["renders"]:
        text = template.render(**request["names"], tools=None, documents=None, **asked)
        if len(text) > _MAX_TEXT:
            raise ValueError(f"it makes more than {_MAX_TEXT:,} characters of one conversation")
        texts.append(text)
    return texts


def main() -> None:
    """Answers requests until the input ends."""
    _limit_memory()
    environment = _environment()
    compiled: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        try:
            request = json.loads(line)
            source = request["template"]
            if source not in compiled:
                compiled[source] = environment.from_string(source)
            answer: dict[str, object] = {"texts": _render(compiled[source], request)}
        except MemoryError:
            answer = {"error": "it needs more than 1 GB of memory"}
        except RecursionError:
            answer = {"error": "it is nested too deeply"}
        except Exception as error:  # whatever a stranger's template can raise
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
