"""Docstrings to English answers, and how objects are divided between fine-tuning and judging."""

from collections import Counter

import pytest

from llmforge.corpus.python_docs.answers import answer_from
from llmforge.corpus.python_docs.choices import choices
from llmforge.corpus.python_docs.pages import DocumentedObject
from llmforge.corpus.python_docs.questions import (
    VALID_FRACTION,
    asked_objects,
    conversations,
    is_held_out,
    parameters_sentence,
    questions,
)
from llmforge.corpus.python_docs.verbs import third_person
from llmforge.corpus.split import is_valid


@pytest.mark.parametrize(
    ("kind", "doc", "answer"),
    [
        ("function", "Return the arithmetic mean of data.\n\nMore.", "It returns the arithmetic mean of data."),
        ("function", "Computes the sine (in radians) of `x`.", "It computes the sine of x."),
        ("method", "Parse and validate the given lines of text", "It parses and validates the given lines of text."),
        ("method", "Sort the list in place and return None.", "It sorts the list in place and returns None."),
        ("function", "Recursively delete a whole directory tree.", "It recursively deletes a whole directory tree."),
        ("class", "Dict subclass for counting hashable items.", "It is a dict subclass for counting hashable items."),
        ("class", "Applies a linear map to the data: `y = xA^T + b`.", "It applies a linear map to the data."),
        ("class", "Raised when an operation or function is given a bad value.",
         "It is raised when an operation or function is given a bad value."),
        ("class", "HTTP connection that is kept open.", "It is an HTTP connection that is kept open."),
        ("property", "Return the number of rows in the table.", "It is the number of rows in the table."),
        ("property", "True if the set of points is empty.", "It is true if the set of points is empty."),
        ("function", "This function returns the sum of the values.", "It returns the sum of the values."),
        ("function", "Round it. The result is a whole number of days.", None),
        ("method", "Close the open file. The file cannot be used after.",
         "It closes the open file. The file cannot be used after."),
        ("function", "See `torch.add`.", None),
        ("function", "Alias for `torch.special.expit` of the input.", None),
        ("function", "Deprecated since version 3.2 of the language.", None),
        ("function", "Compute `\\sum_{i} x_i` of all of the values.", None),
        ("function", "Return a dict with the following keys:", None),
        ("function", "Inverse hyperbolic cosine of all values.", None),
        ("class", "Tools for working with files and folders.", None),
        ("class", "Process pool executor for many calls.", None),
        ("function", "Berechnet die Größe des Bildes im Speicher.", None),
        ("function", "Return it.", None),
        ("function", "", None),
    ],
)  # fmt: skip
def test_a_docstring_becomes_a_sentence_or_nothing(kind, doc, answer):
    assert answer_from(doc, kind) == answer


@pytest.mark.parametrize(
    ("word", "third"),
    [("compute", "computes"), ("Pass", "passes"), ("apply", "applies"), ("display", "displays"), ("do", "does"),
     ("returns", "returns"), ("Matches", "matches"), ("the", None), ("dict", None)],
)  # fmt: skip
def test_verbs_get_their_third_person(word, third):
    assert third_person(word) == third


def thing(name, doc, kind="function", page="stdlib/m", signature="(a, b=)", parameters=("a", "b=")):
    return DocumentedObject(name, kind, "stdlib", signature, parameters, doc, page)


def many(count=600):
    verbs = ("Return", "Compute", "Create", "Check", "Find")
    nouns = (
        "river",
        "castle",
        "forest",
        "engine",
        "letter",
        "window",
        "garden",
        "number",
        "signal",
        "market",
        "planet",
    )
    for index in range(count):
        words = [nouns[(index * step + step) % len(nouns)] + ("s" * (index % 2)) for step in (1, 3, 7)]
        first = f"{verbs[index % 5]} the {words[0]} of item{chr(97 + index % 26)}"
        doc = f"{first} {words[1]} {words[2]} by {number_word(index)}."
        yield thing(f"m{index % 7}.name{index}", doc, page=f"stdlib/page{index // 3}")


