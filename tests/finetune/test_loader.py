"""Batches of conversations: what is trained on, what is padding, and the same loss packed and alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.errors import DataError
from llmforge.finetune.conversations import Conversation
from llmforge.finetune.loader import ConversationBatches, Encoded, assemble, encode
from llmforge.finetune.validation import ConversationValidation
from llmforge.model.config import ModelConfig
from llmforge.model.transformer import Transformer
from llmforge.runtime.distributed import World
from llmforge.tokenizer.chat import TrainOn
from llmforge.tokenizer.chat_formats import FORMATS
from llmforge.tokenizer.special_tokens import IDS
from llmforge.tokens.batch import IGNORED
from llmforge.training.objective import CausalLMObjective
from llmforge.training.parallel import Parallel

PAD = 3
USER, ASSISTANT, END = IDS["<|user|>"], IDS["<|assistant|>"], IDS["<|end|>"]


class ByteTokenizer:
    foreign = None
    form = FORMATS["own"]
    special_ids = IDS
    stop_ids = frozenset({2, END})

    def encode(self, text: str) -> list[int]:
        return [byte + 9 for byte in text.encode()]


def talk(*turns: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation([{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)], "f:1")


def encoded(talks: Sequence[Conversation], max_length: int = 64, train_on: TrainOn = "assistant") -> Encoded:
    return encode(ByteTokenizer(), talks, train_on, max_length, "f")  # type: ignore[arg-type]


def model() -> Transformer:
    made = Transformer(
        ModelConfig(
            vocab_size=265,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=32,
            max_position_embeddings=64,
        )
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return made


TALKS = [talk("Hi", "Hello."), talk("a", "bcd", "ef", "g"), talk("What?", "Nothing at all."), talk("x", "y")]


def text(ids: torch.Tensor) -> str:
    return "".join(chr(token - 9) if token >= 9 else {END: "|"}.get(token, "?") for token in ids.tolist())


@pytest.mark.parametrize(("train_on", "wanted"), [("assistant", "bcd|g|"), ("last", "g|"), ("all", "?a|?bcd|?ef|?g|")])
def test_only_what_the_assistant_says_is_trained_on(train_on: TrainOn, wanted: str) -> None:
    batch = assemble(encoded(TALKS[1:2], train_on=train_on), [[0]], 32, PAD)
    assert text(batch.labels[batch.labels != IGNORED]) == wanted


@pytest.mark.parametrize("length", [32, None])
def test_labels_are_the_next_ids(length: int | None) -> None:
    batch = assemble(encoded(TALKS, train_on="all"), [[0], [1], [2], [3]], length, PAD)
    for row in range(4):
        kept = batch.labels[row] != IGNORED
        count = int(kept.sum())
        assert kept[:count].all()
        assert torch.equal(batch.labels[row, : count - 1], batch.input_ids[row, 1:count])
        assert (batch.input_ids[row, count:] == PAD).all()
    assert batch.input_ids.shape[1] == 32


def test_packed_rows_have_their_own_documents_and_positions() -> None:
    rows = encoded(TALKS)
    batch = assemble(rows, [[3, 0]], 32, PAD)
    first, second = (len(rows.ids[at]) - 1 for at in (3, 0))
    rest = 32 - first - second
    assert batch.document_ids is not None and batch.positions is not None
    assert batch.document_ids[0].tolist() == [0] * first + [1] * second + [-1] * rest
    assert batch.positions[0].tolist() == [*range(first), *range(second), *[0] * rest]
    assert (batch.labels[0, first + second :] == IGNORED).all()
    assert int(batch.labels[0, first - 1]) == END  # the last prediction of a conversation is its end, not the next bos


def test_packed_loss_is_the_sum_of_single_losses() -> None:
    rows, objective = encoded(TALKS), CausalLMObjective(model().requires_grad_(False))
    single = [objective(assemble(rows, [[at]], None, PAD)) for at in range(len(TALKS))]
    packed = objective(assemble(rows, [[2, 0], [1, 3]], 64, PAD))
    unpacked = objective(assemble(rows, [[0], [1], [2], [3]], None, PAD))
    assert float(packed) == pytest.approx(float(sum(single)), rel=1e-5)
    assert float(unpacked) == pytest.approx(float(sum(single)), rel=1e-5)


def test_packed_gradients_are_those_of_single_rows() -> None:
    rows = encoded(TALKS)
    gradients = []
    for parts in ([[[2, 0], [1, 3]]], [[[at]] for at in range(4)]):
        trained = model()
        for part in parts:
            CausalLMObjective(trained)(assemble(rows, part, 64, PAD)).backward()
        gradients.append([parameter.grad for parameter in trained.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=30),
    st.integers(1, 9),
    st.integers(0, 5),
    st.booleans(),
)
def test_each_conversation_once_an_epoch(lengths: list[int], rows: int, seed: int, packing: bool) -> None:
    made = Encoded()
    for number, length in enumerate(lengths):
        made.add([number] * length, [False] + [True] * (length - 1), 40)
    batches = ConversationBatches(made, 40, rows, seed, packing, 99)
    wanted = Counter({number: length - 1 for number, length in enumerate(lengths)})
    seen: Counter[int] = Counter()
    taken = 0
    for step in range(-(-2 * batches.num_rows // rows)):
        batch = batches.batches(step)
        for row in range(batch.num_rows):
            if taken < 2 * batches.num_rows:
                seen.update(batch.labels[row][batch.labels[row] != IGNORED].tolist())
            taken += 1
            if taken == batches.num_rows:
                assert seen == wanted
    assert seen == wanted + wanted


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    rows = encoded([talk(f"q{n}", "a" * (n % 17 + 1)) for n in range(40)])
    straight = ConversationBatches(rows, 48, 3, 0, True, PAD)
    first = [straight.batches(step).input_ids for step in range(40)]
    again = ConversationBatches(rows, 48, 3, 0, True, PAD)
    for step in (39, 0, 17, 3):
        assert torch.equal(again(step).input_ids, first[step])
    other = ConversationBatches(rows, 48, 3, 1, True, PAD)
    assert not torch.equal(other(0).input_ids, first[0])
    epochs = {tuple(map(tuple, straight.epoch_rows(epoch))) for epoch in range(3)}
    assert len(epochs) == 3
    assert straight.epoch(10) == pytest.approx(30 / straight.num_rows)


def test_too_long_ones_are_cut_or_left_out_and_counted() -> None:
    rows = encoded([talk("x" * 30, "y"), talk("x", "y" * 30), talk("a", "b")], max_length=12)
    assert (len(rows), rows.cut, rows.skipped) == (2, 1, 1)
    assert max(rows.lengths) == 12
    with pytest.raises(DataError, match="nothing to train on"):
        encoded([talk("x" * 30, "y")], max_length=12)


def test_digest_tells_conversations_apart() -> None:
    assert encoded(TALKS).digest == encoded(TALKS).digest
    assert len({encoded(TALKS).digest, encoded(TALKS[:3]).digest, encoded(TALKS, train_on="all").digest}) == 3


def test_validation_is_the_mean_over_trained_tokens() -> None:
    rows, trained = encoded(TALKS), model()
    sizes = [b""] * 9 + [b"x"] * 256
    made = ConversationValidation(rows, 32, 1, PAD, eval_tokens=32).on(World(), torch.device("cpu"), sizes)
    objective = CausalLMObjective(trained)
    parallel = Parallel(objective, "none", World(), torch.device("cpu"))
    found = made(parallel, whole=True)
    with torch.no_grad():
        loss = sum(float(objective(assemble(rows, [[at]], None, PAD))) for at in range(4))
    assert found["valid_loss"] == pytest.approx(loss / rows.num_trained, rel=1e-5)
    said = sum(len(message["content"]) for one in TALKS for message in one.messages if message["role"] == "assistant")
    assert found["valid_bits_per_byte"] == pytest.approx(loss / np.log(2) / said, rel=1e-5)
    assert made.whole_factor > 1 and made(parallel, whole=False) != found


def test_validation_shared_by_processes_adds_up() -> None:
    rows, trained = encoded(TALKS), model()
    parallel = Parallel(CausalLMObjective(trained), "none", World(), torch.device("cpu"))

    class Recording(World):
        def total(self, values: torch.Tensor) -> torch.Tensor:
            heard.append(values.clone())
            return values

    heard: list[torch.Tensor] = []
    for world in (Recording(), Recording(0, 2), Recording(1, 2), Recording(0, 3), Recording(1, 3), Recording(2, 3)):
        made = ConversationValidation(rows, 32, 1, PAD, None).on(world, torch.device("cpu"), [b"x"] * 265)
        made(parallel, whole=True)
    whole = heard[0]
    torch.testing.assert_close(heard[1] + heard[2], whole)
    torch.testing.assert_close(heard[3] + heard[4] + heard[5], whole)
