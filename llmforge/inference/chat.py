"""A conversation with a model: what was said, what of it still fits the context, and the next answer in pieces.

Makes of messages prompts (through the one chat renderer) and of answers messages. Knows no terminal and no commands.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from pathlib import Path

from llmforge.errors import DataError, UsageError
from llmforge.inference.answer import Sample
from llmforge.inference.generate import LanguageModel, stream
from llmforge.inference.settings import SamplingSettings
from llmforge.runtime.files import write_atomic
from llmforge.tokenizer.chat import render
from llmforge.tokenizer.tokenizer import Tokenizer

Message = dict[str, str]

# Of the context, so much at least is kept free for the answer (when max_new_tokens wants that much).
_ANSWER_SHARE = 0.25


class Reply:
    """An answer while it is being given, by `pieces`.

    `forgotten` turns were left out of the prompt because the context was full; `sample` is there when it ended.
    """

    def __init__(self, conversation: Conversation, question: str, prompt: list[int], forgotten: int) -> None:
        self.forgotten = forgotten
        self.sample: Sample | None = None
        self._conversation, self._question, self._prompt = conversation, question, prompt

    def pieces(self) -> Generator[str, None, None]:
        """The answer token by token (a piece may be empty); closing it early keeps what was said until then."""
        talk = self._conversation
        pieces = stream(talk.model, talk.tokenizer, self._prompt, talk.settings, talk.stop_ids)
        said: list[str] = []
        try:
            for piece in pieces:
                said.append(piece)
                yield piece
            self.sample = pieces.sample
        finally:
            talk.record(self._question, "".join(said))


class Conversation:
    """The messages so far and the model that answers.

    `turns` are those that the model still sees (user, assistant, user, assistant ...), `transcript` all of them.
    The system message always stands at the beginning, also one that was set later.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        settings: SamplingSettings,
        *,
        system: str | None = None,
        stop_ids: Iterable[int] | None = None,
    ) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.stop_ids = frozenset(tokenizer.stop_ids if stop_ids is None else stop_ids)
        self.system = system or None
        self.turns: list[Message] = []
        self._said: list[Message] = []

    @property
    def transcript(self) -> list[Message]:
        """The system message and all turns since the beginning or the last reset."""
        return [*self._head, *self._said]

    def reset(self) -> None:
        """Forgets what was said; the system message stays."""
        self.turns, self._said = [], []

    def set_system(self, text: str) -> None:
        """Sets the system message from the next answer on; an empty text removes it."""
        self.system = text.strip() or None

    def ask(self, question: str) -> Reply:
        """The next answer. Of the oldest turns as many are forgotten as do not fit beside the question and an answer.

        Raises:
            DataError: the question (with the system message) does not fit even alone; the conversation is unchanged.
        """
        context = self.model.config.max_position_embeddings
        free = max(1, min(self.settings.max_new_tokens, int(context * _ANSWER_SHARE)))
        prompt = self._render(self.turns, question)
        forgotten = 0
        while len(prompt) + free > context and 2 * forgotten < len(self.turns):
            forgotten += 1
            prompt = self._render(self.turns[2 * forgotten :], question)
        if len(prompt) + free > context:
            what = f"the message has {len(prompt):,} tokens, the model's context holds {context:,} with the answer"
            raise DataError(what, hint="write a shorter one")
        self.turns = self.turns[2 * forgotten :]
        return Reply(self, question, prompt, forgotten)

    def record(self, question: str, answer: str) -> None:
        """Adds a turn; one that was stopped before its first word leaves no trace."""
        if answer:
            turn = [_message("user", question), _message("assistant", answer)]
            self.turns += turn
            self._said += turn

    def save(self, path: Path) -> None:
        """Writes the transcript as one JSONL row with `messages`, which `finetune` reads.

        Raises:
            UsageError: nothing was said, the file exists, or the place cannot be written.
        """
        if not self._said:
            raise UsageError("there is nothing to save yet")
        if path.exists():
            raise UsageError("this file exists", path, "choose another name")
        write_atomic(path, json.dumps({"messages": self.transcript}, ensure_ascii=False) + "\n")

    @property
    def _head(self) -> list[Message]:
        return [] if self.system is None else [_message("system", self.system)]

    def _render(self, turns: list[Message], question: str) -> list[int]:
        messages = [*self._head, *turns, _message("user", question)]
        return render(self.tokenizer, messages, add_generation_prompt=True).ids


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
