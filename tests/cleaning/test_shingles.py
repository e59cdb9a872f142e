"""Words and runs of words against a plain reading of the definition."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.cleaning.dedup import shingles
from llmforge.cleaning.dedup.shingles import (
    flat_shingle_hashes,
    flat_word_hashes,
    shingle_hashes,
    word_hashes,
    word_spans,
)

PARTS = "[\x00-/:-@\\[-`{-\x7f\u00a0-\u00bf\u2000-\u206f\u3000-\u3003\u3008-\u3020\uff01-\uff0f\ufeff]"
OTHER = f"(?:(?![\u3000-\udfff])(?!{PARTS}).)"
WORD = re.compile(f"[\u3000-\udfff]{OTHER}*|{OTHER}+", re.S)
ASCII, ACCENTS, MARKS = (
    "aAbZ09 _-.\n",
    "\u00c9\u00e9\u00df\u0130\u03a3\u03c3\u00b5",
    "\u2019\u2014\u20ac\u3001\uff01\ufeff",
)
TEXT = st.text(st.sampled_from(ASCII + ACCENTS + MARKS + "\u212a\u2160\u6f22\u3042\uac00\U0001f600"), max_size=60)


def lower(character: str) -> str:
    return character.lower() if len(character.lower()) == 1 else character


def plain_words(text: str) -> list[str]:
    lowered = text.lower()
    lowered = lowered if len(lowered) == len(text) else "".join(map(lower, text))
    return WORD.findall(lowered.translate({code: " " for code in map(ord, lowered) if re.match(PARTS, chr(code))}))


@given(TEXT, TEXT)
def test_words_have_equal_numbers_exactly_when_they_are_equal(one: str, two: str) -> None:
    first, second = plain_words(one), plain_words(two)
    found, other = word_hashes(one).tolist(), word_hashes(two).tolist()
    assert (len(found), len(other)) == (len(first), len(second))
    by_word = dict(zip(first + second, found + other, strict=True))
    assert [by_word[word] for word in first + second] == found + other
    assert len(set(by_word.values())) == len(by_word)


@given(TEXT)
def test_spans_are_the_words(text: str) -> None:
    hashes, begins, ends = word_spans(text)
    assert np.array_equal(hashes, word_hashes(text))
    lowered = text.lower() if len(text.lower()) == len(text) else "".join(map(lower, text))
    assert [lowered[begin:end] for begin, end in zip(begins, ends, strict=True)] == plain_words(text)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=8), st.sampled_from([16, 64]))
def test_many_texts_at_once_give_what_each_gives_alone(texts: list[str], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "_PIECE", piece)
        hashes, offsets = flat_word_hashes(texts)
        runs, starts = flat_shingle_hashes(hashes, offsets, 3)
        for number, text in enumerate(texts):
            assert np.array_equal(hashes[offsets[number] : offsets[number + 1]], word_hashes(text))
            assert np.array_equal(np.unique(runs[starts[number] : starts[number + 1]]), shingle_hashes(text, 3))


def test_a_text_in_pieces_has_the_same_words() -> None:
    words = [f"w{number}\u00e9" for number in range(12_000)]
    text = " ".join(words)
    assert len(text.encode()) > shingles._PIECE
    alone = np.concatenate([word_hashes(word) for word in words])
    assert np.array_equal(word_hashes(text), alone)
    _, begins, ends = word_spans(text)
    assert [text[begin:end] for begin, end in zip(begins, ends, strict=True)] == words
