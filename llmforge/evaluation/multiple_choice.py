"""Multiple choice: the model chooses the continuation that it finds likeliest.

    {"query": "What does len do?", "choices": ["Return the number of items.", "Return the sum."], "gold": 0}

`acc` takes the sum of log p, `acc_norm` that sum divided by the choice's length in characters (as lm-eval does), which
takes away the advantage of short choices. A model that was fine-tuned on conversations is asked in its chat format, the
choice being the assistant's message; any other continues the text "query choice". With an empty query the choices stand
alone: which text is the likeliest as a whole (minimal pairs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmforge.corpus.rows import read_rows
from llmforge.errors import DataError
from llmforge.evaluation.asking import chat_prompt, chat_turns, joined
from llmforge.evaluation.settings import MultipleChoiceTask
from llmforge.evaluation.statistics import standard_error, wilson_interval
from llmforge.evaluation.task import Examinee, OnDone, Score, fitted, sampled, shots_for

if TYPE_CHECKING:
    from llmforge.evaluation.loglikelihood import Request


@dataclass(frozen=True)
class Item:
    """A question, what may be answered, and the number of the right answer."""

    query: str
    choices: tuple[str, ...]
    gold: int
    where: str


def item_of(row: dict[str, object], where: str) -> Item:
    """A row as an item; DataError says what is wrong with it."""
    query, choices, gold = row.get("query"), row.get("choices"), row.get("gold")
    if not isinstance(query, str) or (query and not query.strip()):
        raise DataError("query is missing or blank", where, 'write the question as a text, or "" for choices alone')
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise DataError("choices is not a list of texts", where, 'write ["...", "..."]')
    if len(choices) < 2:
        raise DataError(f"the number of choices is {len(choices)}", where, "give at least two")
    if not isinstance(gold, int) or isinstance(gold, bool):
        raise DataError("gold is missing or no whole number", where, "give the number of the right choice, from 0")
    if not 0 <= gold < len(choices):
        raise DataError(f"gold is {gold}, the choices are 0 to {len(choices) - 1}", where, "count from 0")
    return Item(query, tuple(choices), gold, where)


class MultipleChoice:
    """The task; reads its items when it is made."""

    def __init__(self, settings: MultipleChoiceTask, seed: int, num_fewshot: int) -> None:
        self.name = settings.label or settings.name
        self._seed, self._path = seed, settings.path
        self._shots = num_fewshot if settings.num_fewshot is None else settings.num_fewshot
        items = [item_of(row, where) for row, where in read_rows(settings.path)]
        self._pool = items
        self._numbers = sampled(range(len(items)), settings.limit, seed, settings.path)

    @property
    def size(self) -> int:
        """Items."""
        return len(self._numbers)

    def score(self, examinee: Examinee, on_done: OnDone) -> Score:
        """acc and acc_norm with their errors, and the accuracy of blind guessing as `chance`."""
        from llmforge.evaluation.loglikelihood import loglikelihoods

        made = [self._request(number, examinee) for number in self._numbers]
        scores = loglikelihoods(examinee.model, [request for request, _ in made], examinee.row_tokens, on_done)
        items = [self._pool[number] for number in self._numbers]
        return summary(items, scores, sum(cut for _, cut in made))

    def _request(self, number: int, examinee: Examinee) -> tuple[Request, bool]:
        from llmforge.evaluation.loglikelihood import Request

        item = self._pool[number]
        shots = shots_for(number, self._pool, self._shots, self._seed, self._path)
        context, continuations = (_as_chat if examinee.as_chat else _as_text)(item, shots, examinee)
        longest = max(map(len, continuations))
        # The last token of a continuation is only predicted.
        context, cut = fitted(context, examinee.context - longest + 1, item.where, len(shots))
        return Request(context, continuations), cut


def _as_chat(item: Item, shots: Sequence[Item], examinee: Examinee) -> tuple[list[int], list[list[int]]]:
    turns = chat_turns([(shot.query, shot.choices[shot.gold]) for shot in shots])
    return chat_prompt(examinee, [*turns, {"role": "user", "content": item.query}], item.choices)


def _as_text(item: Item, shots: Sequence[Item], examinee: Examinee) -> tuple[list[int], list[list[int]]]:
    solved = "".join(joined(shot.query, shot.choices[shot.gold]) + "\n\n" for shot in shots)
    query = solved + item.query
    encode = examinee.tokenizer.encode
    context = encode(query)
    wholes = [encode(joined(query, choice)) for choice in item.choices]
    # Where the first letters of a choice change how the end of the query is cut into tokens, those are scored too.
    shared = min(_common(context, whole) for whole in wholes)
    return [examinee.start_id, *context[:shared]], [whole[shared:] for whole in wholes]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    size = min(len(first), len(second) - 1)
    return next((at for at in range(size) if first[at] != second[at]), size)


def summary(items: Sequence[Item], scores: Sequence[Sequence[float]], cut: int = 0) -> Score:
    """Scores of the choices (sums of log p) -> the task's metrics and a record for each item."""
    records: list[dict[str, object]] = []
    hits: dict[str, list[bool]] = {"acc": [], "acc_norm": []}
    for item, found in zip(items, scores, strict=True):
        lengths = [len(choice) for choice in item.choices]
        best = {"acc": _best(found), "acc_norm": _best([a / b for a, b in zip(found, lengths, strict=True)])}
        for metric, choice in best.items():
            hits[metric].append(choice == item.gold)
        records.append({"item": item.where, "gold": item.gold, **best, "logprobs": list(found)})
    metrics: dict[str, object] = {}
    for metric, rights in hits.items():
        metrics[metric] = sum(rights) / len(rights)
        metrics[f"{metric}_stderr"] = standard_error([float(right) for right in rights])
        metrics[f"{metric}_ci95"] = list(wilson_interval(sum(rights), len(rights)))
    metrics["chance"] = math.fsum(1 / len(item.choices) for item in items) / len(items)
    metrics["samples"] = len(items)
    if cut:
        metrics["cut"] = cut
    return Score(metrics, records)


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda at: (values[at], -at))
