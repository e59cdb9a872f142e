"""What the editing rule sets remove, line by line, and what they leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmforge.cleaning.rules.c4 import C4
from llmforge.cleaning.rules.dclm import Dclm
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gutenberg import Gutenberg
from llmforge.cleaning.rules.rule_sets import Rules
from llmforge.cleaning.rules.web_boilerplate import WebBoilerplate
from llmforge.cleaning.verdict import Drop

GOOD = "This is a line of seven words."


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("This line has no end mark", "no_end_mark"),
        ("This line ends in an ellipsis...", "no_end_mark"),
        ("This line ends in one quote'", "no_end_mark"),
        ("Only four words here.", "few_words"),
        ("Please enable JavaScript to see this.", "javascript"),
        ("Read about our privacy policy right here.", "policy"),
        ("This word is long: " + "a" * 1000 + ".", "long_word"),
    ],
)
def test_c4_removes(line: str, reason: str) -> None:
    edited = C4().edit(f"{GOOD}\n{line}\n{GOOD}")
    assert edited.text == f"{GOOD}\n{GOOD}"
    assert edited.removed == {f"c4.{reason}": len(line) + 1}


@pytest.mark.parametrize(
    "line",
    [
        "Five words are just enough.",
        'Does this end in "quotes?"',
        "a" * 1000 + " b c d e!",
        "Is { a bracket with a privacy policy?",
    ],
)
def test_c4_keeps(line: str) -> None:
    text = f"{GOOD}\n{line}"
    edited = C4().edit(text)
    assert edited.text is text and not edited.removed


def test_c4_as_datatrove_has_it() -> None:
    rules = C4.model_validate({"variant": "datatrove"})
    assert rules.edit("Three words here.").text == "Three words here."
    assert rules.edit("Only two.").text == ""
    assert rules.edit("It ends in 'quotes'").text == "It ends in 'quotes'"
    assert C4.model_validate({"variant": "fineweb"}).edit("no end mark here").text == "no end mark here"


def test_c4_cuts_citations_and_margins() -> None:
    edited = C4().edit("  It is so.[12] That is known[citation needed].  ")
    assert edited.text == "It is so. That is known."
    assert edited.removed == {"c4.citations_and_margins": 25}


def test_dclm_edits() -> None:
    text = "\n".join(
        [
            "See http://a.org/b for a longer line of prose, as it should be.",
            "",
            "",
            "",
            "THIS IS SHOUTED aloud",
            "12345",
            "3 likes",
            "Menu",
            "There are 2 items in cart",
            "Read more...",
            "Sign-in to go on",
            "A last line of prose.",
        ]
    )
    edited = Dclm().edit(text)
    assert edited.text.split("\n") == [
        "See for a longer line of prose, as it should be.",
        "",
        "There are 2",
        "to go on",
        "A last line of prose.",
    ]
    assert edited.removed == {
        "dclm.links": 15,
        "dclm.blank_lines": 2,
        "dclm.uppercase": 22,
        "dclm.numbers": 6,
        "dclm.counters": 8,
        "dclm.few_words": 5,
        "dclm.furniture": 14 + 13 + 8,
    }
    everything = Dclm(
        remove_links=False,
        max_uppercase_line_ratio=None,
        min_line_words=0,
        remove_number_lines=False,
        remove_counters=False,
        remove_furniture=False,
    )
    assert everything.edit(text).text == text.replace("\n\n\n\n", "\n\n")


def test_dclm_keeps_what_is_just_inside() -> None:
    for line in ("HALF half", "123 45", "3 apples", "two words", "We read more... and more of it"):
        assert Dclm().edit(line).text == line


HEAD = """The Project Gutenberg EBook of A Book, by Somebody

This eBook is for the use of anyone anywhere at no cost.

Title: A Book

*** START OF THIS PROJECT GUTENBERG EBOOK A BOOK ***
"""
OLD_HEAD = """***The Project Gutenberg Etext of A Book***
Please take a look at the important information in this header.

*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*
"""
FOOT = """
End of the Project Gutenberg EBook of A Book, by Somebody

*** END OF THIS PROJECT GUTENBERG EBOOK A BOOK ***

