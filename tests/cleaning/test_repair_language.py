"""Repair on the smallest broken texts, language on short ones; both pure."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from llmforge.cleaning.language import CODES, Language, LanguageSettings, judge_language, sample
from llmforge.cleaning.repair import Repair, RepairSettings
from llmforge.cleaning.verdict import Drop, Keep, Rewrite

REPAIR = Repair(RepairSettings())


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("a\x00b\x07c\x1f\x7f", "abc"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("page\x0cpage", "page\npage"),
        ("line\u2028line\u2029line", "line\nline\nline"),
        ("one\x85 two", "one… two"),  # a Windows-1252 ellipsis read as Latin-1
        ("caf\u00c3\u00a9 au lait", "café au lait"),  # UTF-8 read as Latin-1
        ("don\u00e2\u20ac\u2122t", "don\u2019t"),  # UTF-8 read as Windows-1252
        ("caf&eacute; &amp; more", "café & more"),
        ("e\u0301te\u0301", "été"),
        ("\ufb01ne", "fine"),
        ("zero\u200bwidth\ufeff soft\u00adhyphen", "zerowidth softhyphen"),
        ("left \u202eright\u202c", "left right"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
        ("\x1b[31mred\x1b[0m", "red"),
    ],
)
def test_mends(broken: str, mended: str) -> None:
    assert REPAIR(broken) == Rewrite(mended)
    assert REPAIR(mended) == Keep()


@pytest.mark.parametrize(
    "text",
    [
        "plain text\twith a tab\nand a line",
        "typographic “quotes”, a dash — and an ellipsis…",
        "naïve façade, Ångström, Œuvre",
        "<p>&amp; stays where there is HTML</p>",
        "می‌خواهم",  # the zero-width non-joiner belongs to Persian
        "日本語の文章です。",
        "Привет, мир",
        "&notanentity and a && b",
    ],
)
def test_leaves_whole_text_alone(text: str) -> None:
    assert REPAIR(text) == Keep()


def test_entities_can_be_left() -> None:
    assert Repair(RepairSettings(html_entities=False))("a &lt; b") == Keep()
    assert REPAIR("a &lt; b") == Rewrite("a < b")


def test_encoding_can_be_left() -> None:
    broken = "caf\u00c3\u00a9 au lait"
    assert Repair(RepairSettings(encoding=False))(broken) == Keep()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Return a copy of the array, sorted along the given axis.", "en"),
        ("Der Hund liegt im Garten und wartet auf seinen Freund.", "de"),
        ("Le chien dort dans le jardin avec son ami.", "fr"),
        ("Собака спит в саду и ждёт своего друга.", "ru"),
    ],
)
def test_language(text: str, code: str) -> None:
    found = Language().identify(text)
    assert judge_language(LanguageSettings(keep=[code]), *found) is None
    dropped = judge_language(LanguageSettings(keep=["ja"]), *found)
    assert isinstance(dropped, Drop)
    assert dropped.name == "language.keep"
    assert code in dropped.because


def test_uncertain_language_is_dropped_by_its_score() -> None:
    uncertain = "Собака спит в саду вместе со своим другом."  # Russian, a little more likely than its neighbours
    told = Language().identify(uncertain)
    found = judge_language(LanguageSettings(keep=sorted(CODES), min_score=0.65), *told)
    assert isinstance(found, Drop)
    assert found.threshold == "min_score"
    assert judge_language(LanguageSettings(keep=sorted(CODES), min_score=0.0), *told) is None


def test_codes_are_the_classifiers() -> None:
    language = Language()
    language.identify("load it")
    assert set(language._identifier.labels) - {"zxx"} == CODES


def test_unknown_code_is_refused() -> None:
    with pytest.raises(ValidationError, match="english"):
        LanguageSettings(keep=["english"])


def test_sample_is_bounded_and_whole_for_short_texts() -> None:
    assert sample("short") == "short"
    assert len(sample("x" * 1_000_000)) < 1000
