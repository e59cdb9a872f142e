"""Rows of data files -> conversations: lists of messages that are known to be in order.

Three shapes of rows are read, told apart by their keys:

    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
    {"instruction": "Translate to French.", "input": "Good day", "output": "Bonjour"}     (alpaca; input may be absent)
    {"prompt": "What does len do?", "completion": "Return the number of items."}

`alpaca` and `prompt_completion` rows may carry a `system` text. Names of control symbols in a text stay text; that is
the renderer's matter. Knows no tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from llmforge.corpus.rows import read_rows
from llmforge.errors import DataError
from llmforge.finetune.settings import RowFormat
from llmforge.tokenizer.chat import Message, check_messages

_KEYS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, with at least one answer; `where` is file and row."""

    messages: list[Message]
    where: str

    @property
    def identity(self) -> str:
        """What the conversation says, as one text: equal conversations have equal identities."""
        return json.dumps(self.messages, ensure_ascii=True)


def read_conversations(path: str, format: RowFormat = "auto") -> Iterator[Conversation]:
    """The conversations of a file, folder, pattern or built-in name, in stable order.

    Raises:
        DataError: nothing there, or a row that is no conversation; the line names file and row.
    """
    empty = True
    for row, where in read_rows(path):
        empty = False
        yield conversation_of(row, where, format)
    if empty:
        raise DataError("holds no conversations", path, "give at least one row")


def conversation_of(row: dict[str, object], where: str, format: RowFormat = "auto") -> Conversation:
    """One row as a conversation; DataError when it is none."""
    chosen = _shape_of(row, where) if format == "auto" else format
    missing = [key for key in _KEYS[chosen] if key not in row]
    if missing:
        raise DataError(f"a {chosen} row without {' and '.join(missing)}", where, f"its keys are {_names(row)}")
    messages: object = row["messages"] if chosen == "messages" else _two_turns(row, where, chosen)
    return Conversation(check_messages(messages, where, training=True), where)


def _shape_of(row: dict[str, object], where: str) -> str:
    for name, keys in _KEYS.items():
        if all(key in row for key in keys):
            return name
    shapes = "messages, or instruction and output, or prompt and completion"
    raise DataError(f"the row is no conversation: its keys are {_names(row)}", where, f"it needs {shapes}")


def _two_turns(row: dict[str, object], where: str, format: str) -> list[dict[str, str]]:
    question, answer = _KEYS[format]
    asked, more = _text(row, question, where), _text(row, "input", where) if format == "alpaca" else ""
    if not asked.strip():
        raise DataError(f"{question} is empty", where, "write a question or drop the row")
    messages = [
        {"role": "user", "content": f"{asked}\n\n{more}" if more.strip() else asked},
        {"role": "assistant", "content": _text(row, answer, where)},
    ]
    system = _text(row, "system", where)
    return [{"role": "system", "content": system}, *messages] if system.strip() else messages


def _text(row: dict[str, object], key: str, where: str) -> str:
    value = row.get(key)
    if value is None and key in ("input", "system"):
        return ""
    if not isinstance(value, str):
        raise DataError(f"{key} is {type(value).__name__}, not text", where)
    return value


def _names(row: dict[str, object]) -> str:
    shown = ", ".join(sorted(map(str, row))[:8])
    return shown or "none"
