"""Features against a plain Python reference, and that a text's features are its own."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.cleaning.classify.features import Features, features_of, fold, sample
from llmforge.cleaning.classify.settings import FeatureSettings

MASK = (1 << 64) - 1
FACTOR, MIX, POWER = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0xD6E8FEB86659FD93
TEXTS = st.lists(
    st.text(st.sampled_from("aAbZ09 .,;\n\t\r_é’中文ひ한\ud800\x00\x7f") | st.characters(), max_size=40), max_size=8
)


def kind(byte: int) -> str:
    if byte == 0x0A:
        return "line"
    if byte <= 0x20 or byte == 0x7F:
        return "blank"
    return "word" if byte >= 0x80 or chr(byte).isalnum() else "mark"


def value(byte: int) -> int:
    folded = ord("0") if 48 <= byte < 58 else byte + 32 if 65 <= byte < 91 else byte
    mixed = (folded + 1) * FACTOR & MASK
    return ((mixed ^ mixed >> 29) * MIX & MASK) | 1


def mixed(number: int) -> int:
    number = (number ^ number >> 31) * MIX & MASK
    return number ^ number >> 29


def tokens(data: bytes) -> list[bytes]:
    found: list[bytearray] = []
    before = "blank"
    for byte in data:
        now = kind(byte)
        if now != "blank":
            if now != before or 0xE3 <= byte <= 0xED:
                found.append(bytearray())
            found[-1].append(byte)
        before = now
    return [bytes(token) for token in found]


def reference(text: str, wanted: FeatureSettings) -> dict[int, float]:
    data = sample(text, wanted.max_characters).encode("utf-8", "surrogatepass")
    words = [
        mixed(sum(value(byte) * pow(POWER, place % 1024, 1 << 64) for place, byte in enumerate(token)) & MASK)
        for token in tokens(data)
    ]
    hashes = []
    for length in range(1, wanted.words + 1):
        for first in range(len(words) - length + 1):
            number = 0
            for word in words[first : first + length]:
                number = (number * FACTOR + word) & MASK
            hashes.append(mixed(number if length == 1 else number ^ length))
    for first in range(len(data) - wanted.characters + 1 if wanted.characters else 0):
        number = 0
        for byte in data[first : first + wanted.characters]:
            number = (number * FACTOR + (0 if kind(byte) == "blank" else value(byte))) & MASK
        hashes.append(mixed(number ^ (64 + wanted.characters)))
    counts = Counter(number >> (64 - wanted.bits) for number in hashes)
    damped = {counter: math.log1p(count) for counter, count in counts.items()}
    length = math.sqrt(sum(part * part for part in damped.values()))
    return {counter: part / length for counter, part in sorted(damped.items())}


def by_text(parts: list[Features]) -> list[dict[int, float]]:
    found: list[dict[int, float]] = []
    for part in parts:
        rows: list[dict[int, float]] = [{} for _ in range(part.num_texts)]
        for text, counter, worth in zip(part.texts, part.counters, part.values, strict=True):
            rows[text][int(counter)] = float(worth)
        found += rows
    return found


@pytest.mark.parametrize(
    "wanted",
    [
        FeatureSettings(),
        FeatureSettings(words=1, bits=8),
        FeatureSettings(words=3, bits=22, characters=4),
        FeatureSettings(words=2, bits=12, characters=1),
    ],
    ids=str,
)
@settings(deadline=None, max_examples=60)
@given(texts=TEXTS)
def test_features_are_those_of_a_plain_reference(wanted: FeatureSettings, texts: list[str]) -> None:
    found = by_text(list(features_of(texts, wanted)))
    expected = [reference(text, wanted) for text in texts]
    assert [list(row) for row in found] == [list(row) for row in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert list(mine.values()) == pytest.approx(list(theirs.values()), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(texts=TEXTS, characters=st.sampled_from([0, 3]))
def test_what_else_is_in_the_batch_changes_no_bit(texts: list[str], characters: int) -> None:
    wanted = FeatureSettings(characters=characters)
    together = by_text(list(features_of(texts, wanted)))
    alone = [row for text in texts for row in by_text(list(features_of([text], wanted)))]
    assert together == alone


def test_many_texts_come_in_their_order_over_several_groups() -> None:
    texts = [f"word{'x' * (number % 7)} number {number * 'y'}" for number in range(3000)]
    parts = list(features_of(texts, FeatureSettings(bits=22)))
    assert len(parts) > 2 and sum(part.num_texts for part in parts) == 3000
    rows = by_text(parts)
    for number in (0, 1, 1023, 1024, 2999):
        assert rows[number] == by_text(list(features_of([texts[number]], FeatureSettings(bits=22))))[0]


def test_every_text_has_a_length_of_one_or_no_feature() -> None:
    for part in features_of(["one two", "", " \t", "a a a a"], FeatureSettings()):
        squares = np.bincount(part.texts, part.values**2, part.num_texts)
        assert squares.tolist() == pytest.approx([1, 0, 0, 1])


def test_case_digits_and_spacing_are_folded_and_marks_are_not() -> None:
    def row(text: str) -> dict[int, float]:
        return by_text(list(features_of([text], FeatureSettings())))[0]

    assert row("It cost  12 Pounds") == row("it cost 97\tpounds")
    assert row("it cost 12 pounds") != row("it cost 12 pounds!")
    assert row("one\ntwo") != row("one two")
    assert fold("AbÉ 19-Z") == "abÉ 00-z"


def test_a_long_text_is_judged_by_its_beginning_middle_and_end() -> None:
    text = "a" * 1000 + "b" * 1000 + "c" * 1000
    assert sample(text, 300) == "a" * 100 + "\n" + "b" * 100 + "\n" + "c" * 100
    assert sample("short", 300) == "short"
