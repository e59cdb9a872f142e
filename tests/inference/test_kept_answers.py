"""Answers that are kept while a generation goes on: whole prompts only, of the same question only."""

from __future__ import annotations

from pathlib import Path

from llmforge.inference.answer import Sample
from llmforge.inference.kept_answers import KeptAnswers


def sample(text: str) -> Sample:
    return Sample([1, 2], [3, 4, 5], text, "stop", 0.5)


def test_whole_prompts_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    kept = KeptAnswers(path, "a", each=2)
    kept.add(7, 1, sample("seven, second\u2028"))
    kept.add(3, 0, sample("three, first"))
    kept.add(7, 0, sample("seven, first"))
    with path.open("a") as stream:
        stream.write('{"prompt": 9, "samp')
    again = KeptAnswers(path, "a", each=2)
    assert again.found == {7: [sample("seven, first"), sample("seven, second\u2028")]} and again.num_tokens == 6
    again.add(3, 1, sample("three, second"))
    again.add(3, 0, sample("three, first"))
    assert sorted(KeptAnswers(path, "a", each=2).found) == [3, 7]
    again.forget()
    assert not path.exists()


def test_answers_to_something_else_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    for asked, each in (("b", 1), ("a", 2)):
        KeptAnswers(path, "a", each=1).add(0, 0, sample("x"))
        assert KeptAnswers(path, asked, each).found == {}
    path.write_bytes(b"\xff\xfe no JSON")
    assert KeptAnswers(path, "a", each=1).found == {}
