"""Exact match: the model writes its likeliest answer, which is right when it says the same as the row's.

    {"query": "What is 6 times 7?", "answer": "42"}                       or a list of answers that are all right
    {"messages": [{"role": "user", "content": "..."}], "answer": "..."}   `question` is read like `query`

Compared are texts without differences of case, white space, outer punctuation and commas between digits. With an
`answer_pattern` its last match in the model's answer is compared with its last match in the row's (or with the row's
whole answer where it does not match there). A model that was fine-tuned on conversations is asked in its chat format.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmforge.corpus.rows import read_rows
from llmforge.errors import DataError
from llmforge.evaluation.asking import chat_turns, joined
from llmforge.evaluation.extraction import extract
from llmforge.evaluation.settings import ExactMatchTask
from llmforge.evaluation.statistics import standard_error, wilson_interval
from llmforge.evaluation.task import Examinee, OnDone, Score, fitted, sampled, shots_for
from llmforge.inference.settings import SamplingSettings
from llmforge.tokenizer.chat import Message, check_messages, render

if TYPE_CHECKING:
    from llmforge.inference.answer import Sample

_COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@dataclass(frozen=True)
class Item:
    """A conversation that waits for an answer, and the answers that are right."""

    messages: tuple[tuple[str, str], ...]  # (role, content)
    answers: tuple[str, ...]
    where: str

    @property
    def question(self) -> str:
        """The last message's text."""
        return self.messages[-1][1]


def item_of(row: dict[str, object], where: str) -> Item:
    """A row as an item; DataError says what is wrong with it."""
    answer = row.get("answer")
    answers = answer if isinstance(answer, list) else [answer]
    if not answers or not all(isinstance(text, str) and text.strip() for text in answers):
        raise DataError("answer is missing, empty or no text", where, "give a text or a list of texts")
    query = row.get("query", row.get("question"))
    if "messages" in row:
        messages = check_messages(row["messages"], where)
        if messages[-1]["role"] not in ("user", "tool"):
            raise DataError("the messages do not end with a question", where, "end them with a user message")
    elif isinstance(query, str) and query.strip():
        messages = [{"role": "user", "content": query}]
    else:
        raise DataError("there is no question", where, "give query, question or messages")
    pairs = tuple((message["role"], message["content"]) for message in messages)
    return Item(pairs, tuple(str(text) for text in answers), where)


def normalised(text: str) -> str:
    """What is compared: NFKC, no case, single spaces, no outer punctuation, no commas between digits."""
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return _COMMA_IN_NUMBER.sub("", words).strip(string.punctuation + string.whitespace)


class ExactMatch:
    """The task; reads its items when it is made."""

    def __init__(self, settings: ExactMatchTask, seed: int, num_fewshot: int) -> None:
        self.name = settings.label or settings.name
        self._settings, self._seed = settings, seed
        self._shots = num_fewshot if settings.num_fewshot is None else settings.num_fewshot
        self._pool = [item_of(row, where) for row, where in read_rows(settings.path)]
        self._numbers = sampled(range(len(self._pool)), settings.limit, seed, settings.path)

    @property
    def size(self) -> int:
        """Items."""
        return len(self._numbers)

    def score(self, examinee: Examinee, on_done: OnDone) -> Score:
        """exact_match with its error, and the share of answers that `ended` by themselves."""
        from llmforge.inference.generate import generate

        settings = SamplingSettings(
            max_new_tokens=self._settings.max_new_tokens, do_sample=False, stop=self._settings.stop
        )
        made = [self._prompt(number, examinee) for number in self._numbers]
        samples = generate(
            examinee.model,
            examinee.tokenizer,
            [ids for ids, _ in made],
            settings,
            stop_ids=examinee.stop_ids,
            on_step=lambda _, ended: on_done(len(ended)),
        )
        return self._summary(samples, sum(cut for _, cut in made))

    def _prompt(self, number: int, examinee: Examinee) -> tuple[list[int], bool]:
        item = self._pool[number]
        shots = shots_for(number, self._pool, self._shots, self._seed, self._settings.path)
        solved = [(shot.question, shot.answers[0]) for shot in shots]
        messages: list[Message] = [{"role": role, "content": content} for role, content in item.messages]
        if examinee.as_chat or len(messages) > 1:
            system = messages[:1] if messages[0]["role"] == "system" else []
            turns = [*system, *chat_turns(solved), *messages[len(system) :]]
            ids = render(examinee.tokenizer, turns, add_generation_prompt=True).ids
        else:
            text = "".join(joined(asked, said) + "\n\n" for asked, said in solved) + item.question
            ids = [examinee.start_id, *examinee.tokenizer.encode(text)]
        room = examinee.context - min(self._settings.max_new_tokens, examinee.context // 2)
        return fitted(ids, room, item.where, len(shots))

    def _summary(self, samples: Sequence[Sample], cut: int) -> Score:
        items = [self._pool[number] for number in self._numbers]
        said = [sample.text for sample in samples]
        found, wanted = self._extracted(said, [list(item.answers) for item in items])
        records: list[dict[str, object]] = []
        rights = []
        for item, sample, answer, right in zip(items, samples, found, wanted, strict=True):
            rights.append(answer is not None and normalised(answer) in {normalised(text) for text in right})
            asked: dict[str, object] = {"item": item.where, "prompt": item.question, "text": sample.text}
            more = {"extracted": answer} if self._settings.answer_pattern else {}
            records.append(asked | more | {"finish_reason": sample.finish_reason, "exact_match": rights[-1]})
        metrics: dict[str, object] = {
            "exact_match": sum(rights) / len(rights),
            "exact_match_stderr": standard_error([float(right) for right in rights]),
            "exact_match_ci95": list(wilson_interval(sum(rights), len(rights))),
            "ended": sum(sample.finish_reason == "stop" for sample in samples) / len(samples),
            "chance": 0.0,
            "samples": len(samples),
        }
        return Score(metrics | ({"cut": cut} if cut else {}), records)

    def _extracted(self, said: list[str], right: list[list[str]]) -> tuple[list[str | None], list[list[str]]]:
        pattern = self._settings.answer_pattern
        if pattern is None:
            return list(said), right
        flat = [text for texts in right for text in texts]
        found = extract(pattern, [*said, *flat])
        matched = iter(found[len(said) :])
        wanted = [[next(matched) or text for text in texts] for texts in right]
        return found[: len(said)], wanted
