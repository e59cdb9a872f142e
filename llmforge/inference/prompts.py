"""Prompts from a file, the built-in corpus or the command line, each with the place it came from; and their ids.

A row is `{"messages": [{"role": "user", "content": "..."}]}`, `{"prompt": "..."}` or `{"text": "..."}`; its `id` and
`answer` are handed on. Any other file holds one prompt a line. Loads no torch.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.corpus.files import format_of
from llmforge.corpus.rows import TABLES, is_built_in, read_rows
from llmforge.errors import DataError

if TYPE_CHECKING:
    from llmforge.tokenizer.tokenizer import Tokenizer

# A line longer than this is no prompt; the bound keeps memory small when a wrong file is given.
LONGEST_LINE = 16 << 20


@dataclass(frozen=True)
class Prompt:
    """What is asked: a text that the model goes on with, or (`messages`) the conversation that it answers.

    `answer` is the one that the row's author would give, if the row has one; `id` is the row's.
    """

    text: str
    where: str
    messages: tuple[dict[str, str], ...] | None = None
    id: str | None = None
    answer: str | None = None


def check_prompts_path(path: str) -> None:
    """Raises DataError when there is nothing at `path`; reads no row."""
    if not is_built_in(path) and not Path(path).expanduser().exists() and not any(sign in path for sign in "*?["):
        raise DataError("no such file", path, "give a file of lines or JSONL, or python-docs:questions")


def read_prompts(path: str, limit: int | None = None) -> list[Prompt]:
    """The first `limit` prompts (all when None) of a file, folder or pattern of rows, or of a file of lines.

    Raises:
        DataError: nothing there, or a row or line that is no prompt; the line names it.
    """
    check_prompts_path(path)
    found = islice(_rows(path) if _holds_rows(path) else _lines(path), limit)
    prompts = list(found)
    if not prompts:
        raise DataError("holds no prompt", path, "give a file of lines or JSONL, or python-docs:questions")
    return prompts


def plain_prompt(text: str, where: str) -> Prompt:
    """A prompt that is a text; raises DataError when it is empty or came from bytes that are not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError("the prompt holds bytes that are not UTF-8", where, "encode it in UTF-8") from error
    if not text.strip():
        raise DataError("the prompt is empty", where, "write at least one word")
    return Prompt(text, where)


def encode_prompt(prompt: Prompt, tokenizer: Tokenizer, as_chat: bool) -> list[int]:
    """The ids the model reads. Messages always go through the chat renderer, a text does when `as_chat`."""
    from llmforge.tokenizer.chat import render

    if prompt.messages is None and not as_chat:
        return tokenizer.encode_prompt(prompt.text)
    messages = [{"role": "user", "content": prompt.text}] if prompt.messages is None else list(prompt.messages)
    return render(tokenizer, messages, add_generation_prompt=True).ids


def _holds_rows(path: str) -> bool:
    place = Path(path).expanduser()
    return is_built_in(path) or not place.exists() or place.is_dir() or format_of(place) in TABLES


def _rows(path: str) -> Iterator[Prompt]:
    for row, where in read_rows(path):
        yield _from_row(row, where)


def _from_row(row: dict[str, object], where: str) -> Prompt:
    from llmforge.tokenizer.chat import check_messages

    id, answer = row.get("id"), row.get("answer")
    rest = {"id": str(id) if id is not None else None, "answer": answer if isinstance(answer, str) else None}
    if "messages" in row:
        messages = check_messages(row["messages"], where)
        if messages[-1]["role"] == "assistant":  # a whole conversation: its last answer is what we ask for
            rest["answer"] = rest["answer"] or messages[-1]["content"]
            messages = messages[:-1]
        if not messages or messages[-1]["role"] == "system":
            raise DataError("the messages hold no question", where, "end them with a user message")
        return Prompt(messages[-1]["content"], where, tuple(messages), **rest)
    for key in ("prompt", "text"):
        if isinstance(row.get(key), str):
            plain = plain_prompt(str(row[key]), where)
            return Prompt(plain.text, where, None, **rest)
    raise DataError("the row is no prompt", where, "it needs messages, prompt or text")


def _lines(path: str) -> Iterator[Prompt]:
    place = Path(path).expanduser()
    try:
        with place.open("rb") as stream:
            number = 0
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise DataError(f"the line is longer than {LONGEST_LINE >> 20} MiB", f"{path}:{number}")
                text = decode_line(line, f"{path}:{number}")
                if text.strip():
                    yield Prompt(text, f"{path}:{number}")
    except OSError as error:
        raise DataError(f"cannot read it: {error.strerror}", path) from error


def decode_line(line: bytes, where: str) -> str:
    """A line's text without its end and a byte order mark; raises DataError when it is not UTF-8."""
    try:
        return line.decode("utf-8").removeprefix("\ufeff").rstrip("\r\n")
    except UnicodeDecodeError as error:
        what = f"byte {error.start + 1} of the line is not UTF-8"
        raise DataError(what, where, "save the file as UTF-8") from error


def fingerprint_of_prompts(path: str) -> str:
    """A digest of what `read_prompts` would read: names, sizes and times of change, or the built-in corpus's own."""
    from llmforge.corpus.source_config import SourceConfig
    from llmforge.corpus.sources import source_fingerprint

    place = Path(path).expanduser()
    if not is_built_in(path) and place.is_file() and stat.S_ISREG(place.stat().st_mode):
        return source_fingerprint(SourceConfig.model_validate({"path": path, "format": "text"}))
    return source_fingerprint(SourceConfig.model_validate({"path": path}))
