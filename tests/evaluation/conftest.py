"""A byte tokenizer, tiny models with random weights, and a model that gives every id the same probability."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from llmforge.evaluation.task import Examinee
from llmforge.model.config import ModelConfig
from llmforge.model.kv_cache import KVCache
from llmforge.model.transformer import Transformer
from llmforge.tokenizer.chat_formats import FORMATS
from llmforge.tokenizer.special_tokens import IDS

FIRST_BYTE = 9
VOCAB_SIZE = FIRST_BYTE + 256
EOS, END = 2, 8


class ByteStream:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return "" if token < FIRST_BYTE else self._decoder.decode(bytes([token - FIRST_BYTE]))

    def finish(self) -> str:
        return self._decoder.decode(b"", True)


class ByteTokenizer:
    """One id a byte, behind the nine control ids of our own vocabularies."""

    foreign = None
    form = FORMATS["own"]
    special_ids = IDS
    vocab_size = VOCAB_SIZE
    bos_id, eos_id, pad_id = 1, EOS, 3
    stop_ids = frozenset({EOS, END})

    def encode(self, text: str) -> list[int]:
        return [byte + FIRST_BYTE for byte in text.encode()]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def stream(self) -> ByteStream:
        return ByteStream()


def tiny_config(context: int, window: int | None = None) -> ModelConfig:
    return ModelConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        intermediate_size=32,
        max_position_embeddings=context,
        sliding_window=window,
    )


class UniformModel(nn.Module):
    """Finds every id equally likely, whatever came before; fails on rows beyond its context."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.config, self.compute_dtype = tiny_config(context), torch.float32
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: Tensor, cache: KVCache | None = None) -> Tensor:
        assert input_ids.shape[1] <= self.config.max_position_embeddings
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return torch.zeros(*input_ids.shape, 1)

    def head(self, hidden: Tensor) -> Tensor:
        return torch.zeros(*hidden.shape[:-1], VOCAB_SIZE)


class ToldModel(nn.Module):
    """Answers every prompt of a table with its text and the end token; reads the ids back from the cache."""

    def __init__(self, answers: dict[str, str], context: int) -> None:
        super().__init__()
        encode = ByteTokenizer().encode
        self.answers = [(encode(asked), [*encode(said), END]) for asked, said in answers.items()]
        self.config, self.compute_dtype = tiny_config(context), torch.float32
        self.weight = nn.Parameter(torch.zeros(1))

    def _next(self, ids: list[int]) -> int:
        for asked, said in self.answers:
            for start in range(len(ids) - len(asked), -1, -1):
                if ids[start : start + len(asked)] == asked:
                    after = [token for token in ids[start + len(asked) :] if token >= FIRST_BYTE]
                    if after == said[: len(after)] and len(after) < len(said):
                        return said[len(after)]
        return EOS

    def forward(self, input_ids: Tensor, *, cache: KVCache) -> Tensor:
        rows, count = input_ids.shape
        before = list(cache.lengths)
        kept = input_ids[:, None, :, None].expand(rows, 2, count, 4).float()
        keys, _ = cache.write(0, kept, kept)
        cache.advance(count)
        hidden = torch.zeros(rows, count, 1)
        for row in range(rows):
            ids = [int(value) for value in keys[row, 0, : before[row] + count, 0]]
            for column in range(count):
                hidden[row, column] = self._next(ids[: before[row] + column + 1])
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        return nn.functional.one_hot(hidden[..., 0].long(), VOCAB_SIZE).float() * 10


@pytest.fixture(scope="session")
def random_model() -> Callable[..., Transformer]:
    """`random_model(context=64)`: two layers, width 16, fp32; every call gives the same weights."""

    def make(context: int = 64, window: int | None = None) -> Transformer:
        model = Transformer(tiny_config(context, window))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return model.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def examinee() -> Callable[..., Examinee]:
    """`examinee(model, as_chat=False, row_tokens=256)`."""

    def make(model: nn.Module, as_chat: bool = False, row_tokens: int = 256) -> Examinee:
        return Examinee(model, ByteTokenizer(), frozenset({EOS, END}), as_chat, row_tokens)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def uniform_model() -> Callable[[int], UniformModel]:
    return UniformModel


@pytest.fixture(scope="session")
def told_model() -> Callable[..., ToldModel]:
    return lambda answers, context=128: ToldModel(answers, context)


def naive_logprob(model: Transformer, context: list[int], continuation: list[int]) -> float:
    """Sum of log p of a continuation, one forward pass a token, no cache, no padding."""
    total = 0.0
    ids = list(context)
    for token in continuation:
        with torch.no_grad():
            logits = model.head(model(torch.tensor([ids])))[0, -1].double()
        total += float(torch.log_softmax(logits, dim=0)[token])
        ids.append(token)
    return total


@pytest.fixture(scope="session")
def naive() -> Callable[[Transformer, list[int], list[int]], float]:
    return naive_logprob
