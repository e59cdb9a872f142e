"""Multiple choice over the held-out objects: which description fits the name?

    {"id": "str.partition", "query": "What does str.partition do?", "choices": [4 answers], "gold": 2}

The three wrong answers are true ones of other held-out objects of the same kind, from the same source where that has
enough, with a like opening and a like length, so that neither form nor length tells which is right.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable

from llmforge.corpus.python_docs.questions import AskedObject
from llmforge.corpus.split import stable_fraction

CHOICES = 4
NEAR = 24  # how many of the nearest in length the wrong answers are drawn from
MAX_OVERLAP = 0.5  # shared words over all words, above which two answers could both be right
_OPEN = frozenset("it is a an the of to in and or for with returns return that from by this if as on at be".split())


def choices(asked: Iterable[AskedObject]) -> list[dict[str, object]]:
    """One row for each held-out object that has three good wrong answers; gold stands as often in each place."""
    held_out = [thing for thing in asked if thing.held_out]
    near = _Pool(held_out, _source_and_form)
    far = _Pool(held_out, _form)
    rows: list[dict[str, object]] = []
    for thing in sorted(held_out, key=lambda thing: stable_fraction(f"choice/{thing.name}")):
        wrong = near.like(thing)
        if len(wrong) < CHOICES - 1:
            wrong = far.like(thing)
        if len(wrong) < CHOICES - 1:
            continue
        gold = len(rows) % CHOICES
        texts = [other.answer for other in wrong]
        texts.insert(gold, thing.answer)
        rows.append({"id": thing.name, "query": thing.question, "choices": texts, "gold": gold})
    return rows


def _form(thing: AskedObject) -> tuple[str, ...]:
    """What a wrong answer has in common with the right one: kind and whether it says what the object is or does."""
    return thing.kind, "is" if thing.answer.startswith("It is ") else "does"


def _by_length(thing: AskedObject) -> tuple[int, str]:
    return len(thing.answer), thing.name


def _source_and_form(thing: AskedObject) -> tuple[str, ...]:
    return thing.source, *_form(thing)


class _Pool:
    """Answers by group, in order of length."""

    def __init__(self, things: Iterable[AskedObject], group_of: Callable[[AskedObject], tuple[str, ...]]) -> None:
        self._group_of = group_of
        self._groups: dict[tuple[str, ...], list[AskedObject]] = defaultdict(list)
        for thing in things:
            self._groups[group_of(thing)].append(thing)
        for group in self._groups.values():
            group.sort(key=_by_length)

    def like(self, thing: AskedObject) -> list[AskedObject]:
        """Three of about the same length, by a stable draw; fewer when the group has not so many that differ.

        How many of them are shorter is drawn too, so that the right answer is the shortest, the longest or between as
        often as any other.
        """
        group = self._groups[self._group_of(thing)]
        place = bisect.bisect_left(group, _by_length(thing), key=_by_length)
        shorter = int(CHOICES * stable_fraction(f"shorter/{thing.name}"))
        chosen = _draw(thing, group[max(0, place - NEAR) : place], shorter, [])
        chosen = _draw(thing, group[place + 1 : place + 1 + NEAR], CHOICES - 1, chosen)
        chosen = _draw(thing, group[max(0, place - NEAR) : place], CHOICES - 1, chosen)
        return sorted(chosen, key=lambda other: stable_fraction(f"{other.name}/{thing.name}"))


def _draw(thing: AskedObject, pool: list[AskedObject], wanted: int, chosen: list[AskedObject]) -> list[AskedObject]:
    """`chosen` with more of the pool, up to `wanted`, each unlike the others."""
    out = list(chosen)
    for other in sorted(pool, key=lambda other: stable_fraction(f"{thing.name}/{other.name}")):
        if len(out) >= wanted:
            break
        if all(_differ(other, known) for known in (thing, *out)):
            out.append(other)
    return out


def _differ(first: AskedObject, second: AskedObject) -> bool:
    if first.name.rpartition(".")[2].lower() == second.name.rpartition(".")[2].lower():
        return False
    one, two = _words(first.answer), _words(second.answer)
    return len(one & two) <= MAX_OVERLAP * max(1, min(len(one), len(two)))


def _words(text: str) -> set[str]:
    return {word.strip(".,;:'\"").lower() for word in text.split()} - _OPEN