def number_word(index):
    return "".join("abcdefghij"[int(digit)] for digit in str(index))


def test_no_object_is_on_both_sides_and_none_is_on_a_validation_page():
    objects = list(many())
    asked = asked_objects(objects)
    page_of = {entry.name: entry.page for entry in objects}
    train = {str(row["id"]).partition("?")[0] for row in conversations(asked, held_out=False)}
    held_out = {str(row["id"]).partition("?")[0] for row in conversations(asked, held_out=True)}
    judged = {str(row["id"]) for row in [*choices(asked), *questions(asked)]}
    assert train and judged and not train & held_out
    assert judged <= held_out
    assert not any(is_valid(page_of[name], VALID_FRACTION) for name in train | held_out)
    assert 0.08 < len(held_out) / (len(train) + len(held_out)) < 0.22


def test_names_with_one_last_part_are_on_one_side():
    for leaf in ("partition", "Linear", "read_csv"):
        assert is_held_out(f"str.{leaf}") == is_held_out(f"bytes.{leaf}") == is_held_out(f"a.b.{leaf.lower()}")


def test_an_answer_is_asked_of_the_best_known_name_only():
    same = "Return the very same thing as before."
    asked = asked_objects(
        [thing("zz.inner.deep.twice", same), thing("math.once", same), thing("math.once", "Find a thing or two.")]
    )
    assert [entry.name for entry in asked] == ["math.once"]
    assert asked_objects([thing("m._private", same), thing("numpy.core.x", same), thing("m." + "x" * 60, same)]) == []


def test_conversations_ask_in_several_ways_and_answer_alike():
    rows = conversations(asked_objects(many()), held_out=False)
    texts = [[message["content"] for message in row["messages"]] for row in rows]
    assert [[message["role"] for message in row["messages"]] for row in rows] == [["user", "assistant"]] * len(rows)
    assert all(answer.endswith(".") for _, answer in texts)
    assert {answer.split()[0] for _, answer in texts} == {"It", "You"}
    openings = {" ".join(question.split()[:2]) for question, _ in texts}
    assert {"What does", "What is", "Tell me", "How do", "Which parameters"} <= openings
    assert len({row["id"] for row in rows}) == len(rows)


def test_choices_hold_the_right_answer_once_and_each_place_is_right_as_often():
    asked = asked_objects(many(1200))
    right = {entry.name: entry.answer for entry in asked}
    rows = choices(asked)
    assert len(rows) > 50
    for row in rows:
        assert len(set(row["choices"])) == 4
        assert row["choices"][row["gold"]] == right[row["id"]]
        assert row["query"] == f"What does {row['id']} do?"
        others = [text for text in row["choices"] if text != right[row["id"]]]
        assert all(text in right.values() for text in others)
    counts = Counter(row["gold"] for row in rows)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert choices(asked) == rows


@pytest.mark.parametrize(
    ("signature", "parameters", "sentence"),
    [
        ("(a, b)", ("a", "b"), "It takes the parameters a and b."),
        ("(a)", ("a",), "It takes the parameter a."),
        ("(a, b, c=1, *, d=2)", ("a", "b", "c=", "d="), "It takes the parameters a and b, and optionally c and d."),
        ("(a=1)", ("a=",), "It takes only optional parameters, a."),
        ("()", (), "It takes no parameters."),
        ("(*args)", (), None),
        ("(x[, y])", (), None),
        ("", (), None),
    ],
)
def test_parameters_are_said_in_a_sentence_where_they_are_known(signature, parameters, sentence):
    doc = "Return the sum of the two given numbers."
    entry = next(iter(asked_objects([thing("m.f", doc, signature=signature, parameters=parameters)])))
    assert parameters_sentence(entry) == sentence
