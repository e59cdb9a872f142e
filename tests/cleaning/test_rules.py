"""For each threshold of each rule set the smallest text just inside and just outside of it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from llmforge.cleaning.rules.fineweb import FineWeb
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
from llmforge.cleaning.rules.rule_sets import Rules, RuleSet, judge
from llmforge.cleaning.signals.measure import measure
from llmforge.cleaning.verdict import Drop, Keep

# Other thresholds of the same set are opened so that only the one in question decides.
OPEN_QUALITY = {
    "min_words": 0,
    "max_words": 10**9,
    "min_mean_word_length": 0.0,
    "max_mean_word_length": 1e9,
    "max_hash_word_ratio": 1e9,
    "max_ellipsis_word_ratio": 1e9,
    "max_bullet_line_ratio": 1.0,
    "max_ellipsis_line_ratio": 1.0,
    "min_alpha_word_ratio": 0.0,
    "min_stop_words": 0,
}


def quality(threshold: str) -> GopherQuality:
    own = {key: value for key, value in OPEN_QUALITY.items() if key != threshold}
    return GopherQuality.model_validate(own)


def repetition(threshold: str) -> GopherRepetition:
    return GopherRepetition.model_validate(
        {key: 1.0 for key in GopherRepetition.model_fields if key not in ("name", threshold)}
    )


def fineweb(threshold: str) -> FineWeb:
    opened = {
        "min_punctuated_line_ratio": 0.0,
        "max_short_line_ratio": 1.0,
        "max_duplicate_line_character_ratio": 1.0,
        "max_newline_word_ratio": 1e9,
    }
    return FineWeb.model_validate({key: value for key, value in opened.items() if key != threshold})


def different(count: int, length: int = 5) -> list[str]:
    """Words of one length, all different."""
    return [f"{number:0{length}x}".translate(str.maketrans("0123456789", "ghijklmnop")) for number in range(count)]


def lines(count: int, ending: str, length: int = 40) -> list[str]:
    return [word * (length // 5) + ending for word in different(count)]


QUALITY_CASES = [
    ("min_words", "a " * 50, "a " * 49),
    ("max_words", "a " * 100_000, "a " * 100_001),
    ("min_mean_word_length", "abc abc", "abc ab"),
    ("max_mean_word_length", "abcdefghij", "abcdefghijk"),
    ("max_hash_word_ratio", "# " + "a " * 9, "# " + "a " * 8),
    ("max_ellipsis_word_ratio", "a... " + "a " * 9, "a... " + "a " * 8),
    ("max_ellipsis_word_ratio", "a… " + "a " * 9, "a… " + "a " * 8),
    ("max_bullet_line_ratio", "- a\n" * 9 + "a", "- a\n" * 9 + "- a"),
    ("max_bullet_line_ratio", "• a\n" * 9 + "a", "• a\n" * 10 + "a"),
    ("max_ellipsis_line_ratio", "a...\n" * 3 + "a\n" * 7, "a...\n" * 3 + "a\n" * 6),
    ("min_alpha_word_ratio", "a a a a 1", "a a a 1"),
    ("min_stop_words", "the that", "the the"),
    ("min_stop_words", "be with", "Be With"),
]

_WORDS = different(200)
_LINES = lines(20, "")
# Ten runs' characters over the whole: r repeated words among distinct ones, lengths chosen around each threshold.


def top_text(size: int, filler: int) -> str:
    """A run of `size` words twice, parted by distinct words, among `filler` of them."""
    run = _WORDS[:size]
    rest = _WORDS[size : size + filler]
    return " ".join([*run, *rest, *run])


REPETITION_CASES = [
    ("max_duplicate_line_ratio", "\n".join([*"abcdefg", "a", "b", "c"]), "\n".join([*"abcdef", "a", "b", "c"])),
    ("max_duplicate_line_character_ratio", "aaaa\nbbbbbbbb\naaaa\n\n\n", "aaaa\nbbbbbb\naaaa\n"),
    (
        "max_duplicate_paragraph_ratio",
        "\n\n".join([*"abcdefg", "a", "b", "c"]),
        "\n\n".join([*"abcdef", "a", "b", "c"]),
    ),
    ("max_duplicate_paragraph_character_ratio", "aaaa\n\nbbbbbb\n\naaaa\n\n", "aaaa\n\nbbbbb\n\naaaa"),
    ("max_top_2_gram_character_ratio", top_text(2, 15), top_text(2, 14)),  # 22 of 113 and of 107 characters
    ("max_top_3_gram_character_ratio", top_text(3, 26), top_text(3, 25)),
    ("max_top_4_gram_character_ratio", top_text(4, 41), top_text(4, 40)),
    ("max_duplicate_5_gram_character_ratio", top_text(5, 18), top_text(5, 17)),  # 25 of 167 and of 161
    ("max_duplicate_6_gram_character_ratio", top_text(6, 24), top_text(6, 23)),
    ("max_duplicate_7_gram_character_ratio", top_text(7, 32), top_text(7, 31)),
    ("max_duplicate_8_gram_character_ratio", top_text(8, 40), top_text(8, 39)),
    ("max_duplicate_9_gram_character_ratio", top_text(9, 51), top_text(9, 50)),
    ("max_duplicate_10_gram_character_ratio", top_text(10, 64), top_text(10, 63)),
]

FINEWEB_CASES = [
    ("min_punctuated_line_ratio", "a.\n" * 3 + "a\n" * 22, "a.\n" * 3 + "a\n" * 23),
    (
        "max_short_line_ratio",
        "\n".join(["a" * 30] * 67 + ["b" * 31] * 33),
        "\n".join(["a" * 30] * 68 + ["b" * 31] * 32),
    ),
    ("max_duplicate_line_character_ratio", "a\na\n" + "b" * 98, "a\na\n" + "b" * 97),
    ("max_newline_word_ratio", "a b c d e f g\nh\ni\nj", "a b c d e f\ng\nh\ni"),
]


def check(rules: RuleSet, threshold: str, inside: str, outside: str) -> None:
    assert rules.judge(measure(inside)) is None
    drop = rules.judge(measure(outside))
    assert drop is not None
    assert (drop.rule, drop.threshold) == (rules.name, threshold)
    assert drop.because.startswith("it has ")
    value, limit = drop.because.split()[2], drop.because.split()[-1]
    assert value != limit  # the reason shows the difference


@pytest.mark.parametrize(("threshold", "inside", "outside"), QUALITY_CASES)
def test_gopher_quality(threshold: str, inside: str, outside: str) -> None:
    check(quality(threshold), threshold, inside, outside)


@pytest.mark.parametrize(("threshold", "inside", "outside"), REPETITION_CASES)
def test_gopher_repetition(threshold: str, inside: str, outside: str) -> None:
    check(repetition(threshold), threshold, inside, outside)


@pytest.mark.parametrize(("threshold", "inside", "outside"), FINEWEB_CASES)
def test_fineweb(threshold: str, inside: str, outside: str) -> None:
    check(fineweb(threshold), threshold, inside, outside)


@pytest.mark.parametrize("rules", [GopherQuality, GopherRepetition, FineWeb])
def test_every_threshold_has_a_case(rules: type[RuleSet]) -> None:
    cases = {"GopherQuality": QUALITY_CASES, "GopherRepetition": REPETITION_CASES, "FineWeb": FINEWEB_CASES}
    tried = {threshold for threshold, _, _ in cases[rules.__name__]}
    assert tried == {key for key in rules.model_fields if key.startswith(("min_", "max_"))}


def test_published_defaults() -> None:
    quality_defaults = GopherQuality().model_dump(exclude={"name"})
    assert list(quality_defaults.values()) == [50, 100_000, 3.0, 10.0, 0.1, 0.1, 0.9, 0.3, 0.8, 2]
    repetition_defaults = GopherRepetition().model_dump(exclude={"name"})
    assert list(repetition_defaults.values()) == [
        0.30, 0.30, 0.20, 0.20, 0.20, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.10,
    ]  # fmt: skip
    assert FineWeb().model_dump(exclude={"name"}) == {
        "min_punctuated_line_ratio": 0.12,
        "short_line_characters": 30,
        "max_short_line_ratio": 0.67,
        "max_duplicate_line_character_ratio": 0.01,
        "max_newline_word_ratio": 0.3,
    }


def test_first_rule_set_that_fails_gives_the_reason() -> None:
    signals = measure("too short")
    assert judge([], signals) == Keep()
    first = judge([FineWeb(), GopherQuality()], signals)
    assert isinstance(first, Drop) and first.rule == "fineweb"
    first = judge([GopherQuality(), FineWeb()], signals)
    assert isinstance(first, Drop) and first.name == "gopher_quality.min_words"
    assert first.because == "it has 2 words, less than 50"


def test_one_number_changed_changes_the_verdict() -> None:
    text = "One sentence that stands here for a short but honest note of the day."
    assert isinstance(Rules([GopherQuality()])(text), Drop)
    assert isinstance(Rules([GopherQuality(min_words=10)])(text), Keep)


def test_unknown_threshold_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_word"):
        GopherQuality.model_validate({"min_word": 3})
