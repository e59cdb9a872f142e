"""Repeated passages against a plain reading: every window of words of the earlier documents, compared as words."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.cleaning.dedup import substring
from llmforge.cleaning.dedup.anchors import ANCHOR, SubstringSettings, anchors
from llmforge.cleaning.dedup.substring import Repeated, find_repeated_passages, without

LEAST = 8
CHOSEN = SubstringSettings(min_words=LEAST, min_remaining=0)


def find(texts: list[str], chosen: SubstringSettings, staying: list[bool] | None = None) -> dict[int, Repeated]:
    found = [anchors(text, chosen) for text in texts]
    flat = np.concatenate([*found, np.empty(0, dtype=ANCHOR)])
    stay = staying or [True] * len(texts)
    return find_repeated_passages(flat, [len(one) for one in found], stay, texts.__getitem__, chosen)


def plain_rest(texts: list[list[str]], least: int) -> list[list[str]]:
    """What stays of each text: a word goes when a window of `least` words around it stands in a piece that stayed."""
    known: set[tuple[str, ...]] = set()
    rests = []
    for words in texts:
        goes = [False] * len(words)
        for start in range(len(words) - least + 1):
            if tuple(words[start : start + least]) in known:
                goes[start : start + least] = [True] * least
        piece: list[str] = []
        for word, gone in [*zip(words, goes, strict=True), ("", True)]:
            if not gone:
                piece.append(word)
                continue
            known.update(tuple(piece[start : start + least]) for start in range(len(piece) - least + 1))
            piece = []
        rests.append([word for word, gone in zip(words, goes, strict=True) if not gone])
    return rests


def pasted(seed: int, alphabet: int) -> list[list[str]]:
    """Texts made of their own words and of pieces of each other."""
    chance = random.Random(seed)
    texts: list[list[str]] = []
    for _ in range(chance.randint(2, 8)):
        words: list[str] = []
        for _ in range(chance.randint(1, 5)):
            words += [f"w{chance.randrange(alphabet)}" for _ in range(chance.randint(0, 12))]
            if texts:
                other = chance.choice(texts)
                start = chance.randrange(len(other) + 1)
                words += other[start : start + chance.randint(4, 25)]
        texts.append(words)
    return texts


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 1 << 30), st.sampled_from([3, 30, 10_000]))
def test_cuts_exactly_what_a_plain_reading_finds(seed: int, alphabet: int) -> None:
    texts = pasted(seed, alphabet)
    joined = [" ".join(words) for words in texts]
    found = find(joined, CHOSEN)
    left = {number: "" if one.drop else without(joined[number], one.cut) for number, one in found.items()}
    rests = [left.get(number, text).split() for number, text in enumerate(joined)]
    assert rests == plain_rest(texts, LEAST)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 1 << 30))
def test_each_passage_is_the_text_it_names(seed: int) -> None:
    texts = [" ".join(words) for words in pasted(seed, 50)]
    for number, repeated in find(texts, CHOSEN).items():
        for passage in repeated.passages:
            assert passage.earlier < number
            mine = texts[number][passage.begin : passage.end]
            assert mine == texts[passage.earlier][passage.earlier_begin : passage.earlier_end]
            assert len(mine.split()) >= LEAST


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=8, max_size=80))
def test_every_passage_holds_an_anchor(words: list[str]) -> None:
    found = anchors(" ".join(words), CHOSEN)["word"].tolist()
    grams = [tuple(words[start : start + CHOSEN.gram]) for start in range(len(words))]
    for start in range(len(words) - LEAST + 1):
        inside = [word for word in found if start <= word <= start + LEAST - CHOSEN.gram]
        window = grams[start : start + CHOSEN.window]
        assert inside or any(window[place] == window[place + 1] for place in range(len(window) - 1))


def sentence(seed: int, words: int) -> str:
    return " ".join(f"{random.Random(seed * 1000 + place).randrange(10**6):x}" for place in range(words))


def test_case_and_punctuation_make_no_difference_and_go_with_the_passage() -> None:
    passage = "The Words\u2014of a “passage”, \u00c9t\u00e9, are (these) nine words."
    texts = [f"Once: {passage}", f"Before it. {passage.upper()}\n\nBehind it."]
    found = find(texts, CHOSEN)
    assert without(texts[1], found[1].cut) == "Before it. Behind it."
    [only] = found[1].passages
    assert texts[0][only.earlier_begin : only.earlier_end] == passage.rstrip(".")


def test_of_a_default_passage_49_words_stay_and_50_go() -> None:
    first = sentence(1, 300)
    part = first.split()[100:150]
    chosen = SubstringSettings()
    short = f"{sentence(2, 100)} {' '.join(part[:49])} {sentence(3, 100)}"
    long = f"{sentence(4, 100)} {' '.join(part)} {sentence(5, 100)}"
    found = find([first, short, long], chosen)
    assert list(found) == [2]
    assert without(long, found[2].cut) == f"{sentence(4, 100)} {sentence(5, 100)}"
    assert found[2].own_share == 0.8 and not found[2].drop


def test_a_document_made_of_passages_is_dropped_and_is_no_earlier_text() -> None:
    first, own = sentence(1, 60), sentence(2, 10)
    texts = [first, f"{own} {first}", f"{own} {sentence(3, 60)}"]
    found = find(texts, SubstringSettings(min_words=8, min_remaining=0.5))
    assert found[1].drop and found[1].cut == []
    assert list(found) == [1], "the words of the dropped document were not earlier text"
    assert 2 in find([first, own, texts[2]], SubstringSettings(min_words=8))


def test_what_would_be_left_empty_is_dropped_whatever_may_remain() -> None:
    first = sentence(1, 60)
    found = find([first, f"\u2014 {first.upper()}!", f"{first} own"], SubstringSettings(min_words=8, min_remaining=0))
    assert (found[1].drop, found[1].cut) == (True, [])
    assert not found[2].drop and found[2].cut
    whole = SubstringSettings(min_words=8, min_remaining=0, action="drop_document")
    assert not find([first, first], whole)[1].drop


def test_drop_document_cuts_nothing() -> None:
    first = sentence(1, 60)
    texts = [first, f"{first} {sentence(2, 10)}", f"{first} {sentence(3, 90)}"]
    found = find(texts, SubstringSettings(action="drop_document", min_remaining=0.5))
    assert (found[1].drop, found[2].drop) == (True, False)
    assert found[1].cut == found[2].cut == []


def test_documents_that_were_dropped_before_take_no_part() -> None:
    first = sentence(1, 60)
    assert find([first, first], SubstringSettings(), staying=[False, True]) == {}


def test_sorting_in_several_parts_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(words) for words in pasted(5, 40)]
    whole = find(texts, CHOSEN)
    monkeypatch.setattr(substring, "_PART_BYTES", 64)
    assert find(texts, CHOSEN) == whole != {}


def test_one_word_again_and_again_costs_little() -> None:
    text = "word " * 100_000
    assert len(anchors(text, SubstringSettings())) == 2
    assert find([text, text], SubstringSettings())[1].drop
