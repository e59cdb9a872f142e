"""Answers to prompts, many at once: prefill, then one token a step for every row, with keys and values kept.

Rows have their own lengths, stop on their own, and give their place to the next prompt in the queue, so the batch stays
full until the queue is empty. Each row draws from its own generator: its answer does not depend on the other rows (up
to the rounding of matrix products, which may differ with the number of rows). Knows no files and no terminal.

Legend: B rows, T tokens, C channels, V vocabulary, K key/value heads, S slots, D head size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from llmforge.inference.answer import Answer, Sample, check_prompt
from llmforge.inference.sampler import choose, generator_for
from llmforge.inference.settings import SamplingSettings
from llmforge.model.config import ModelConfig
from llmforge.model.kv_cache import KVCache

if TYPE_CHECKING:
    from llmforge.tokenizer.tokenizer import Tokenizer

# A step costs little more for 32 rows than for one until the products are bound by arithmetic instead of memory.
MOST_ROWS = 32
_CACHE_BYTES = 1 << 30
# Tokens of one prefill pass, so that long prompts do not need memory for all their rows times all their tokens.
_PREFILL_TOKENS = 8192


class LanguageModel(Protocol):
    """What generation needs of a model; `llmforge.model.transformer.Transformer` is one."""

    config: ModelConfig
    compute_dtype: torch.dtype
    training: bool

    def __call__(self, input_ids: Tensor, *, cache: KVCache) -> Tensor: ...

    def head(self, hidden: Tensor) -> Tensor: ...

    def train(self, mode: bool = True) -> Any: ...

    def parameters(self) -> Iterator[Any]: ...


class _Rows:
    """The answers that are being written now, their cache and the ids that were chosen last."""

    def __init__(
        self, model: LanguageModel, vocab_size: int, settings: SamplingSettings, size: tuple[int, int]
    ) -> None:
        rows, slots = size
        self.model, self.settings = model, settings
        self.vocab_size = min(vocab_size, model.config.vocab_size)
        self.device = next(model.parameters()).device
        self.answers: list[Answer | None] = [None] * rows
        self.generators = [torch.Generator()] * rows
        self.cache = KVCache(model.config, rows, slots, dtype=model.compute_dtype, device=self.device)
        self.last = torch.zeros(rows, dtype=torch.int64, device=self.device)
        self.seen: Tensor | None = None
        if settings.repetition_penalty != 1.0:
            self.seen = torch.zeros(rows, self.vocab_size, dtype=torch.bool, device=self.device)

    @torch.inference_mode()
    def admit(
        self, places: Sequence[int], answers: Sequence[tuple[Answer, torch.Generator]]
    ) -> list[tuple[Answer, str]]:
        """Reads the prompts of new answers into free places; gives each its first token's text."""
        for answer, _ in answers:
            answer.begin()
        prompts = list({tuple(answer.prompt): None for answer, _ in answers})
        cache, logits = self._prefill(prompts)
        source = [prompts.index(tuple(answer.prompt)) for answer, _ in answers]
        for place, row, (answer, generator) in zip(places, source, answers, strict=True):
            length = len(answer.prompt)
            for ours, theirs in zip(self.cache.keys + self.cache.values, cache.keys + cache.values, strict=True):
                ours[place, :, :length] = theirs[row, :, :length]
            self.cache.lengths[place] = length
            self.answers[place], self.generators[place] = answer, generator
            if self.seen is not None:
                self.seen[place] = False
                self.seen[place, torch.tensor(answer.prompt, device=self.device)] = True
        return self._take(list(places), logits[source])

    @torch.inference_mode()
    def step(self) -> list[tuple[Answer, str]]:
        """One more token for every row."""
        hidden = self.model(self.last[:, None], cache=self.cache)  # (B, 1, C)
        logits = self.model.head(hidden[:, -1])[:, : self.vocab_size]  # (B, V)
        return self._take(list(range(len(self.answers))), logits)

    @torch.inference_mode()
    def keep(self, places: list[int]) -> None:
        """Goes on with these rows only."""
        self.cache.select(places)
        self.answers = [self.answers[place] for place in places]
        self.generators = [self.generators[place] for place in places]
        self.last = self.last[places]
        self.seen = None if self.seen is None else self.seen[places]

    def _prefill(self, prompts: list[tuple[int, ...]]) -> tuple[KVCache, Tensor]:
        """Prompts of any lengths -> their keys and values, and the logits (B, V) behind each prompt's last token."""
        lengths = [len(prompt) for prompt in prompts]
        longest = max(lengths)
        padded = torch.zeros(len(prompts), longest, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            padded[row, : len(prompt)] = torch.tensor(prompt)
        cache = KVCache(self.model.config, len(prompts), longest, dtype=self.model.compute_dtype, device=self.device)
        last: list[Tensor | None] = [None] * len(prompts)
        width = max(1, _PREFILL_TOKENS // len(prompts))
        for start in range(0, longest, width):
            hidden = self.model(padded[:, start : start + width].to(self.device), cache=cache)  # (B, T, C)
            for row, length in enumerate(lengths):
                if start < length <= start + width:
                    last[row] = hidden[row, length - 1 - start]
        cache.set_lengths(lengths)
        logits = self.model.head(torch.stack([row for row in last if row is not None]))
        return cache, logits[:, : self.vocab_size]

    def _take(self, places: list[int], logits: Tensor) -> list[tuple[Answer, str]]:
        """Chooses the next id of these rows and hands it to their answers."""
        seen = None if self.seen is None else self.seen[places]
        chosen = choose(logits, seen, self.settings, [self.generators[place] for place in places])
        self.last[places] = chosen.to(self.device)
        if self.seen is not None:
            self.seen[places, chosen] = True
        pieces = []
        for place, token in zip(places, chosen.tolist(), strict=True):
            answer = self.answers[place]
            assert answer is not None, "only places with an answer are stepped"
            pieces.append((answer, answer.take(token)))
        return pieces


def _write(
    model: LanguageModel, vocab_size: int, settings: SamplingSettings, queue: deque[tuple[Answer, torch.Generator]]
) -> Iterator[list[tuple[Answer, str]]]:
    """Writes all answers of the queue; gives after each step which answers grew by what text."""
    slots = max(len(answer.prompt) + answer.limit for answer, _ in queue)
    rows = _Rows(model, vocab_size, settings, (_row_count(model, slots, len(queue)), slots))
    was_training = model.training
    model.train(False)
    try:
        while True:
            free = [place for place, answer in enumerate(rows.answers) if answer is None or answer.finish_reason]
            if free and queue:
                places = free[: len(queue)]
                yield rows.admit(places, [queue.popleft() for _ in places])
                continue
            if len(free) == len(rows.answers):
                return
            if free:
                rows.keep([place for place in range(len(rows.answers)) if place not in set(free)])
            yield rows.step()
    finally:
        model.train(was_training)


def _row_count(model: LanguageModel, slots: int, wanted: int) -> int:
    config = model.config
    width = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    bytes_per_row = slots * width * torch.finfo(model.compute_dtype).bits // 8
    return max(1, min(wanted, MOST_ROWS, _CACHE_BYTES // bytes_per_row))


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    *,
    stop_ids: Iterable[int] | None = None,
    on_step: Callable[[int, list[tuple[int, Sample]]], None] | None = None,
) -> list[Sample]:
    """`num_samples` answers to each prompt, in the prompts' order.

    `stop_ids` are the tokenizer's unless given; `on_step(tokens, ended)` hears after each step how many tokens came and
    which answers ended, each with its place in what will be returned; it may raise to stop.

    Raises:
        DataError: a prompt is empty or does not fit the context, or the model gives NaN.
    """
    stops = frozenset(tokenizer.stop_ids if stop_ids is None else stop_ids)
    context, vocab_size = model.config.max_position_embeddings, model.config.vocab_size
    answers: list[Answer] = []
    queue: deque[tuple[Answer, torch.Generator]] = deque()
    for index, prompt in enumerate(prompts):
        check_prompt(prompt, context, vocab_size, f"prompt {index + 1}")
        for number in range(settings.num_samples):
            answers.append(Answer(tokenizer, prompt, settings, stops, context - len(prompt)))
            queue.append((answers[-1], generator_for(settings.seed, prompt, number)))
    places = {id(answer): place for place, answer in enumerate(answers)}
    if queue:
        for grown in _write(model, tokenizer.vocab_size, settings, queue):
            if on_step is not None:
                ended = [answer for answer, _ in grown if answer.finish_reason is not None]
                on_step(len(grown), [(places[id(answer)], answer.sample()) for answer in ended])
    return [answer.sample() for answer in answers]


class Stream:
    """One answer as it is written: iterate it once for its text, token by token; `sample` is there when it ended.

    A piece is often empty: while a character is not whole, or while the text could become a stop string.
    """

    def __init__(self, model: LanguageModel, vocab_size: int, settings: SamplingSettings, answer: Answer) -> None:
        self.sample: Sample | None = None
        self._answer = answer
        queue = deque([(answer, generator_for(settings.seed, answer.prompt, 0))])
        self._steps = _write(model, vocab_size, settings, queue)

    def __iter__(self) -> Iterator[str]:
        for grown in self._steps:
            yield from (piece for _, piece in grown)
        self.sample = self._answer.sample()


def stream(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    settings: SamplingSettings,
    stop_ids: Iterable[int] | None = None,
) -> Stream:
    """The first answer that `generate` would give to this prompt, in pieces that never show half a character.

    Raises:
        DataError: as `generate`.
    """
    context = model.config.max_position_embeddings
    check_prompt(prompt, context, model.config.vocab_size)
    stops = frozenset(tokenizer.stop_ids if stop_ids is None else stop_ids)
    answer = Answer(tokenizer, prompt, settings, stops, context - len(prompt))
    return Stream(model, tokenizer.vocab_size, settings, answer)
