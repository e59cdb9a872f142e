"""One answer in the making: takes ids one by one, gives the text that can be shown, and knows when and why it ended.

Knows no model: what chose the ids is not its matter.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmforge.errors import DataError
from llmforge.inference.settings import SamplingSettings
from llmforge.inference.stop import StopStrings

if TYPE_CHECKING:
    from llmforge.tokenizer.tokenizer import Tokenizer

FinishReason = Literal["stop", "length", "context"]


@dataclass(frozen=True)
class Sample:
    """A finished answer.

    `ids` are all ids that the model gave, with the end token when it gave one; `text` is what they say up to the end
    token or stop string. `finish_reason`: "stop" the model ended or a stop string came, "length" max_new_tokens was
    reached, "context" the model's context is full. `seconds` from the start of its prompt's processing to its end.
    """

    prompt_ids: list[int]
    ids: list[int]
    text: str
    finish_reason: FinishReason
    seconds: float


def check_prompt(prompt: Sequence[int], context: int, vocab_size: int, where: str | None = None) -> None:
    """Raises DataError for a prompt that the model cannot answer: empty, beyond the context, or with foreign ids."""
    if not prompt:
        raise DataError("the prompt is empty", where, "write at least one word")
    if len(prompt) >= context:
        room = f"the prompt has {len(prompt):,} tokens, the model's context holds {context:,} with the answer"
        raise DataError(room, where, "shorten the prompt")
    if min(prompt) < 0 or max(prompt) >= vocab_size:
        worst = max(prompt) if max(prompt) >= vocab_size else min(prompt)
        text = f"the prompt has token id {worst:,}, the model's vocabulary has {vocab_size:,}"
        raise DataError(text, where, "use the tokenizer that the model was trained with")


class Answer:
    """Grows by `take`; `finish_reason` is None until it ends."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        settings: SamplingSettings,
        stop_ids: Iterable[int],
        room: int,
    ) -> None:
        assert room > 0, "check_prompt lets no prompt through that leaves no room"
        self.prompt = list(prompt)
        self.ids: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.limit = min(settings.max_new_tokens, room)
        self._at_limit: FinishReason = "length" if settings.max_new_tokens <= room else "context"
        self._stop_ids = frozenset(stop_ids)
        self._stops = StopStrings(settings.stop)
        self._stream = tokenizer.stream()
        self._pieces: list[str] = []
        self._start: float | None = None
        self._seconds = 0.0

    def begin(self) -> None:
        """Starts its clock, when its prompt's turn comes."""
        self._start = time.perf_counter()

    def take(self, token: int) -> str:
        """Adds an id; gives the text that is now certain, which is often empty."""
        assert self.finish_reason is None, "the answer has ended"
        self.ids.append(token)
        ended = token in self._stop_ids
        piece = "" if ended else self._stops.push(self._stream.push(token))
        if self._stops.hit is None and (ended or len(self.ids) == self.limit):
            piece += self._stops.push(self._stream.finish())
            if self._stops.hit is None:
                piece += self._stops.finish()
            self.finish_reason = "stop" if ended else self._at_limit
        if self._stops.hit is not None:
            self.finish_reason = "stop"
        if self.finish_reason is not None and self._start is not None:
            self._seconds = time.perf_counter() - self._start
        self._pieces.append(piece)
        return piece

    def sample(self) -> Sample:
        """The finished answer."""
        assert self.finish_reason is not None, "the answer has not ended"
        return Sample(self.prompt, self.ids, "".join(self._pieces), self.finish_reason, self._seconds)