Updated editions will replace the previous one.
"""
BOOK = "CHAPTER I\n\nIt was a dark night.\n\nAnd so it began."


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        OLD_HEAD,
        HEAD.replace("A BOOK ***", "A BOOK OF A\nVERY LONG TITLE ***"),
        HEAD.replace("THIS PROJECT", "THE PROJECT"),
        OLD_HEAD + HEAD,
    ],
    ids=["new", "old", "two lines", "the", "both"],
)
@pytest.mark.parametrize(
    "foot",
    [FOOT, FOOT[58:], "\nThe end of Project Gutenberg's A Book, by Somebody\n", "\n***START: FULL LICENSE***\n"],
    ids=["both", "stars", "old", "licence"],
)
def test_gutenberg(head: str, foot: str) -> None:
    edited = Gutenberg().edit(head + "\n\n" + BOOK + "\n\n" + foot)
    assert edited.text == BOOK
    assert edited.removed["gutenberg.head"] == len(head.rstrip("\n"))
    assert edited.removed["gutenberg.foot"] > len(foot) - 3


def test_gutenberg_marks_of_transcribers() -> None:
    credits = "\n\n**The Project Gutenberg Etext of A Book**\n\n"
    credits += "Produced by A Volunteer and the Online\nDistributed Proofreading Team\n\n"
    marked = BOOK.replace("dark", "[Illustration: a lamp] dark").replace("And so", "And [Pg 12] so {13}")
    edited = Gutenberg().edit(HEAD + credits + marked + FOOT)
    assert edited.text == BOOK.replace("dark", " dark")
    assert {"gutenberg.credits", "gutenberg.page_marks", "gutenberg.illustrations"} < set(edited.removed)
    plain = Gutenberg(remove_credits=False, remove_page_marks=False, remove_illustrations=False)
    assert plain.edit(HEAD + credits + marked + FOOT).text == credits.strip() + "\n\n" + marked


@pytest.mark.parametrize("text", ["[Illustration: x] [Pg 12] a text.", "The end of the project came.", ""])
def test_other_text_is_left_as_it_is(text: str) -> None:
    edited = Gutenberg().edit(text)
    assert edited.text is text and not edited.removed


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Skip to main content", "buttons"),
        ("  Read more » ", "buttons"),
        ("Home | About us | Contact", "menus"),
        ("Home › Books › Old books", "menus"),
        ("We use cookies to make this site better. Accept?", "notices"),
        ("© 2019 Some Company", "notices"),
        ("1,234 views", "counters"),
    ],
)
def test_web_boilerplate_removes(line: str, reason: str) -> None:
    edited = WebBoilerplate().edit(f"{GOOD}\n{line}\n{GOOD}")
    assert edited.text == f"{GOOD}\n{GOOD}"
    assert edited.removed == {f"web_boilerplate.{reason}": len(line) + 1}
    switched_off = WebBoilerplate.model_validate({f"remove_{reason}": False})
    assert switched_off.edit(line).text == line


@pytest.mark.parametrize(
    "line",
    [
        "Home is where the heart is.",
        "He said that we use cookies " + "in the kitchen of the old house " * 5,
        "a / b",
        "The ratio of this long phrase | and of that long phrase | and of a third one",
        "Copyright law is old.",
        "12 angry men",
    ],
)
def test_web_boilerplate_keeps(line: str) -> None:
    assert WebBoilerplate().edit(line).text is line


def test_edits_run_first_and_in_order() -> None:
    step = Rules([GopherQuality(min_words=3, min_stop_words=0), WebBoilerplate(), C4(min_sentences=1)])
    assert step.edit(f"Home\n{GOOD}\nno end").text == GOOD
    assert step.edit(f"Home\n{GOOD}\nno end").removed == {"web_boilerplate.buttons": 5, "c4.no_end_mark": 7}
    nothing = step.measure(step.edit("Home\nMenu").text, "Home\nMenu")
    assert step.judge_all(nothing) == [Drop("empty", "", "its edits left no text")]


@given(
    st.lists(
        st.sampled_from(["Home", GOOD, "", "  ", "THIS IS LOUD", "3 likes", "[1] a.", "\u2028", "{", "é"]), max_size=12
    )
)
def test_edits_only_remove_and_say_how_much(lines: list[str]) -> None:
    text = "\n".join(lines)
    for rules in (WebBoilerplate(), Dclm(), C4(), Gutenberg()):
        edited = rules.edit(text)
        assert rules.edit(text) == edited  # the same again
        assert all(count > 0 for count in edited.removed.values())
        if not edited.removed:
            assert edited.text is text or not text.strip()
        else:
            left = iter(text)
            assert all(character in left for character in edited.text.replace("\n", ""))
