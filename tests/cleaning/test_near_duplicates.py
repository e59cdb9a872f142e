"""Near duplicates against a plain reading: sets of runs of words, compared pair by pair."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.cleaning.dedup import ahead, bands
from llmforge.cleaning.dedup.ahead import RunsAhead, TextRuns
from llmforge.cleaning.dedup.keep import KeepSettings, preference
from llmforge.cleaning.dedup.near import NearSettings, find_near_duplicates, signatures
from llmforge.cleaning.dedup.shingles import jaccard, shingle_hashes

WORDS = [f"word{number}" for number in range(500)]


def runs(text: str, size: int) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1))}


def plain_jaccard(first: str, second: str, size: int = 5) -> float:
    one, two = runs(first, size), runs(second, size)
    return len(one & two) / len(one | two)


def make(seed: int, count: int = 200) -> list[str]:
    return random.Random(seed).choices(WORDS, k=count)


def drop(texts: list[str], keep: str) -> dict[int, int]:
    chosen = NearSettings()
    preferred = preference(KeepSettings(keep=keep), [len(text) for text in texts], [""] * len(texts))
    found = find_near_duplicates(signatures(texts, chosen), preferred, texts.__getitem__, chosen)
    return {number: match.kept for number, match in found.items()}


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), st.lists(st.sampled_from("abcd"), min_size=1))
def test_similarity_is_that_of_the_sets(first: list[str], second: list[str]) -> None:
    one, two = " ".join(first), " ".join(second)
    assert jaccard(shingle_hashes(one, 3), shingle_hashes(two, 3)) == pytest.approx(plain_jaccard(one, two, 3))


def test_case_punctuation_and_spacing_make_no_difference() -> None:
    assert jaccard(shingle_hashes("One, two -- three!", 2), shingle_hashes("one two\nTHREE", 2)) == 1.0


def test_drops_exactly_the_pairs_beyond_the_threshold() -> None:
    texts = []
    for seed in range(40):
        words = make(seed)
        changed = list(words)
        for place in range(0, 200, 200 // (1 + seed % 10)):
            changed[place] = f"new{seed}x{place}"
        texts += [" ".join(words), " ".join(changed)]
    expected = {
        second: first
        for first, second in combinations(range(len(texts)), 2)
        if plain_jaccard(texts[first], texts[second]) >= NearSettings().threshold
    }
    assert drop(texts, "first") == expected
    assert 0 < len(expected) < 40  # some pairs lie on either side


def test_the_longest_or_the_first_stays() -> None:
    words = make(1)
    texts = [" ".join(words), " ".join([*words, "end"])]
    assert drop(texts, "longest") == {0: 1}
    assert drop(texts, "first") == {1: 0}


def test_all_documents_the_same_leave_one() -> None:
    texts = [" ".join(make(3))] * 300
    assert drop(texts, "first") == dict.fromkeys(range(1, 300), 0)


def test_texts_without_words_are_no_duplicates() -> None:
    assert drop(["", "", "..."], "longest") == {}


def test_documents_that_were_dropped_before_take_no_part() -> None:
    texts = [" ".join(make(3))] * 3
    chosen = NearSettings()
    staying = [False, True, True]
    found = find_near_duplicates(signatures(texts, chosen), [3, 2, 1], texts.__getitem__, chosen, staying=staying)
    assert {number: match.kept for number, match in found.items()} == {2: 1}


def test_keys_of_bands_in_several_passes_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(make(seed % 20)) for seed in range(60)]
    whole = drop(texts, "first")
    monkeypatch.setattr(bands, "_KEY_BYTES", 1)
    monkeypatch.setattr(bands, "_BLOCK_ROWS", 7)
    assert drop(texts, "first") == whole == {number: number % 20 for number in range(20, 60)}


class Aside:
    """Makes runs as another process would, and breaks down after so many tasks."""

    def __init__(self, texts: list[str], lasts: int = 10**9) -> None:
        self.texts, self.lasts, self.made = texts, lasts, 0

    def __call__(self, numbers: Sequence[int]) -> Future[TextRuns]:
        self.made += 1
        answer: Future[TextRuns] = Future()
        if self.made > self.lasts:
            answer.set_exception(BrokenProcessPool())
        else:
            found = [shingle_hashes(self.texts[number], 5) for number in numbers]
            answer.set_result((np.concatenate(found), list(map(len, found))))
        return answer


@pytest.mark.parametrize("lasts", [10**9, 3, 0])
def test_runs_made_ahead_find_the_same(monkeypatch: pytest.MonkeyPatch, lasts: int) -> None:
    monkeypatch.setattr(ahead, "_WINDOW_BYTES", 10_000)
    texts = []
    for seed in range(60):
        words = make(seed)
        texts += [" ".join(words), " ".join([*words[: 199 - seed], *make(seed + 100, 1 + seed)]), "", "one two"]
    chosen = NearSettings()
    sizes = [len(text) for text in texts]
    found = signatures(texts, chosen)
    preferred = preference(KeepSettings(), sizes, [""] * len(texts))
    expected = find_near_duplicates(found, preferred, texts.__getitem__, chosen)
    read: list[int] = []

    def text(number: int) -> str:
        read.append(number)
        return texts[number]

    aside = Aside(texts, lasts)
    made = find_near_duplicates(found, preferred, text, chosen, ahead=RunsAhead(aside, sizes))
    assert dict(made) == dict(expected) and len(expected) > 30
    assert aside.made > lasts if lasts < 10**9 else not read


def test_runs_that_nobody_asks_for_are_made_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_WINDOW_BYTES", 10_000)
    monkeypatch.setattr(ahead, "_TRIED", 50)
    aside = Aside(["some text of several words"] * 1000)
    items = [(number, [0]) for number in range(1000)]
    assert list(RunsAhead(aside, [26] * 1000).watch(items)) == items
    assert aside.made == 5 * 4, "of 100 windows"
