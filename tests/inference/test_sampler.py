"""Each link of the sampling chain by hand-worked numbers, and against transformers' processors as another's work."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.errors import DataError
from llmforge.inference.sampler import (
    apply_temperature,
    choose,
    draw,
    generator_for,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    shape_logits,
)
from llmforge.inference.settings import SamplingSettings

# Probabilities .5 .3 .15 .05, in an order that is not sorted.
FOUR = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()


def kept(logits: torch.Tensor) -> list[int]:
    return logits[0].isfinite().nonzero()[:, 0].tolist()


def test_temperature_by_hand() -> None:
    assert torch.equal(apply_temperature(torch.tensor([[2.0, -1.0]]), 0.5), torch.tensor([[4.0, -2.0]]))


def test_repetition_penalty_by_hand() -> None:
    logits = torch.tensor([[2.0, -2.0, 3.0, 0.0]])
    seen = torch.tensor([[True, True, False, True]])
    assert torch.equal(penalize_repetition(logits, seen, 2.0), torch.tensor([[1.0, -4.0, 3.0, 0.0]]))


@pytest.mark.parametrize(("k", "ids"), [(1, [1]), (2, [1, 3]), (3, [0, 1, 3]), (9, [0, 1, 2, 3]), (None, [0, 1, 2, 3])])
def test_top_k_by_hand(k: int | None, ids: list[int]) -> None:
    assert kept(keep_top_k(FOUR, k)) == ids


@pytest.mark.parametrize(("p", "ids"), [(0.01, [1]), (0.49, [1]), (0.7, [1, 3]), (0.9, [0, 1, 3]), (1.0, [0, 1, 2, 3])])
def test_top_p_by_hand(p: float, ids: list[int]) -> None:
    assert kept(keep_top_p(FOUR, p)) == ids


@pytest.mark.parametrize(("p", "ids"), [(0.0, [0, 1, 2, 3]), (0.2, [0, 1, 3]), (0.55, [1, 3]), (1.0, [1])])
def test_min_p_by_hand(p: float, ids: list[int]) -> None:
    assert kept(keep_min_p(FOUR, p)) == ids


def test_the_chain_has_the_order_that_its_docstring_says() -> None:
    # Temperature 2 makes .38 .29 .21 .12 of .5 .3 .15 .05: top-p .75 then needs three tokens, where two do before.
    settings = SamplingSettings(temperature=2.0, top_p=0.75)
    assert kept(shape_logits(FOUR, None, settings)) == [0, 1, 3]
    assert kept(keep_top_p(FOUR, 0.75)) == [1, 3]


def test_transformers_processors_agree_on_random_logits() -> None:
    hf = pytest.importorskip("transformers.generation.logits_process")
    torch.manual_seed(3)
    ids = torch.randint(0, 1000, (5, 20))
    seen = torch.zeros(5, 1000, dtype=torch.bool).scatter(1, ids, True)
    for scale in (0.3, 2.0, 8.0):  # flat rows need the whole sort of top-p, peaked ones do not
        logits = torch.randn(5, 1000) * scale
        pairs = [
            (hf.RepetitionPenaltyLogitsProcessor(1.3), penalize_repetition(logits, seen, 1.3)),
            (hf.TemperatureLogitsWarper(0.7), apply_temperature(logits, 0.7)),
            (hf.TopKLogitsWarper(17), keep_top_k(logits, 17)),
            (hf.TopPLogitsWarper(0.9), keep_top_p(logits, 0.9)),
            (hf.TopPLogitsWarper(0.3), keep_top_p(logits, 0.3)),
            (hf.MinPLogitsWarper(0.1), keep_min_p(logits, 0.1)),
        ]
        for processor, ours in pairs:
            torch.testing.assert_close(ours, processor(ids, logits.clone()), rtol=1e-6, atol=1e-6)


def test_greedy_takes_the_likeliest_and_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    for greedy in (SamplingSettings(temperature=0.0), SamplingSettings(do_sample=False)):
        assert choose(FOUR, None, greedy, [generator]).tolist() == [1]
    assert torch.equal(before, generator.get_state())


def test_greedy_still_heeds_the_repetition_penalty() -> None:
    logits = torch.tensor([[2.0, 1.9]])
    seen = torch.tensor([[True, False]])
    assert choose(logits, seen, SamplingSettings(temperature=0, repetition_penalty=1.2), []).tolist() == [1]


def test_draws_follow_the_probabilities() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    drawn = draw(FOUR.expand(4000, 4), generators)
    shares = torch.bincount(drawn, minlength=4) / 4000
    for share, probability in zip(shares.tolist(), FOUR.exp()[0].tolist(), strict=True):
        assert abs(share - probability) < 4 * math.sqrt(probability * (1 - probability) / 4000)


def test_what_is_ruled_out_is_never_drawn() -> None:
    logits = torch.full((1, 50), -torch.inf)
    logits[0, [7, 31]] = torch.tensor([0.0, -20.0])
    for seed in range(200):
        assert draw(logits, [torch.Generator().manual_seed(seed)]).item() in (7, 31)


def test_a_row_draws_the_same_alone_and_in_company() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 300)
    prompts = [[row, row + 1] for row in range(6)]
    together = draw(logits, [generator_for(5, prompt, 0) for prompt in prompts])
    alone = [draw(logits[row : row + 1], [generator_for(5, prompts[row], 0)]).item() for row in range(6)]
    assert together.tolist() == alone


def test_generators_differ_by_seed_prompt_and_number() -> None:
    def first(seed: int, prompt: list[int], number: int) -> float:
        return float(torch.rand(1, generator=generator_for(seed, prompt, number)))

    cases = [(0, [1, 2], 0), (1, [1, 2], 0), (0, [12], 0), (0, [1, 2], 1), (2**63 - 1, [1], 0)]
    assert len({first(*case) for case in cases}) == 5
    assert first(0, [1, 2], 0) == first(0, [1, 2], 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_named(bad: float) -> None:
    with pytest.raises(DataError, match="not finite"):
        choose(torch.tensor([[1.0, bad]]), None, SamplingSettings(), [torch.Generator()])


def test_logits_that_are_ruled_out_by_the_model_are_fine() -> None:
    assert choose(torch.tensor([[1.0, -math.inf]]), None, SamplingSettings(), [torch.Generator()]).tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    temperature=st.floats(0.05, 10),
    top_k=st.one_of(st.none(), st.integers(1, 40)),
    top_p=st.floats(0.001, 1),
    min_p=st.floats(0, 1),
)
def test_the_likeliest_token_always_stays(
    seed: int, temperature: float, top_k: int | None, top_p: float, min_p: float
) -> None:
    logits = torch.randn(3, 30, generator=torch.Generator().manual_seed(seed))
    chain = SamplingSettings(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    shaped = shape_logits(logits, None, chain)
    assert torch.equal(shaped.argmax(-1), logits.argmax(-1))
    assert bool((shaped.isfinite().sum(-1) <= (top_k or 30)).all())
