"""For each threshold of each rule set the smallest text just inside and just outside of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmforge.cleaning.rules.c4 import C4
from llmforge.cleaning.rules.code import Code
from llmforge.cleaning.rules.dclm import Dclm
from llmforge.cleaning.rules.fineweb import FineWeb
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
from llmforge.cleaning.rules.gutenberg import Gutenberg
from llmforge.cleaning.rules.rule_sets import JUDGES, Rules, RuleSet, direction_of, signal_of
from llmforge.cleaning.rules.threshold import Judge
from llmforge.cleaning.rules.web_boilerplate import WebBoilerplate
from llmforge.cleaning.signals.measure import Signals
from llmforge.cleaning.verdict import Drop

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
        {key: 1.0 for key in GopherRepetition.model_fields if key not in ("name", "words", threshold)}
    )


def fineweb(threshold: str) -> FineWeb:
    opened = {
        "min_punctuated_line_ratio": 0.0,
        "max_short_line_ratio": 1.0,
        "max_duplicate_line_character_ratio": 1.0,
        "max_newline_word_ratio": 1e9,
    }
    return FineWeb.model_validate({key: value for key, value in opened.items() if key != threshold})


def c4(threshold: str, **more: object) -> C4:
    opened = {"max_characters": None, "min_sentences": 0, "max_lorem_ipsum": None, "max_curly_brackets": None}
    return C4.model_validate({**{key: value for key, value in opened.items() if key != threshold}, **more})


def code(threshold: str) -> Code:
    fields = (key for key in Code.model_fields if key.startswith(("min_", "max_")))
    return Code.model_validate({**{key: None for key in fields if key != threshold}})


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


# "a" * 40 is a line of one word, long enough to be prose to no other threshold.
C4_CASES = [
    ("max_characters", "word " * 38_000, "word " * 38_000 + "."),
    ("max_lorem_ipsum", "a b c lorem d e.", "a b c Lorem Ipsum d e."),
    ("max_curly_brackets", "a b c d (e).", "a b c d {e}."),
    ("min_sentences", "One two three four five. Six?\nA b c d e!", "One two three four five. Six?"),
]

CODE_CASES = [
    ("min_characters", "a" * 100, "a" * 99),
    ("max_lines", "\n" * 99_999, "\n" * 100_000),
    ("max_line_characters", "a" * 1000 + "\nb", "a" * 1001 + "\nb"),
    ("max_mean_line_characters", "a" * 150 + "\n" + "b" * 50, "a" * 150 + "\n" + "b" * 51),
    ("min_alphanumeric_ratio", "1+++", "1++++"),
    ("min_alphabetic_ratio", "a1++", "a1+++"),
    ("max_xml_declarations", " " * 87 + "<?xml version=", " " * 86 + "<?xml version="),
    ("max_generated_marks", "# generated", "# autogenerated"),
    ("max_encoded_run", "aB3/" * 256, "aB3/" * 256 + "="),
    ("max_encoded_ratio", "(" * 32 + "aB3/" * 16 + ")" * 32, "(" * 32 + "aB3/" * 16 + ")" * 31),
]

DCLM_CASES = [
    (
        "max_removed_word_ratio",
        "\n".join(["some words"] * 19 + ["TWO WORDS"]),
        "\n".join(["some words"] * 18 + ["TWO WORDS"]),
    ),
    # Links that were cut out count neither among the words removed nor among all.
    (
        "max_removed_word_ratio",
        "\n".join(["some words www.x.org"] * 19 + ["TWO WORDS"]),
        "\n".join(["some words www.x.org"] * 18 + ["TWO WORDS"]),
    ),
]


def drops_of(step: Rules, text: str) -> list[Drop]:
    return step.judge_all(step.measure(step.edit(text).text, text))


def check(rules: RuleSet, threshold: str, inside: str, outside: str) -> None:
    step = Rules([rules])
    edited = step.edit(inside)
    assert step.judge_all(step.measure(edited.text, inside)) == []
    edited = step.edit(outside)
    (drop,) = step.judge_all(step.measure(edited.text, outside))
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


@pytest.mark.parametrize(("threshold", "inside", "outside"), C4_CASES)
def test_c4(threshold: str, inside: str, outside: str) -> None:
    check(c4(threshold, end_marks="", min_line_words=0), threshold, inside, outside)


@pytest.mark.parametrize(("threshold", "inside", "outside"), CODE_CASES)
def test_code(threshold: str, inside: str, outside: str) -> None:
    check(code(threshold), threshold, inside, outside)


@pytest.mark.parametrize(("threshold", "inside", "outside"), DCLM_CASES)
def test_dclm(threshold: str, inside: str, outside: str) -> None:
    check(Dclm(), threshold, inside, outside)


@pytest.mark.parametrize("rules", JUDGES)
def test_every_threshold_has_a_case(rules: type[Judge]) -> None:
    cases = {
        "GopherQuality": QUALITY_CASES,
        "GopherRepetition": REPETITION_CASES,
        "FineWeb": FINEWEB_CASES,
        "C4": C4_CASES,
        "Code": [*CODE_CASES, ("max_characters", "", "")],  # opened below
        "Dclm": DCLM_CASES,
    }
    tried = {threshold for threshold, _, _ in cases[rules.__name__]}
    assert tried == {limit.key for limit in rules().limits()}


def test_code_may_have_a_largest_size() -> None:
    rules = code("max_characters").model_copy(update={"max_characters": 5000})
    check(rules, "max_characters", "a" * 5000, "a" * 5001)


def test_published_defaults() -> None:
    quality_defaults = GopherQuality().model_dump(exclude={"name", "words"})
    assert list(quality_defaults.values()) == [50, 100_000, 3.0, 10.0, 0.1, 0.1, 0.9, 0.3, 0.8, 2]
    repetition_defaults = GopherRepetition().model_dump(exclude={"name", "words"})
    assert list(repetition_defaults.values()) == [
        0.30, 0.30, 0.20, 0.20, 0.20, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.10,
    ]  # fmt: skip
    assert FineWeb().model_dump(exclude={"name", "words"}) == {
        "min_punctuated_line_ratio": 0.12,
        "short_line_characters": 30,
        "max_short_line_ratio": 0.67,
        "max_duplicate_line_character_ratio": 0.01,
        "max_newline_word_ratio": 0.3,
    }
    numbers = ("min_line_words", "end_marks", "min_sentences", "max_characters")
    for variant, expected in {
        "reference": [5, '.?!"', 3, 190_000],
        "datatrove": [3, ".?!\"'", 5, None],
        "fineweb": [3, "", 5, None],
    }.items():
        rules = C4.model_validate({"variant": variant})
        assert [getattr(rules, key) for key in numbers] == expected
        assert C4.model_validate(rules.model_dump()) == rules
    assert C4.model_validate({"variant": "datatrove", "min_sentences": 1}).min_sentences == 1


def test_every_threshold_that_fails_is_told_in_the_order_of_the_config() -> None:
    step = Rules([FineWeb(), GopherQuality()])
    drops = step.judge_all(step.measure("too short", "too short"))
    assert [drop.name for drop in drops] == [
        "fineweb.min_punctuated_line_ratio",
        "fineweb.max_short_line_ratio",
        "gopher_quality.min_words",
        "gopher_quality.min_stop_words",
    ]
    assert drops[2].because == "it has 2 words, less than 50"
    assert drops_of(Rules([]), "too short") == []
    assert drops_of(Rules([GopherQuality(), FineWeb()]), "too short")[0].name == "gopher_quality.min_words"
    judge = GopherQuality()
    signals = step.measure("too short", "too short")
    assert judge.judge(signals) == judge.judge_all(signals)[0] == drops[2]


def test_one_number_changed_changes_the_verdict() -> None:
    text = "One sentence that stands here for a short but honest note of the day."
    assert drops_of(Rules([GopherQuality()]), text)
    assert not drops_of(Rules([GopherQuality(min_words=10)]), text)


def test_what_a_word_is_can_be_switched() -> None:
    text = "a, b; c: d! 1"
    for words, ratio in (("whitespace", 4 / 5), ("punctuation", 4 / 9)):
        rules = GopherQuality.model_validate({"words": words})
        signal = signal_of("gopher_quality", "min_alpha_word_ratio", [rules])
        assert Rules([rules]).measure(text, text)[signal] == ratio


def test_unknown_threshold_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_word"):
        GopherQuality.model_validate({"min_word": 3})


EVERY_SET: list[RuleSet] = [
    GopherQuality(),
    GopherQuality(words="punctuation", min_words=5),
    GopherRepetition(),
    FineWeb(),
    C4(),
    Dclm(),
    Code(),
    Gutenberg(),
    WebBoilerplate(),
]
ALPHABET = st.sampled_from(
    ["The cat", " sat", ".", "\n", "\n\n", "#", "{", "...", " 12", "HOME ", "- ", "é", "http://a.org "]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ALPHABET, max_size=60).map("".join), st.permutations(EVERY_SET), st.integers(1, len(EVERY_SET)))
def test_a_stored_row_gives_the_same_verdicts(text: str, order: list[RuleSet], count: int) -> None:
    step = Rules(order[:count])
    edited = step.edit(text)
    signals = step.measure(edited.text, text)
    row = signals.as_row()
    assert all(type(value) is float for value in row.values())
    drops = step.judge_all(signals)
    assert step.judge_all(Signals.from_row(row)) == drops
    for judge in order[:count]:
        if isinstance(judge, Judge):
            assert [drop for drop in judge.judge_all(signals)] == list(judge.judge_all(Signals.from_row(row)))


def test_each_threshold_names_its_signal_and_direction() -> None:
    step = Rules(EVERY_SET)
    row = step.measure("a b c", "a b c").as_row()
    for rules in JUDGES:
        judge = rules()
        for limit in judge.limits():
            assert direction_of(limit.key) == limit.direction == limit.key[:3]
            name = signal_of(judge.name, limit.key)  # type: ignore[attr-defined]
            assert name == limit.signal
            if getattr(judge, limit.key) is not None:
                assert name in row
    with pytest.raises(KeyError, match=r"fineweb\.min_words"):
        signal_of("fineweb", "min_words")
