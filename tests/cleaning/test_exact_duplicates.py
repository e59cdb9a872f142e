"""Exact keys and who stays, against plain readings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmforge.cleaning.dedup.exact import exact_key, find_exact_duplicates
from llmforge.cleaning.dedup.keep import KeepSettings, preference, score_of

CHARACTERS = st.sampled_from(
    "ab\u00e9\u6f22\U0001f600 \n\t\x85\xa0\u2003\u2009\u200b\u2028\u202f\u205f\u3000\x00\ud800"
)


def plain(text: str) -> str:
    return "".join(one for one in text if not one.isspace() and ord(one) > 0x20)


@given(st.lists(CHARACTERS, max_size=40), st.lists(CHARACTERS, max_size=40), st.sampled_from([1, 200]))
def test_keys_are_equal_for_texts_that_differ_in_white_space(one: list[str], two: list[str], times: int) -> None:
    first, second = "".join(one) * times, "".join(two) * times
    assert (exact_key(first) == exact_key(second)) == (plain(first) == plain(second))
    assert exact_key(first) == exact_key(plain(first))
    assert len(exact_key(first)) == 16


def test_every_white_space_character_is_one() -> None:
    spaces = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())
    assert exact_key(f"a{spaces}b") == exact_key("ab") == exact_key(f"a{spaces * 200}b")


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=30), st.sampled_from(["", "ab", "aac"]))
def test_the_preferred_one_of_equal_documents_stays(documents: list[tuple[str, int]], before: str) -> None:
    def keys(texts: list[str]) -> np.ndarray:
        return np.frombuffer(b"".join(map(exact_key, texts)), dtype=np.uint8).reshape(-1, 16)

    texts, weights = [text for text, _ in documents], [weight for _, weight in documents]
    found = find_exact_duplicates(keys(texts), weights, keys(list(before)) if before else None)
    for number, text in enumerate(texts):
        same = [other for other, one in enumerate(texts) if one == text]
        best = max(same, key=lambda other: (weights[other], -other))
        assert found[number] == (len(texts) + before.index(text) if text in before else best)


def test_policies_rank_documents() -> None:
    sizes, sources = [5, 9, 9, 1], ["web", "books", "web", "wiki"]

    def order(settings: KeepSettings, scores: list[float] | None = None) -> list[int]:
        return np.argsort(-preference(settings, sizes, sources, scores)).tolist()

    assert order(KeepSettings(keep="first")) == [0, 1, 2, 3]
    assert order(KeepSettings()) == [1, 2, 0, 3]
    assert order(KeepSettings(keep="source", source_priority=["wiki", "web"])) == [3, 2, 0, 1]
    scored = KeepSettings(keep="score", score_field="quality")
    assert order(scored, [0.5, float("-inf"), 0.5, 0.7]) == [3, 2, 0, 1]


def test_a_score_comes_from_a_field_or_from_the_classifier() -> None:
    field = KeepSettings(keep="score", score_field="stars")
    assert score_of({"stars": 3}, 0.5, field) == 3.0
    for none in ({}, {"stars": "3"}, {"stars": True}, {"stars": float("nan")}):
        assert score_of(none, 0.5, field) == float("-inf")
    assert score_of({"stars": 3}, 0.5, KeepSettings(keep="score", score_field="classifier")) == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": "source"},
        {"source_priority": ["a"]},
        {"keep": "score"},
        {"score_field": "stars"},
        {"keep": "source", "source_priority": ["a", "a"]},
    ],
)
def test_a_key_without_its_policy_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="source" if "source" in str(wrong) else "score"):
        KeepSettings(**wrong)
