"""The engine: one answer from every path, and why answers end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from llmforge.errors import DataError
from llmforge.inference import generate as engine
from llmforge.inference.generate import generate, stream
from llmforge.inference.settings import SamplingSettings
from llmforge.model.config import ModelConfig
from llmforge.model.transformer import Transformer

GREEDY = SamplingSettings(temperature=0, max_new_tokens=20)
Told = Callable[..., Any]


@pytest.fixture(scope="module")
def tiny() -> Transformer:
    """Two layers of width 16 with grouped queries, random weights spread enough that greedy answers vary."""
    config = ModelConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        intermediate_size=32,
        max_position_embeddings=48,
    )
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.4, generator=generator)
    return model


def prompts_of(lengths: list[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(9, 265, (length,), generator=generator).tolist() for length in lengths]


def whole(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """Greedy decoding that computes everything anew at each step: the reference."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model.head(model(torch.tensor([ids]))[:, -1])[0, :265].argmax()))
    return ids[len(prompt) :]


def test_cached_and_batched_equal_the_uncached_greedy_answer(tiny: Transformer, byte_tokenizer: Any) -> None:
    prompts = prompts_of([3, 11, 1, 7, 20])
    samples = generate(tiny, byte_tokenizer, prompts, GREEDY, stop_ids=[])
    assert [sample.ids for sample in samples] == [whole(tiny, prompt, 20) for prompt in prompts]
    assert {sample.finish_reason for sample in samples} == {"length"}
    assert len({tuple(sample.ids) for sample in samples}) > 1


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_sampled_answers_do_not_depend_on_the_batch(
    tiny: Transformer, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, penalty: float
) -> None:
    prompts = prompts_of([5, 2, 13, 8, 1, 30, 4])
    settings = SamplingSettings(
        max_new_tokens=15, temperature=1.3, top_k=80, top_p=0.95, seed=11, repetition_penalty=penalty, num_samples=2
    )
    together = generate(tiny, byte_tokenizer, prompts, settings)
    alone = [sample for prompt in prompts for sample in generate(tiny, byte_tokenizer, [prompt], settings)]
    backwards = generate(tiny, byte_tokenizer, prompts[::-1], settings)
    monkeypatch.setattr(engine, "MOST_ROWS", 3)  # the queue fills the places of finished rows
    monkeypatch.setattr(engine, "_PREFILL_TOKENS", 4)  # and prompts are read in several passes
    queued = generate(tiny, byte_tokenizer, prompts, settings)
    ids = [sample.ids for sample in together]
    assert ids == [sample.ids for sample in alone]
    assert ids == [sample.ids for sample in queued]
    assert [backwards[2 * index + number].ids for index in reversed(range(7)) for number in (0, 1)] == ids
    assert ids[0] != ids[1], "two samples of one prompt differ"


