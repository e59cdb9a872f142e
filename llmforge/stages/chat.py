"""`llmforge chat`: a conversation in the terminal, or one message a line through a pipe."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pydantic import Field

from llmforge.config.schema import Config
from llmforge.errors import LlmforgeError
from llmforge.inference.settings import Device, Precision, SamplingSettings
from llmforge.inference.terminal import show
from llmforge.runtime.console import Console

if TYPE_CHECKING:
    from llmforge.inference.chat import Conversation

HELP = """/reset         forget what was said
/save FILE     write the conversation as JSONL with messages (finetune reads it)
/system TEXT   set the system message; without TEXT remove it
/help          this list
/exit          leave (also Ctrl-D, or Ctrl-C twice)
//TEXT         a message that begins with a slash
Ctrl-C stops an answer."""
_PROMPT = "> "


class ChatConfig(Config):
    """Who is talked to, and how it draws its words."""

    model: str = Field(min_length=1, description="a model folder, a run folder, or a Hugging Face folder")
    system: str | None = Field(default=None, description="the system message")
    sampling: SamplingSettings = SamplingSettings(max_new_tokens=512)
    precision: Precision = Field(default="auto", description="of the arithmetic; auto: what is faster on this machine")
    device: Device = Field(default="auto", description="auto: cuda, then mps, then cpu")


def run(config: ChatConfig, console: Console) -> dict[str, object]:
    """Talks until /exit, the end of the input, or Ctrl-C twice; returns the messages and the tokens written."""
    from llmforge.inference.chat import Conversation
    from llmforge.inference.loading import open_model
    from llmforge.inference.prompts import plain_prompt

    if config.system is not None:
        plain_prompt(config.system, "system")
    loaded = open_model(config.model, config.precision, config.device)
    if not loaded.converses:
        console.warn("this model was not fine-tuned on conversations: it goes on with a text rather than answers")
    conversation = Conversation(
        loaded.model, loaded.tokenizer, config.sampling, system=config.system, stop_ids=loaded.stop_ids
    )
    talk = _Talk(conversation, console)
    if talk.interactive:
        console.say(f"{loaded.folder}: /help lists the commands, Ctrl-D leaves")
    for line in talk.lines():
        if not talk.heed(line):
            break
    return {"messages": conversation.transcript, "tokens": talk.tokens}


def preview(config: ChatConfig) -> dict[str, object]:
    """What would be read; raises when there is no model."""
    from llmforge.checkpoint.model_folder import find_model, read_model_config

    folder = find_model(config.model)
    return {"reads": [str(folder)], "writes": [], "parameters": read_model_config(folder).num_parameters}


def inputs_fingerprint(config: ChatConfig) -> dict[str, str]:
    """The digest of the model folder."""
    from llmforge.inference.loading import fingerprint_of_model

    return {"model": fingerprint_of_model(config.model)}


class _Talk:
    """The terminal side: lines in, commands obeyed, answers out."""

    def __init__(self, conversation: Conversation, console: Console) -> None:
        self.conversation, self.console = conversation, console
        self.interactive = sys.stdin.isatty()
        self.tokens = 0

    def lines(self) -> Iterator[str]:
        """What the person writes; ends at the end of the input or at a second Ctrl-C in a row."""
        if not self.interactive:
            yield from self._piped()
            return
        self._ready_line_editing()
        broken = False
        while True:
            try:
                line = input(_PROMPT)
            except EOFError:
                self._show("\n")
                return
            except KeyboardInterrupt:
                self._show("\n")
                if broken:
                    return
                broken = True
                self.console.say("Ctrl-C again, Ctrl-D or /exit leaves")
                continue
            broken = False
            yield line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def heed(self, line: str) -> bool:
        """Obeys a command or has a message answered; False when the person leaves."""
        text = line.strip()
        if not text:
            return True
        try:
            if text.startswith("/") and not text.startswith("//"):
                return self._command(text)
            self._answer(text.removeprefix("/") if text.startswith("//") else text)
        except LlmforgeError as error:
            if not self.interactive:
                raise
            self.console.warn(str(error))
        return True

    def _command(self, text: str) -> bool:
        name, _, rest = text.partition(" ")
        rest = rest.strip()
        if name in ("/exit", "/quit"):
            return False
        if name == "/reset":
            self.conversation.reset()
            self.console.say("forgotten")
        elif name == "/system":
            self.conversation.set_system(rest)
            self.console.say("system message set" if rest else "system message removed")
        elif name == "/save" and rest:
            self.conversation.save(Path(rest).expanduser())
            self.console.say(f"saved to {rest}")
        elif name == "/help":
            self.console.say(HELP)
        else:
            missing = "/save needs a file name" if name == "/save" else f"there is no command {name}"
            self.console.warn(f"{missing}; /help lists the commands")
        return True

    def _answer(self, question: str) -> None:
        reply = self.conversation.ask(question)
        if reply.forgotten:
            turns = "turn" if reply.forgotten == 1 else f"{reply.forgotten} turns"
            self.console.say(f"(the context is full: the oldest {turns} forgotten)")
        pieces = reply.pieces()
        with _interruption() as interrupted:
            for piece in pieces:
                self.tokens += 1
                self._show(piece)
                if interrupted:
                    break
        pieces.close()
        self._show("\n")
        if reply.sample is None:
            self.console.say("(stopped)")
        elif reply.sample.finish_reason != "stop":
            why = "max_new_tokens" if reply.sample.finish_reason == "length" else "the context"
            self.console.say(f"(cut off: {why} is used up)")
        else:
            speed = len(reply.sample.ids) / max(reply.sample.seconds, 1e-9)
            self.console.detail(f"({len(reply.sample.ids)} tokens, {speed:,.0f} tokens/s)")

    def _show(self, text: str) -> None:
        if text and not self.console.json:
            show(text)

    def _piped(self) -> Iterator[str]:
        from llmforge.inference.prompts import decode_line

        for number, line in enumerate(iter(sys.stdin.buffer.readline, b""), start=1):
            yield decode_line(line, f"stdin:{number}")

    def _ready_line_editing(self) -> None:
        try:
            import readline  # noqa: F401  (its import gives input() editing and a history)
        except ImportError:
            self.console.detail("no line editing: Python was built without readline")


@contextmanager
def _interruption() -> Iterator[list[int]]:
    """Collects SIGINT in a list while an answer is written, instead of an exception in the middle of a step."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    if threading.current_thread() is not threading.main_thread():  # signals never reach another one
        yield heard
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)
