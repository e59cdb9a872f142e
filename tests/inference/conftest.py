"""A byte tokenizer and a model that says what it is told, so that the engine is tested without anything trained.

The told model remembers nothing itself: it reads the row's ids back from the key-value cache that the engine hands it,
so a wrong row, slot or length gives a wrong answer.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from llmforge.model.config import ModelConfig
from llmforge.model.kv_cache import KVCache

FIRST_BYTE = 9
VOCAB_SIZE = FIRST_BYTE + 256
EOS, END_OF_TURN = 2, 8


class ByteStream:
    """Bytes in, whole characters out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return "" if token < FIRST_BYTE else self._decoder.decode(bytes([token - FIRST_BYTE]))

    def finish(self) -> str:
        return self._decoder.decode(b"", True)


class ByteTokenizer:
    """One id a byte, behind nine control ids."""

    vocab_size = VOCAB_SIZE
    bos_id, eos_id, pad_id = 1, EOS, 3
    stop_ids = frozenset({EOS, END_OF_TURN})

    def encode(self, text: str) -> list[int]:
        return [byte + FIRST_BYTE for byte in text.encode()]

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        return bytes(token - FIRST_BYTE for token in ids if token >= FIRST_BYTE).decode(errors="replace")

    def stream(self) -> ByteStream:
        return ByteStream()


class ToldModel(nn.Module):
    """Gives id `tell(ids so far)` the highest logit."""

    def __init__(self, tell: Callable[[list[int]], int], context: int = 64) -> None:
        super().__init__()
        self.tell = tell
        self.compute_dtype = torch.float32
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[tuple[int, int]] = []
        self.config = ModelConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=2,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=2,
            intermediate_size=2,
            max_position_embeddings=context,
        )

    def forward(self, input_ids: Tensor, *, cache: KVCache) -> Tensor:
        rows, count = input_ids.shape
        self.calls.append((rows, count))
        before = list(cache.lengths)
        kept = input_ids[:, None, :, None].expand(rows, 1, count, 2).float()
        keys, _ = cache.write(0, kept, kept)
        cache.advance(count)
        hidden = torch.zeros(rows, count, 1)
        for row in range(rows):
            ids = [int(value) for value in keys[row, 0, : before[row] + count, 0]]
            for column in range(count):
                hidden[row, column] = self.tell(ids[: before[row] + column + 1])
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        return nn.functional.one_hot(hidden[..., 0].long(), VOCAB_SIZE).float() * 10


def scripted(answers: dict[str, list[int]]) -> Callable[[list[int]], int]:
    """A `tell` that gives after each prompt its answer, id by id."""
    scripts = [(ByteTokenizer().encode(prompt), ids) for prompt, ids in answers.items()]

    def tell(ids: list[int]) -> int:
        for prompt, answer in scripts:
            said = ids[len(prompt) :]
            if ids[: len(prompt)] == prompt and said == answer[: len(said)] and len(said) < len(answer):
                return answer[len(said)]
        return 0

    return tell


@pytest.fixture
def byte_tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture
def told_model() -> Callable[..., ToldModel]:
    """`told_model({"prompt": "answer" or ids}, context=64)`; an answer's text is followed by the end token."""

    def make(answers: dict[str, str | list[int]], context: int = 64) -> ToldModel:
        encode = ByteTokenizer().encode
        ids = {prompt: [*encode(said), EOS] if isinstance(said, str) else said for prompt, said in answers.items()}
        return ToldModel(scripted(ids), context)

    return make