def test_another_seed_gives_another_answer_and_the_same_seed_the_same(tiny: Transformer, byte_tokenizer: Any) -> None:
    prompts = prompts_of([6])
    ids = [
        generate(tiny, byte_tokenizer, prompts, SamplingSettings(seed=seed, max_new_tokens=12))[0].ids
        for seed in (1, 1, 2)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_the_stream_is_the_first_sample(tiny: Transformer, byte_tokenizer: Any) -> None:
    settings = SamplingSettings(seed=4, max_new_tokens=18, temperature=1.0)
    prompt = prompts_of([9])[0]
    pieces = stream(tiny, byte_tokenizer, prompt, settings)
    text = "".join(pieces)
    sample = generate(tiny, byte_tokenizer, [prompt], settings)[0]
    assert pieces.sample is not None
    assert (text, pieces.sample.ids) == (sample.text, sample.ids) == (pieces.sample.text, sample.ids)


def test_rows_of_a_queue_get_their_own_answers(
    told_model: Told, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {f"question {n}": "x" * (n % 5) + f" answer {n}" for n in range(12)}
    model = told_model(answers)
    monkeypatch.setattr(engine, "MOST_ROWS", 4)
    prompts = [byte_tokenizer.encode(prompt) for prompt in answers]
    samples = generate(model, byte_tokenizer, prompts, GREEDY)
    assert [sample.text for sample in samples] == list(answers.values())
    assert {sample.finish_reason for sample in samples} == {"stop"}
    assert all(sample.ids[-1] == byte_tokenizer.eos_id for sample in samples)
    assert max(rows for rows, _ in model.calls) <= 4
    assert model.calls[-1][0] < 4, "finished rows are no longer computed"


def test_samples_of_one_prompt_read_it_once(told_model: Told, byte_tokenizer: Any) -> None:
    model = told_model({"hello": "yes"})
    settings = SamplingSettings(num_samples=3, temperature=1e-3)
    samples = generate(model, byte_tokenizer, [byte_tokenizer.encode("hello")], settings)
    assert [sample.text for sample in samples] == ["yes"] * 3
    assert model.calls[0] == (1, 5)


def test_end_tokens_end_and_are_not_shown(told_model: Told, byte_tokenizer: Any) -> None:
    say = byte_tokenizer.encode("ab")
    samples = generate(told_model({"q": [*say, 8, *say]}), byte_tokenizer, [byte_tokenizer.encode("q")], GREEDY)
    assert (samples[0].text, samples[0].ids, samples[0].finish_reason) == ("ab", [*say, 8], "stop")


def test_finish_reasons_length_and_context(told_model: Told, byte_tokenizer: Any) -> None:
    model = told_model({"q": "abcdefghij"}, context=8)
    prompt = byte_tokenizer.encode("q")
    short = generate(model, byte_tokenizer, [prompt], SamplingSettings(temperature=0, max_new_tokens=3))[0]
    assert (short.text, short.finish_reason) == ("abc", "length")
    full = generate(model, byte_tokenizer, [prompt], SamplingSettings(temperature=0, max_new_tokens=100))[0]
    assert (full.text, full.finish_reason) == ("abcdefg", "context")
    exact = generate(model, byte_tokenizer, [prompt], SamplingSettings(temperature=0, max_new_tokens=7))[0]
    assert exact.finish_reason == "length"


def test_stop_strings_across_token_borders(told_model: Told, byte_tokenizer: Any) -> None:
    settings = SamplingSettings(temperature=0, stop=["END", "\n\n"])
    pieces = stream(told_model({"q": "one EN two\nEND three"}), byte_tokenizer, byte_tokenizer.encode("q"), settings)
    shown = ""
    for piece in pieces:
        shown += piece
        assert "END" not in shown
    assert shown == "one EN two\n"
    assert pieces.sample is not None
    assert pieces.sample.finish_reason == "stop"


def test_streaming_never_shows_half_a_character(told_model: Told, byte_tokenizer: Any) -> None:
    said = "naïve 日本 👩‍🚀!"
    pieces = list(
        stream(told_model({"q": said}), byte_tokenizer, byte_tokenizer.encode("q"), SamplingSettings(temperature=0))
    )
    assert "".join(pieces) == said
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert "" in pieces, "a character of several bytes waits for its last one"


def test_a_cut_through_a_character_at_the_end_is_the_same_streamed_and_whole(
    told_model: Told, byte_tokenizer: Any
) -> None:
    settings = SamplingSettings(temperature=0, max_new_tokens=3)
    prompt = byte_tokenizer.encode("q")
    sample = generate(told_model({"q": "a日"}), byte_tokenizer, [prompt], settings)[0]
    assert "".join(stream(told_model({"q": "a日"}), byte_tokenizer, prompt, settings)) == sample.text


def test_a_prompt_beyond_the_context_names_both_numbers(told_model: Told, byte_tokenizer: Any) -> None:
    model = told_model({"q": "a"}, context=8)
    for length in (8, 30):
        with pytest.raises(DataError, match=rf"prompt 2: the prompt has {length} tokens.*holds 8") as caught:
            generate(model, byte_tokenizer, [[9], [9] * length], GREEDY)
        assert caught.value.exit_code == 3
    assert not model.calls, "nothing is computed before all prompts were checked"


@pytest.mark.parametrize(
    ("prompt", "reason"), [([], "empty"), ([70000], "70,000.*vocabulary has 265"), ([-1], "id -1")]
)
def test_impossible_prompts_are_refused(told_model: Told, byte_tokenizer: Any, prompt: list[int], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        generate(told_model({}), byte_tokenizer, [prompt], GREEDY)


def test_ids_beyond_the_tokenizer_are_never_drawn(tiny: Transformer, byte_tokenizer: Any) -> None:
    hot = SamplingSettings(temperature=100.0, max_new_tokens=40, num_samples=8)
    samples = generate(tiny, byte_tokenizer, prompts_of([4]), hot)
    assert max(max(sample.ids) for sample in samples) < byte_tokenizer.vocab_size < tiny.config.vocab_size


def test_the_model_goes_back_to_training_even_when_a_stream_is_broken_off(
    tiny: Transformer, byte_tokenizer: Any
) -> None:
    tiny.train()
    pieces = iter(stream(tiny, byte_tokenizer, [9, 10], SamplingSettings()))
    next(pieces)
    assert not tiny.training
    pieces.close()  # type: ignore[attr-defined]
    assert tiny.training
    assert generate(tiny, byte_tokenizer, [], GREEDY) == []


def test_progress_counts_every_token_and_answer(told_model: Told, byte_tokenizer: Any) -> None:
    heard: list[tuple[int, list[tuple[int, Any]]]] = []
    prompts = [byte_tokenizer.encode(text) for text in ("a", "b")]
    model = told_model({"a": "xyz", "b": "x"})
    samples = generate(model, byte_tokenizer, prompts, GREEDY, on_step=lambda *step: heard.append(step))
    assert sum(tokens for tokens, _ in heard) == sum(len(sample.ids) for sample in samples) == 6
    assert [entry for _, ended in heard for entry in ended] == [(1, samples[1]), (0, samples[0])]
