"""Batched, branched scores against one forward pass a token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.evaluation.loglikelihood import Request, loglikelihoods
from llmforge.model.transformer import Transformer

ids = st.lists(st.integers(0, 264), min_size=1, max_size=12)
requests = st.builds(Request, context=ids, continuations=st.lists(ids, min_size=1, max_size=4))


@settings(max_examples=25, deadline=None)
@given(st.lists(requests, min_size=1, max_size=5), st.integers(16, 200))
def test_equal_to_a_loop_for_every_grouping(
    naive: Callable[..., float], random_model: Callable[..., Transformer], made: list[Request], row_tokens: int
) -> None:
    model = random_model()
    expected = [[naive(model, one.context, branch) for branch in one.continuations] for one in made]
    for found, wanted in zip(loglikelihoods(model, made, row_tokens), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)


def test_independent_of_the_batch(random_model: Callable[..., Transformer]) -> None:
    model = random_model()
    made = [Request([1, *range(9, 9 + n)], [[20 + n] * k for k in (1, 3, n + 1)]) for n in range(1, 12)]
    alone = [loglikelihoods(model, [one], 1)[0] for one in made]
    for row_tokens in (1, 40, 100, 10_000):
        together = loglikelihoods(model, made, row_tokens)
        assert [x for row in together for x in row] == pytest.approx([x for row in alone for x in row], abs=1e-4)


def test_with_a_sliding_window(naive: Callable[..., float], random_model: Callable[..., Transformer]) -> None:
    model = random_model(window=4)
    made = [Request([1, 30, 31, 32, 33, 34], [[40, 41, 42], [50]]), Request([1, 9], [[60, 61, 62, 63, 64, 65, 66]])]
    expected = [[naive(model, one.context, branch) for branch in one.continuations] for one in made]
    for found, wanted in zip(loglikelihoods(model, made, 1000), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)


def test_fills_the_context_to_its_last_token(
    naive: Callable[..., float], random_model: Callable[..., Transformer]
) -> None:
    model = random_model(context=16)
    request = Request([1, *[30] * 12], [[40, 41, 42, 43]])  # 13 + 4 ids, of which the last is only predicted
    [[found]] = loglikelihoods(model, [request], 100)
    assert found == pytest.approx(naive(model, request.context, request.continuations[0]), abs=1e-4)


def test_tells_how_many_are_done(random_model: Callable[..., Transformer]) -> None:
    heard: list[int] = []
    loglikelihoods(random_model(), [Request([1], [[9]])] * 5, 4, heard.append)
    assert sum(heard) == 5 and len(heard) > 1
