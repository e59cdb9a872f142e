"""C4's rules (https://jmlr.org/papers/v21/20-074.html): lines that are not sentences go, and pages with too few left.

Four variants of its numbers: `reference` is the code that made C4 (tensorflow/datasets, text/c4_utils.py), `datatrove`
its C4 filter, `fineweb` the same as FineWeb's chain uses it, where a line may end in anything. A word is what stands
between white space, in all of them. Sentences are counted by their end marks, where the reference asks Punkt and
datatrove spaCy. Left out: the list of bad words, and lines that came in another document (`dedup`). C4 keeps English
of .99 or more (`language`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from llmforge.cleaning.rules.edited import Edited, edit_lines
from llmforge.cleaning.rules.threshold import Judge, Limit
from llmforge.cleaning.signals.measure import CHARACTERS_BEFORE

POLICY_PHRASES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_DATATROVE = {"min_line_words": 3, "end_marks": ".?!\"'", "min_sentences": 5, "max_characters": None}
_VARIANTS: dict[str, dict[str, Any]] = {"datatrove": _DATATROVE, "fineweb": {**_DATATROVE, "end_marks": ""}}


class C4(Judge):
    """Removes lines that are no sentences, then drops pages with few sentences, code or placeholder text."""

    name: Literal["c4"] = "c4"
    variant: Literal["reference", "datatrove", "fineweb"] = Field(
        default="reference", description="whose numbers stand where a key is not given"
    )
    end_marks: str = Field(default='.?!"', description="a line ends in one of these and not in ...; empty: in anything")
    min_line_words: int = Field(default=5, ge=0, description="lines of fewer words are removed")
    max_word_characters: int = Field(default=1000, ge=1, description="lines with a longer word are removed")
    remove_javascript_lines: bool = Field(default=True, description="lines with the word javascript are removed")
    remove_policy_lines: bool = Field(default=True, description="lines on cookies and terms of use are removed")
    remove_citations: bool = Field(default=True, description="[1], [edit] and [citation needed] are cut out")
    max_characters: int | None = Field(
        default=190_000, ge=1, description="longer pages are dropped, before lines are removed; null: none"
    )
    min_sentences: int = Field(default=3, ge=0, description="pages with fewer sentences left are dropped")
    max_lorem_ipsum: int | None = Field(default=0, ge=0, description="pages with more lorem ipsum are dropped")
    max_curly_brackets: int | None = Field(default=0, ge=0, description="pages with more { are dropped: code")

    @model_validator(mode="before")
    @classmethod
    def _numbers_of_the_variant(cls, given: Any) -> Any:
        return {**_VARIANTS.get(str(given.get("variant")), {}), **given} if isinstance(given, dict) else given

    def limits(self) -> Sequence[Limit]:
        """In the order of the reference."""
        return (
            Limit("max_characters", CHARACTERS_BEFORE, "characters"),
            Limit("max_lorem_ipsum", "num_lorem_ipsum", "times lorem ipsum"),
            Limit("max_curly_brackets", "num_curly_brackets", "curly brackets"),
            Limit("min_sentences", "num_sentences", "sentences left"),
        )

    def edit(self, text: str) -> Edited:
        """The lines that stay, white space around them stripped, citations cut out."""
        lowered = text.lower()
        phrases = tuple(phrase for phrase in POLICY_PHRASES if self.remove_policy_lines and phrase in lowered)
        javascript = self.remove_javascript_lines and "javascript" in lowered
        cite = self.remove_citations and "[" in text
        ends = tuple(self.end_marks)

        def change(line: str) -> tuple[str, str]:
            stays = line.strip()
            if len(stays) > self.max_word_characters and any(
                len(word) > self.max_word_characters for word in stays.split()
            ):
                return "", "long_word"
            stays = _CITATION.sub("", stays) if cite and "[" in stays else stays
            if ends and (not stays.endswith(ends) or stays.endswith("...")):
                return "", "no_end_mark"
            if len(stays.split(None, self.min_line_words)) < self.min_line_words:
                return "", "few_words"
            if javascript or phrases:
                return self._without_notices(stays, javascript, phrases)
            return stays, "" if len(stays) == len(line) else "citations_and_margins"

        return edit_lines(self.name, text, text.splitlines(), change)

    def _without_notices(self, line: str, javascript: bool, phrases: Sequence[str]) -> tuple[str, str]:
        """What drops the page stays, so that it drops it: the reference looks for it first."""
        lowered = line.lower()
        if self.max_lorem_ipsum is not None and "lorem ipsum" in lowered:
            return line, ""
        if javascript and "javascript" in lowered:
            return "", "javascript"
        if self.max_curly_brackets is not None and "{" in line:
            return line, ""
        return ("", "policy") if any(phrase in lowered for phrase in phrases) else (line, "")
