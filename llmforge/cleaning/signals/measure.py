"""All signals of a text that the rule sets of a config ask for, each measured once and only if asked for.

A signal is a number with a name; where the readings of a word differ, the name of one that counts punctuation marks as
words ends in ".punctuation". Stored as a row of numbers, the signals give the same verdicts again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import get_args

from llmforge.cleaning.signals.characters import CHARACTER_SIGNALS, ENCODED_SIGNALS, encoded_signals
from llmforge.cleaning.signals.lines import LINE_SIGNALS, PART_SIGNALS, SHORT_LINE_RATIO, line_signals, part_signals
from llmforge.cleaning.signals.links import without_links
from llmforge.cleaning.signals.repetition import DUPLICATE_SIZES, TOP_SIZES, run_signal, run_signals
from llmforge.cleaning.signals.words import WORD_SIGNALS, WordKind, word_signals, words_of

CHARACTERS, CHARACTERS_BEFORE = "num_characters", "num_characters_before"
REMOVED_WORDS, REMOVED_LINES = "removed_word_ratio", "removed_line_ratio"
REMOVED_WORDS_NO_LINKS = "removed_word_ratio.without_links"
_ALWAYS = (CHARACTERS, CHARACTERS_BEFORE, REMOVED_WORDS, REMOVED_LINES)
_SIZES = (*TOP_SIZES, *DUPLICATE_SIZES)


def of_kind(name: str, kind: WordKind) -> str:
    """The name of a signal that counts words, for this reading of a word."""
    return name if kind == "whitespace" else f"{name}.{kind}"


@dataclass(frozen=True, slots=True)
class Signals:
    """Numbers of one text by name; ratios are 0 where there is nothing to divide by."""

    values: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        """The number of this name; KeyError when it was not asked for."""
        return self.values[name]

    def as_row(self) -> dict[str, float]:
        """All numbers by name, to be stored."""
        return {name: float(value) for name, value in self.values.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, float]) -> Signals:
        """The signals that a stored row holds."""
        return cls(dict(row))


class Meter:
    """Measures the signals of these names, and always the characters and what edits removed."""

    def __init__(self, names: Collection[str]) -> None:
        wanted = set(names)
        self._kinds: list[tuple[WordKind, bool, tuple[int, ...]]] = []
        known = {*_ALWAYS, REMOVED_WORDS_NO_LINKS, *LINE_SIGNALS, *PART_SIGNALS, *CHARACTER_SIGNALS, *ENCODED_SIGNALS}
        for kind in get_args(WordKind):
            names_of_words = {of_kind(name, kind) for name in WORD_SIGNALS}
            sizes = tuple(size for size in _SIZES if of_kind(run_signal(size), kind) in wanted)
            if not names_of_words.isdisjoint(wanted) or sizes:
                self._kinds.append((kind, not names_of_words.isdisjoint(wanted), sizes))
            known |= names_of_words | {of_kind(run_signal(size), kind) for size in _SIZES}
        short = {name for name in wanted if name.startswith(SHORT_LINE_RATIO)}
        assert wanted <= known | short, f"no such signal: {sorted(wanted - known - short)}"
        self._short = sorted(int(name.removeprefix(SHORT_LINE_RATIO)) for name in short)
        self._lines = not wanted.isdisjoint(LINE_SIGNALS) or bool(short)
        self._parts = not wanted.isdisjoint(PART_SIGNALS)
        self._characters = [(name, CHARACTER_SIGNALS[name]) for name in CHARACTER_SIGNALS if name in wanted]
        self._encoded = not wanted.isdisjoint(ENCODED_SIGNALS)
        self._removed_no_links = REMOVED_WORDS_NO_LINKS in wanted
        self._names = wanted | set(_ALWAYS)

    def measure(self, text: str, before: str) -> Signals:
        """The signals of a text that was `before` until edits removed something (the same text when none did)."""
        found = self._removed(text, before)
        for kind, shares, sizes in self._kinds:
            words = words_of(text, kind)
            own = word_signals(text, words, kind) if shares else {}
            if sizes:
                own |= run_signals(text, words, sizes)
            found |= own if kind == "whitespace" else {of_kind(name, kind): value for name, value in own.items()}
        if self._lines:
            found |= line_signals(text, self._short)
        if self._parts:
            found |= part_signals(text)
        for name, function in self._characters:
            found[name] = function(text)
        if self._encoded:
            found |= encoded_signals(text)
        return Signals({name: found[name] for name in found if name in self._names})

    def _removed(self, text: str, before: str) -> dict[str, float]:
        found: dict[str, float] = {CHARACTERS: len(text), CHARACTERS_BEFORE: len(before)}
        changed = text is not before and text != before
        words = len(before.split()) if changed else 0
        found[REMOVED_WORDS] = max(0, words - len(text.split())) / words if words else 0.0
        lines = _count_lines(before) if changed else 0
        found[REMOVED_LINES] = max(0, lines - _count_lines(text)) / lines if lines else 0.0
        if self._removed_no_links:
            words = len(without_links(before).split()) if changed else 0
            found[REMOVED_WORDS_NO_LINKS] = max(0, words - len(without_links(text).split())) / words if words else 0.0
        return found


def _count_lines(text: str) -> int:
    return sum(bool(line) and not line.isspace() for line in text.split("\n"))
