"""Documented objects to questions with answers: for fine-tuning, and, of other objects, for judging.

How they are divided: by the last part of an object's name, so that str.partition and bytes.partition, aliases and
methods that override each other are on one side. HELD_OUT of the names are held out: they are asked about at evaluation
and in no conversation of fine-tuning. Nothing is asked about pages of the validation split (`is_valid(page,
VALID_FRACTION)`), so what is asked at evaluation was in the pre-training text, and no answer gives away a validation
page. An answer that several objects share, word for word, is asked of the best known one only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmforge.corpus.python_docs.answers import answer_from
from llmforge.corpus.python_docs.names import is_public
from llmforge.corpus.python_docs.pages import DocumentedObject
from llmforge.corpus.python_docs.prominence import prominence
from llmforge.corpus.split import is_valid, stable_fraction

HELD_OUT = 0.15
VALID_FRACTION = 0.05
MAX_NAME = 60
MAX_CALL = 80
MAX_PARAMETERS = 6
PARAMETER_SHARE = 0.35  # of the objects with a known signature
CALL_SHARE = 0.2
_INNER = frozenset(("core", "distutils", "benchmarks", "testing", "experimental", "internal", "dialects"))

_CALLED = (
    "What is {name} used for?",
    "Explain {name}.",
    "Tell me what {name} does.",
    "What does the {kind} {name} do?",
    "Can you explain what {name} does?",
    "Describe {name} in one sentence.",
    "What happens when I call {name}?",
)
_OTHER = (
    "What is the {kind} {name}?",
    "Tell me about {name}.",
    "Explain {name}.",
    "Can you explain {name}?",
    "Describe {name} in one sentence.",
)
_PARAMETERS = ("What are the parameters of {name}?", "Which parameters does {name} take?")
_CALL = ("How do I call {name}?", "How is {name} called?")


@dataclass(frozen=True, slots=True)
class AskedObject:
    """An object that can be asked about: its first `question`, its `answer`, and the side it is on."""

    name: str
    kind: str
    source: str
    signature: str
    parameters: tuple[str, ...]
    question: str
    answer: str
    held_out: bool


def asked_objects(objects: Iterable[DocumentedObject]) -> list[AskedObject]:
    """The public objects with a good answer, the best known first; unique in name and in answer."""
    names: set[str] = set()
    answers: set[str] = set()
    asked: list[AskedObject] = []
    known = (thing for thing in objects if is_askable(thing.name))
    for thing in sorted(known, key=lambda thing: (prominence(thing.name), thing.name)):
        answer = None if thing.name in names else answer_from(thing.doc, thing.kind)
        if answer is None or answer in answers:
            continue
        names.add(thing.name)
        answers.add(answer)
        if is_valid(thing.page, VALID_FRACTION):
            continue
        question = _first_question(thing, answer)
        facts = (thing.name, thing.kind, thing.source, thing.signature, thing.parameters)
        asked.append(AskedObject(*facts, question, answer, is_held_out(thing.name)))
    return asked


def is_askable(name: str) -> bool:
    """True for public names that a person may meet: not too long, and outside the packages' inner modules."""
    parts = name.split(".")
    return len(name) <= MAX_NAME and is_public(name) and not _INNER.intersection(parts[1:-1])


def is_held_out(name: str) -> bool:
    """Which side an object is on, by the last part of its name, whatever its case and underscores."""
    leaf = name.rpartition(".")[2].lower().replace("_", "")
    return stable_fraction(f"asked/{leaf}") < HELD_OUT


def conversations(asked: Iterable[AskedObject], held_out: bool) -> list[dict[str, object]]:
    """Rows {"id", "messages": [user, assistant]} of one side, in an order that mixes all kinds."""
    rows: list[dict[str, object]] = [
        {"id": f"{thing.name}?{tag}", "messages": [_message("user", question), _message("assistant", answer)]}
        for thing in asked
        if thing.held_out == held_out
        for tag, question, answer in _asked_ways(thing)
    ]
    return sorted(rows, key=lambda row: stable_fraction(f"order/{row['id']}"))


def questions(asked: Iterable[AskedObject]) -> list[dict[str, object]]:
    """Rows {"id", "messages": [user], "answer"} of the held-out side: well-known names first, from one module after
    another.
    """
    rows: list[tuple[int, int, dict[str, object]]] = []
    turns: Counter[int] = Counter()
    for thing in asked:
        if thing.held_out:
            group = prominence(thing.name)[0]
            asking = [_message("user", thing.question)]
            rows.append((turns[group], group, {"id": thing.name, "messages": asking, "answer": thing.answer}))
            turns[group] += 1
    return [row for _, _, row in sorted(rows, key=lambda entry: entry[:2])]


def _first_question(thing: DocumentedObject, answer: str) -> str:
    if thing.kind in ("class", "property") and answer.startswith("It is "):
        return f"What is {thing.name}?"
    return f"What does {thing.name} do?"


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _asked_ways(thing: AskedObject) -> Iterator[tuple[str, str, str]]:
    """(tag, question, answer): the first question, one in other words, and some about the call."""
    yield "first", thing.question, thing.answer
    ways = _CALLED if thing.question.endswith(" do?") else _OTHER
    yield "again", _pick(ways, thing), thing.answer
    parameters = parameters_sentence(thing)
    if parameters and stable_fraction(f"parameters/{thing.name}") < PARAMETER_SHARE:
        yield "parameters", _pick(_PARAMETERS, thing), parameters
    call = f"{thing.name}{thing.signature}"
    if thing.signature and len(call) <= MAX_CALL and stable_fraction(f"call/{thing.name}") < CALL_SHARE:
        yield "call", _pick(_CALL, thing), f"You call it as {call}."


def _pick(ways: tuple[str, ...], thing: AskedObject) -> str:
    index = int(stable_fraction(f"way/{thing.name}/{ways[0]}") * len(ways))
    return ways[index].format(name=thing.name, kind=thing.kind)


def parameters_sentence(thing: AskedObject) -> str | None:
    """ "It takes the parameters a and b, and optionally c."; None when nobody knows or there are many."""
    if not thing.signature or thing.kind == "property":
        return None
    shown = [name for name in thing.parameters if not name.startswith("_")]
    required = [name for name in shown if not name.endswith("=")]
    optional = [name.rstrip("=") for name in shown if name.endswith("=")]
    if len(shown) > MAX_PARAMETERS or "*" in thing.signature.replace("*, ", ""):
        return None
    if not shown:
        return "It takes no parameters." if thing.signature == "()" else None
    if not required:
        return f"It takes only optional parameters, {_listed(optional)}."
    word = "parameter" if len(required) == 1 else "parameters"
    tail = f", and optionally {_listed(optional)}" if optional else ""
    return f"It takes the {word} {_listed(required)}{tail}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
