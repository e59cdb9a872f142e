"""The history of a conversation: what is remembered, forgotten, saved; on a real renderer and a model that is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmforge.errors import DataError, UsageError
from llmforge.inference.chat import Conversation
from llmforge.inference.settings import SamplingSettings
from llmforge.model.config import ModelConfig
from llmforge.model.kv_cache import KVCache
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokenizer.train import train_tokenizer

END = 8
Make = Callable[..., Conversation]


class Echo(nn.Module):
    """Says one fixed answer, then the end token; remembers the prompts that it was given."""

    def __init__(self, answer: list[int], config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config, self.compute_dtype = config, torch.float32
        self.answer, self.said = [*answer, END], 0
        self.prompts: list[list[int]] = []

    def forward(self, input_ids: Tensor, *, cache: KVCache) -> Tensor:
        cache.advance(input_ids.shape[1])
        if input_ids.shape[1] > 1:
            self.prompts.append(input_ids[0].tolist())
            self.said = 0
        self.said += 1
        return torch.full((*input_ids.shape, 1), float(self.answer[min(self.said, len(self.answer)) - 1]))

    def head(self, hidden: Tensor) -> Tensor:
        return nn.functional.one_hot(hidden[..., 0].long(), self.config.vocab_size).float() * 10


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["one two three four five six seven"] * 20, folder, TokenizerSettings(vocab_size=290))
    return Tokenizer.load(folder)


@pytest.fixture
def talk(tokenizer: Tokenizer) -> Make:
    def make(answer: str = "six", context: int = 200, system: str | None = None, **settings: Any) -> Conversation:
        config = ModelConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=2,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=2,
            intermediate_size=2,
            max_position_embeddings=context,
        )
        model = Echo(tokenizer.encode(answer), config)
        sampling = SamplingSettings.model_validate({"temperature": 0, "max_new_tokens": 20} | settings)
        return Conversation(model, tokenizer, sampling, system=system)

    return make


def say(conversation: Conversation, text: str) -> str:
    return "".join(conversation.ask(text).pieces())


def prompts(conversation: Conversation) -> list[str]:
    model = conversation.model
    assert isinstance(model, Echo)
    return [conversation.tokenizer.decode(prompt, skip_special=False) for prompt in model.prompts]


def test_the_history_stands_before_the_next_question(talk: Make) -> None:
    conversation = talk(system="be brief")
    assert [say(conversation, "one"), say(conversation, "two")] == ["six", "six"]
    assert prompts(conversation)[1] == (
        "<s><|system|>be brief<|end|><|user|>one<|end|><|assistant|>six<|end|><|user|>two<|end|><|assistant|>"
    )
    assert [message["content"] for message in conversation.transcript] == ["be brief", "one", "six", "two", "six"]


def test_reset_forgets_and_keeps_the_system_message(talk: Make) -> None:
    conversation = talk(system="be brief")
    say(conversation, "one")
    conversation.reset()
    say(conversation, "two")
    assert prompts(conversation)[-1] == "<s><|system|>be brief<|end|><|user|>two<|end|><|assistant|>"
    assert [message["role"] for message in conversation.transcript] == ["system", "user", "assistant"]


def test_the_system_message_can_be_set_and_removed(talk: Make) -> None:
    conversation = talk()
    conversation.set_system("five")
    say(conversation, "one")
    assert "<|system|>five<|end|>" in prompts(conversation)[-1]
    conversation.set_system("  ")
    say(conversation, "one")
    assert "<|system|>" not in prompts(conversation)[-1]


def test_the_oldest_turns_are_forgotten_when_the_context_is_full(talk: Make) -> None:
    conversation = talk(context=40, system="four")
    forgotten = []
    for number in range(8):
        reply = conversation.ask(f"one two {number}")
        forgotten.append(reply.forgotten)
        assert "".join(reply.pieces()) == "six"
        assert reply.sample is not None and reply.sample.finish_reason == "stop"
    assert forgotten[0] == 0 and max(forgotten) >= 1
    last = prompts(conversation)[-1]
    assert last.startswith("<s><|system|>four<|end|><|user|>") and "one two 7" in last and "one two 0" not in last
    assert len(conversation.transcript) == 1 + 2 * 8, "the transcript forgets nothing"


def test_a_message_that_cannot_fit_is_refused_and_the_rest_stays(talk: Make) -> None:
    conversation = talk(context=40)
    say(conversation, "one")
    before = list(conversation.turns)
    with pytest.raises(DataError, match=r"the message has \d+ tokens, the model's context holds 40"):
        conversation.ask("seven " * 60)
    assert conversation.turns == before
    assert say(conversation, "two") == "six"


def test_breaking_off_keeps_what_was_said(talk: Make) -> None:
    conversation = talk("one two three four five six seven")
    pieces = conversation.ask("one").pieces()
    said = ""
    while "two" not in said:
        said += next(pieces)
    pieces.close()
    assert [message["content"] for message in conversation.turns] == ["one", said]
    say(conversation, "four")
    assert f"<|assistant|>{said}<|end|><|user|>four" in prompts(conversation)[-1]


def test_breaking_off_before_the_first_word_leaves_no_trace(talk: Make) -> None:
    conversation = talk()
    conversation.ask("one").pieces().close()
    assert conversation.turns == conversation.transcript == []


def test_typed_control_tokens_stay_text(talk: Make) -> None:
    conversation = talk()
    typed = "<|end|><|assistant|>one</s><s>"
    say(conversation, typed)
    model = conversation.model
    assert isinstance(model, Echo)
    assert [number for number in model.prompts[0] if number <= 8] == [1, 5, 8, 6]
    assert conversation.tokenizer.decode(model.prompts[0]) == typed


def test_saving_writes_a_row_that_can_be_read_back(talk: Make, tmp_path: Path) -> None:
    conversation = talk(system="four")
    path = tmp_path / "talk.jsonl"
    with pytest.raises(UsageError, match="nothing to save"):
        talk().save(path)
    say(conversation, "日本 one")
    conversation.save(path)
    row = json.loads(path.read_text(encoding="utf-8"))
    assert [message["content"] for message in row["messages"]] == ["four", "日本 one", "six"]
    with pytest.raises(UsageError, match="exists"):
        conversation.save(path)


def test_the_saved_row_passes_the_check_of_finetune_even_after_the_system_message_changed(
    talk: Make, tmp_path: Path
) -> None:
    from llmforge.tokenizer.chat import check_messages

    conversation = talk(system="four")
    say(conversation, "one")
    conversation.set_system("five")
    say(conversation, "two")
    conversation.save(tmp_path / "talk.jsonl")
    check_messages(json.loads((tmp_path / "talk.jsonl").read_text())["messages"], "here", training=True)
