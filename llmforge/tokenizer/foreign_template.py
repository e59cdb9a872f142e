"""Chat templates of Hugging Face folders: found, and rendered in a child process that is bounded in time and memory.

A template is a program of a stranger. It runs in jinja2's immutable sandbox, in a process of its own with 1 GB of
memory, and is killed when one conversation takes longer than ten seconds.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmforge.errors import DataError
from llmforge.tokenizer.files import CONFIG_FILE, SPECIAL_MAP_FILE, read_json

SECONDS = 10.0
_MAX_TEMPLATE = 1 << 20  # characters
_MAX_ANSWER = 256 << 20  # bytes
_TEMPLATE_FILE = "chat_template.jinja"
# For folders without one (base models): plain text, each answer closed by the eos token.
PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)


def find_template(folder: Path) -> str | None:
    """The chat template of a folder; None when it has none.

    Raises:
        DataError: it is longer than any template.
    """
    path = folder / _TEMPLATE_FILE
    found: object = None
    if path.is_file():
        found = path.read_bytes()[: 4 * _MAX_TEMPLATE + 4].decode("utf-8", "replace")
    else:
        found = read_json(folder / CONFIG_FILE).get("chat_template")
    if isinstance(found, list):
        named = [entry for entry in found if isinstance(entry, dict)]
        found = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    if not isinstance(found, str):
        return None
    if len(found) > _MAX_TEMPLATE:
        raise DataError(f"the chat template is longer than {_MAX_TEMPLATE:,} characters", folder)
    return found


def special_names(folder: Path) -> dict[str, str]:
    """`bos_token`, `eos_token` and the others as a template expects them."""
    config = read_json(folder / SPECIAL_MAP_FILE) | read_json(folder / CONFIG_FILE)
    names = {}
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            names[key] = value
    return names


class TemplateRenderer:
    """One template, rendered by one child process that is started when first needed."""

    def __init__(self, template: str, names: Mapping[str, str], where: Path) -> None:
        self._template, self._names, self._where = template, dict(names), where
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def render(self, renders: Sequence[tuple[Sequence[Mapping[str, str]], bool]]) -> list[str]:
        """The text of each (messages, add_generation_prompt).

        Raises:
            DataError: the template refuses the messages, fails, or goes beyond its limits.
        """
        asked = [{"messages": list(messages), "add_generation_prompt": more} for messages, more in renders]
        body = json.dumps({"template": self._template, "names": self._names, "renders": asked})
        with self._lock:
            line = self._exchange(body.encode() + b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise DataError(f"the chat template cannot render these messages: {answer['error']}", self._where)
        return [str(text) for text in answer["texts"]]

    def close(self) -> None:
        """Ends the child process."""
        child, self._child = self._child, None
        if child is not None:
            _end(child)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            script = Path(__file__).with_name("template_process.py")
            self._child = subprocess.Popen(
                [sys.executable, "-I", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,  # Ctrl-C in the terminal is the parent's to answer
            )
            weakref.finalize(self, _end, self._child)
        return self._child

    def _exchange(self, request: bytes) -> bytes:
        child = self._start()
        assert child.stdin is not None and child.stdout is not None
        sender = threading.Thread(target=_send, args=(child, request), daemon=True)
        sender.start()
        received, deadline = bytearray(), time.monotonic() + SECONDS
        while not received.endswith(b"\n"):
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([child.stdout], [], [], left)[0]
            if not ready or len(received) > _MAX_ANSWER:
                self.close()
                raise DataError(f"the chat template takes longer than {SECONDS:.0f} s", self._where)
            block = child.stdout.read(1 << 20)
            if not block:
                self.close()
                raise DataError("the chat template broke its process (memory or stack)", self._where)
            received += block
        sender.join()
        return bytes(received)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _send(child: subprocess.Popen[bytes], request: bytes) -> None:
    assert child.stdin is not None
    try:
        view = memoryview(request)
        while view:
            view = view[child.stdin.write(view) :]
    except (OSError, ValueError):
        return  # the reader sees the end of the child and says so
