"""What a task is, and who takes it.

A `Task` is built from its settings, reads its items (so that bad rows show before a model is loaded) and scores an
`Examinee`. A new task is a class with this shape, its settings class and one case in stages/evaluate.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

from llmforge.errors import DataError, UsageError

if TYPE_CHECKING:
    from llmforge.model.transformer import Transformer
    from llmforge.tokenizer.tokenizer import Tokenizer

T = TypeVar("T")
OnDone = Callable[[int], None]


@dataclass(frozen=True)
class Examinee:
    """A model with what is needed to ask it; `row_tokens` bounds the tokens that one forward pass holds."""

    model: Transformer
    tokenizer: Tokenizer
    stop_ids: frozenset[int]
    as_chat: bool
    row_tokens: int

    @property
    def context(self) -> int:
        """Tokens that the model can hold in a row."""
        return self.model.config.max_position_embeddings

    @property
    def start_id(self) -> int:
        """What stands before a text: the bos token, or the eos token in a vocabulary without one."""
        for number in (self.tokenizer.bos_id, self.tokenizer.eos_id):
            if number is not None:
                return number
        hint = "use another tokenizer"
        raise DataError("the tokenizer has neither a bos nor an eos token to begin a text with", hint=hint)


@dataclass(frozen=True)
class Score:
    """`metrics` for the summary and the JSON; `records` has one object for each item, for samples.jsonl."""

    metrics: dict[str, object]
    records: list[dict[str, object]] = field(default_factory=list)


class Task(Protocol):
    """One way to judge a model."""

    name: str

    @property
    def size(self) -> int:
        """How many items there are."""

    def score(self, examinee: Examinee, on_done: OnDone) -> Score:
        """Asks everything; `on_done(n)` hears of n more items that are through."""


def sampled(items: Iterable[T], limit: int | None, seed: int, where: str) -> list[T]:
    """All items, or a random sample of `limit` in their order; the same seed takes the same ones.

    Raises:
        DataError: there is none.
    """
    kept: list[tuple[int, T]] = []
    draw = Random(seed)
    for number, item in enumerate(items):
        if limit is None or number < limit:
            kept.append((number, item))
        elif (place := draw.randrange(number + 1)) < limit:
            kept[place] = (number, item)
    if not kept:
        raise DataError("holds no items", where, "give at least one row")
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


def shots_for(number: int, pool: Sequence[T], count: int, seed: int, where: str) -> list[T]:
    """`count` other items of the pool for item `number`, drawn by seed and number.

    Raises:
        UsageError: the pool has too few.
    """
    if count > len(pool) - 1:
        what = f"num_fewshot is {count}, but there are only {len(pool) - 1} other items"
        raise UsageError(what, where, "lower num_fewshot")
    draw = Random(f"{seed}/{number}")
    found = draw.sample(range(len(pool) - 1), count)
    return [pool[place + (place >= number)] for place in found]


def fitted(context: list[int], room: int, where: str, shots: int, keep: int = 1) -> tuple[list[int], bool]:
    """A context cut on the left (behind its first `keep` tokens) to at most `room`, and whether it was cut.

    Raises:
        DataError: solved examples stand in front, which must not be cut, or nothing of the context would be left.
    """
    if len(context) <= room:
        return context, False
    if shots:
        what = f"with {shots} solved examples the item needs {len(context):,} tokens, there is room for {room:,}"
        raise DataError(what, where, "lower num_fewshot")
    if room <= keep:
        raise DataError("the answer alone fills the model's context", where, "shorten it or drop the row")
    return context[:keep] + context[len(context) - (room - keep) :], True
