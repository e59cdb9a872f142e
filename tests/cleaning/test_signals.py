"""Signals against hand-worked numbers and against a slow, plain reading of the published definitions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.cleaning.signals.measure import measure
from llmforge.cleaning.signals.repetition import DUPLICATE_SIZES, TOP_SIZES, measure_repetition

BOOKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "books-valid.jsonl"


def test_hand_worked() -> None:
    text = "- The cat and the dog...\n\n# 12 and 13 have # no name…\nThe end."
    signals = measure(text)
    words = 6 + 8 + 2
    assert signals.num_words == words
    assert signals.num_characters == len(text)
    assert signals.hash_word_ratio == 2 / words
    assert signals.ellipsis_word_ratio == 2 / words
    # "-" and "#" (twice) are no words of letters or digits; "12" and "13" are, but without a letter.
    spoken = ["The", "cat", "and", "the", "dog...", "12", "and", "13", "have", "no", "name…", "The", "end."]
    assert signals.mean_word_length == sum(map(len, spoken)) / len(spoken)
    assert signals.alpha_word_ratio == 11 / words
    assert signals.num_stop_words == 3  # the, and, have
    assert signals.num_lines == 3
    assert signals.newline_word_ratio == 3 / words
    assert signals.bullet_line_ratio == 1 / 3
    assert signals.ellipsis_line_ratio == 2 / 3
    assert signals.punctuated_line_ratio == 1.0
    assert signals.line_lengths == (8, 24, 27)
    assert signals.short_line_ratio(23) == 1 / 3
    assert signals.short_line_ratio(24) == 2 / 3


def test_empty_text_has_no_ratio() -> None:
    signals = measure("")
    assert signals.num_words == 0
    assert signals.short_line_ratio(30) == 0.0
    assert signals.repetition is not None
    assert signals.repetition.duplicate_line_ratio == 0.0


def test_duplicate_lines_count_from_the_second_coming() -> None:
    signals = measure("abcd\nxy\nabcd\nabcd")
    assert signals.duplicate_line_character_ratio == 8 / 14
    assert signals.repetition is not None
    assert signals.repetition.duplicate_line_ratio == 2 / 4
    assert signals.repetition.duplicate_line_character_ratio == 8 / 17


def plain_top(words: list[str], size: int) -> int:
    """The most frequent run's characters, spaces included, times its count; 0 when no run comes twice."""
    runs = [" ".join(words[start : start + size]) for start in range(len(words) - size + 1)]
    counts = Counter(runs)
    best = max(counts.values(), default=0)
    return 0 if best < 2 else next(len(run) * count for run, count in counts.items() if count == best)


def plain_duplicates(words: list[str], size: int) -> int:
    """datatrove's find_all_duplicate: step over a run that was seen, else remember it and go on by one word."""
    seen: set[tuple[str, ...]] = set()
    characters = start = 0
    while start < len(words) - size + 1:
        run = tuple(words[start : start + size])
        if run in seen:
            characters += sum(map(len, run))
            start += size
        else:
            seen.add(run)
            start += 1
    return characters


def check_runs(text: str) -> None:
    words = text.split()
    found = measure_repetition(text, words)
    length = max(len(text), 1)
    for size in TOP_SIZES:
        assert found.top_ngram_character_ratio[size] == plain_top(words, size) / length
    for size in DUPLICATE_SIZES:
        assert found.duplicate_ngram_character_ratio[size] == plain_duplicates(words, size) / length


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=120))
def test_runs_equal_the_plain_definition(words: list[str]) -> None:
    check_runs(" ".join(words))


@pytest.mark.skipif(not BOOKS.exists(), reason="needs ../shared/data/books-valid.jsonl")
def test_runs_of_real_prose_equal_the_plain_definition() -> None:
    rows = [json.loads(line)["text"] for line in BOOKS.read_text(encoding="utf-8").splitlines()[:20]]
    for text in rows:
        check_runs(text)
    check_runs(rows[0] + rows[1] + rows[0])
