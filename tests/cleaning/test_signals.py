"""Signals against hand-worked numbers and against a slow, plain reading of the published definitions."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.cleaning.rules.fineweb import FineWeb
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
from llmforge.cleaning.rules.threshold import Bounds
from llmforge.cleaning.signals.characters import (
    alphabetic_ratio,
    alphanumeric_ratio,
    count_sentences,
    encoded_signals,
    generated_marks,
    uppercase_ratio,
)
from llmforge.cleaning.signals.lines import line_signals, part_signals
from llmforge.cleaning.signals.links import without_links
from llmforge.cleaning.signals.measure import Meter
from llmforge.cleaning.signals.repetition import DUPLICATE_SIZES, MAX_WORDS, TOP_SIZES, run_signal, run_signals
from llmforge.cleaning.signals.words import WordKind, number_words, split_words, word_signals, words_of

BOOKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "books-valid.jsonl"


def shares(text: str, kind: WordKind = "whitespace") -> dict[str, float]:
    return word_signals(text, words_of(text, kind), kind)


def signals_of_default_rules() -> set[str]:
    return Bounds([GopherQuality(), GopherRepetition(), FineWeb()]).signals


def test_hand_worked() -> None:
    text = "- The cat and the dog...\n\n# 12 and 13 have # no name…\nThe end."
    found = shares(text)
    words = 6 + 8 + 2
    # "-" and "#" (twice) are no words of letters or digits; "12" and "13" are, but without a letter.
    spoken = ["The", "cat", "and", "the", "dog...", "12", "and", "13", "have", "no", "name…", "The", "end."]
    assert found == {
        "num_words": words,
        "mean_word_length": sum(map(len, spoken)) / len(spoken),
        "hash_word_ratio": 2 / words,
        "ellipsis_word_ratio": 2 / words,
        "alpha_word_ratio": 11 / words,
        "num_stop_words": 3,  # the, and, have
        "newline_word_ratio": 3 / words,
    }
    assert line_signals(text, [7, 8, 23, 24]) == {
        "num_lines": 3,
        "bullet_line_ratio": 1 / 3,
        "ellipsis_line_ratio": 2 / 3,
        "punctuated_line_ratio": 1.0,
        "duplicate_line_character_ratio.without_newlines": 0.0,
        "short_line_ratio.7": 0.0,
        "short_line_ratio.8": 1 / 3,
        "short_line_ratio.23": 1 / 3,
        "short_line_ratio.24": 2 / 3,
    }


def test_punctuation_marks_are_words_when_asked_for() -> None:
    text = "I don't know -- 3.5 km, 1,000 m... (no)!"
    assert split_words("see os.path.join(a) at 12:30 a/b, 'so' x-y", "punctuation") == [
        "see", "os.path.join(a", ")", "at", "12:30", "a", "/", "b", ",", "'", "so", "'", "x", "-", "y",
    ]  # fmt: skip
    assert split_words(text, "punctuation") == [
        "I", "don", "'t", "know", "--", "3.5", "km", ",", "1,000", "m", "...", "(", "no", ")", "!",
    ]  # fmt: skip
    found = shares(text, "punctuation")
    assert found["num_words"] == 9  # marks left out
    assert found["alpha_word_ratio"] == 7 / 15  # and counted here
    assert found["mean_word_length"] == (1 + 3 + 2 + 4 + 3 + 2 + 5 + 1 + 2) / 9


def test_empty_text_has_no_ratio() -> None:
    for kind in ("whitespace", "punctuation"):
        assert set(shares("", kind).values()) == {0}
    assert set(line_signals("", [30]).values()) == {0}
    assert set(part_signals("").values()) == {0}
    assert set(run_signals("", number_words([[]]), TOP_SIZES).values()) == {0}
    assert count_sentences("") == 0 and alphanumeric_ratio("") == 0.0


def test_duplicate_lines_count_from_the_second_coming() -> None:
    text = "abcd\nxy\nabcd\nabcd"
    assert line_signals(text, ())["duplicate_line_character_ratio.without_newlines"] == 8 / 14
    assert part_signals(text)["duplicate_line_ratio"] == 2 / 4
    assert part_signals(text)["duplicate_line_character_ratio"] == 8 / 17


@given(st.text(max_size=200))
def test_words_of_white_space_are_those_of_split(text: str) -> None:
    words = text.split()
    found = shares(text)
    assert found["num_words"] == len(words)
    spoken = [word for word in words if any(map(str.isalnum, word))]
    assert found["mean_word_length"] == pytest.approx(sum(map(len, spoken)) / max(len(spoken), 1))
    lettered = sum(any(map(str.isalpha, word)) for word in words)
    assert found["alpha_word_ratio"] == lettered / max(len(words), 1)
    assert "".join(split_words(text, "punctuation")) == "".join(words)  # nothing lost between the two readings


@given(st.text(alphabet="ab.'-(\u2003\n ", max_size=60), st.integers(1, 12))
def test_a_text_in_pieces_has_the_same_words(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmforge.cleaning.signals.words.PIECE", size)
        for kind in ("whitespace", "punctuation"):
            pieces, whole = words_of(text, kind), number_words([split_words(text, kind)])
            assert pieces.places == whole.places
            assert pieces.numbers.tolist() == whole.numbers.tolist()
            assert pieces.lengths.tolist() == whole.lengths.tolist()


def test_memory_of_a_huge_text_is_bounded() -> None:
    text = "the quick brown fox jumps over it. " * 300_000  # 10 MB, two million words
    meter = Meter(signals_of_default_rules())
    meter.measure("warm up", "warm up")
    tracemalloc.start()
    meter.measure(text, text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * len(text)  # 5.5 when written; a list of all words alone is 11


@given(st.text(max_size=100))
def test_character_shares_are_those_of_str(text: str) -> None:
    assert alphanumeric_ratio(text) == sum(map(str.isalnum, text)) / max(len(text), 1)
    assert alphabetic_ratio(text) == sum(map(str.isalpha, text)) / max(len(text), 1)
    assert uppercase_ratio(text) == sum(map(str.isupper, text)) / max(len(text), 1)


def test_sentences() -> None:
    assert count_sentences("Mr. A. Smith came. Who? Nobody!") == 3
    assert count_sentences("no end mark\n\nanother line.\n") == 2
    assert count_sentences('"Yes!" he said. "Why... no?"') == 4


def test_encoded_data() -> None:
    assert encoded_signals("x " * 100) == {"longest_encoded_run": 0, "encoded_ratio": 0.0}
    assert encoded_signals("(" + "Ab+/" * 16 + ")") == {"longest_encoded_run": 64, "encoded_ratio": 64 / 66}
    assert encoded_signals("(" + "Ab+/" * 15 + "Ab+)")["longest_encoded_run"] == 0
    assert encoded_signals("(0x1f, 0x2e, " * 4 + ")")["longest_encoded_run"] == 0  # parted by the brackets
    assert encoded_signals("{" + "0x1f," * 8 + "}") == {"longest_encoded_run": 40, "encoded_ratio": 40 / 42}
    assert encoded_signals(r"\u00e9" * 8)["longest_encoded_run"] == 48


def test_generated_marks_are_looked_for_in_five_lines() -> None:
    assert generated_marks("\n\n\n\n# Automatically generated by x") == 1
    assert generated_marks("\n\n\n\n\n# Automatically generated by x") == 0


def test_links() -> None:
    assert without_links("See https://a.org/b?c#d and www.x.de/y, or foo.com/bar.") == "See and or"
    assert without_links("mail me@foo.com at 10.1.2.3:80/x now, 1.2.3.4.5 e.g. this.") == (
        "mail me@foo.com at now, 1.2.3.4.5 e.g. this."
    )


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000 + "!",
        "a." * 100_000,
        "ab " * 60_000,
        "!" * 200_000,
        "\\u" * 100_000,
        " " * 200_000 + "1",
        "1." * 99_999,
        "-" * 200_000 + "www.",
    ],
    ids=lambda text: text[:3],
)
def test_hostile_text_takes_no_longer_than_others(text: str) -> None:
    start = time.perf_counter()
    count_sentences(text)
    encoded_signals(text)
    without_links(text)
    shares(text, "punctuation")
    assert time.perf_counter() - start < 5.0


def test_only_what_was_asked_for_is_measured() -> None:
    always = {"num_characters", "num_characters_before", "removed_word_ratio", "removed_line_ratio"}
    assert set(Meter([]).measure("a b", "a b").values) == always
    names = {"num_words.punctuation", "short_line_ratio.3", "top_2_gram_character_ratio", "longest_encoded_run"}
    assert set(Meter(names).measure("a b", "a b").values) == always | names
    with pytest.raises(AssertionError, match="no such signal"):
        Meter(["num_wrods"])


def test_what_edits_removed() -> None:
    found = Meter(["removed_word_ratio.without_links"]).measure("a b c", "a b c\n\nd http://x.org\ne\n")
    assert found["removed_word_ratio"] == 3 / 6
    assert found["removed_word_ratio.without_links"] == 2 / 5
    assert found["removed_line_ratio"] == 2 / 3
    assert (found["num_characters"], found["num_characters_before"]) == (5, 24)


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
    found = run_signals(text, number_words([words]), (*TOP_SIZES, *DUPLICATE_SIZES))
    length = max(len(text), 1)
    for size in TOP_SIZES:
        assert found[run_signal(size)] == plain_top(words, size) / length
    for size in DUPLICATE_SIZES:
        assert found[run_signal(size)] == plain_duplicates(words, size) / length


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=120))
def test_runs_equal_the_plain_definition(words: list[str]) -> None:
    check_runs(" ".join(words))


def test_sizes_that_are_not_asked_for_change_nothing() -> None:
    words = number_words([("a b c d e f g " * 5).split()])
    everything = run_signals("a b c d e f g " * 5, words, (*TOP_SIZES, *DUPLICATE_SIZES))
    assert run_signals("a b c d e f g " * 5, words, (3, 7)) == {
        name: everything[name] for name in (run_signal(3), run_signal(7))
    }


def test_runs_are_looked_for_in_the_first_words_only() -> None:
    words = [f"{number}" for number in range(MAX_WORDS)] + ["1", "2", "3"]
    assert set(run_signals(" ".join(words), number_words([words]), (2, 3)).values()) == {0.0}


@pytest.mark.skipif(not BOOKS.exists(), reason="needs ../shared/data/books-valid.jsonl")
def test_runs_of_real_prose_equal_the_plain_definition() -> None:
    rows = [json.loads(line)["text"] for line in BOOKS.read_text(encoding="utf-8").splitlines()[:20]]
    for text in rows:
        check_runs(text)
    check_runs(rows[0] + rows[1] + rows[0])
