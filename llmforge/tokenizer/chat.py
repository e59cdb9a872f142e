"""The one chat renderer: messages -> ids, and which of them are trained on.

The formats of our own vocabularies (chat_formats.py) put control symbols in by id, so nothing that a person types can
become one:

    <s><|user|>text<|end|><|assistant|>text<|end|>

Folders of others bring a Jinja template; its text is turned into ids with the names of control symbols recognised only
where the template wrote them. Training, chat, serving and evaluation all come through here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from llmforge.errors import DataError
from llmforge.tokenizer.foreign_template import PLAIN_TEMPLATE, TemplateRenderer, find_template, special_names
from llmforge.tokenizer.huggingface_backend import HuggingFaceBackend
from llmforge.tokenizer.special_tokens import BOS, CONTROL, IDS, ROLES
from llmforge.tokenizer.tokenizer import Tokenizer

Message = dict[str, str]
TrainOn = Literal["assistant", "last", "all"]
_GAP = "\ufde7"  # a noncharacter; stands inside names of control symbols that a person typed, and is taken out again
_FOLLOWS = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


@dataclass(frozen=True)
class Rendered:
    """`mask[i]` is True when `ids[i]` is a token to learn: what the assistant says and the token that ends it."""

    ids: list[int]
    mask: list[bool]


def check_messages(messages: object, where: str, *, training: bool = False) -> list[Message]:
    """The messages as plain dicts of role and content.

    Raises:
        DataError: not a list of messages, an unknown role, content that is not text, a wrong order of turns; with
            `training` also no assistant message or an empty one. The line names `where` and the message.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise DataError("messages is not a list of messages", where, 'write [{"role": "user", "content": "..."}, ...]')
    checked: list[Message] = []
    for number, message in enumerate(messages, 1):
        before = checked[-1]["role"] if checked else ""
        checked.append(_checked_message(message, f"{where}, message {number}", before))
    if training:
        answers = [message for message in checked if message["role"] == "assistant"]
        if not answers:
            raise DataError("no assistant message: there is nothing to learn", where, "add an answer or drop the row")
        if any(not answer["content"].strip() for answer in answers):
            raise DataError("an assistant message is empty", where, "write an answer or drop the row")
    return checked


def _checked_message(message: object, where: str, before: str) -> Message:
    if not isinstance(message, dict) or not {"role", "content"} <= set(message):
        raise DataError("not a message with role and content", where)
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise DataError(f"unknown role {role!r}", where, f"use one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise DataError(f"content is {type(content).__name__}, not text", where)
    if role not in _FOLLOWS[before]:
        place = f"after {before}" if before else "at the beginning"
        raise DataError(f"wrong turn order: {role} {place}", where, f"expected {' or '.join(_FOLLOWS[before])}")
    return {"role": str(role), "content": content}


def render(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    train_on: TrainOn = "assistant",
) -> Rendered:
    """Ids of a conversation in the tokenizer's own format, and the mask of what is trained on.

    `train_on`: every assistant message, only the last one, or all tokens but the first (which nothing predicts).
    `add_generation_prompt` ends with the beginning of the assistant's next message.

    Raises:
        DataError: text with half a surrogate pair, or a foreign template that fails.
    """
    last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    learned = [
        message["role"] == "assistant" and (train_on != "last" or at == last) for at, message in enumerate(messages)
    ]
    if tokenizer.foreign is None:
        rendered = _own(tokenizer, messages, learned, add_generation_prompt)
    else:
        rendered = _foreign(tokenizer, messages, learned, add_generation_prompt)
    if train_on == "all":
        return Rendered(rendered.ids, [at > 0 for at in range(len(rendered.ids))])
    return rendered


def _own(tokenizer: Tokenizer, messages: Sequence[Message], learned: list[bool], more: bool) -> Rendered:
    form, words = tokenizer.form, tokenizer.form.words()
    names = re.compile("(" + "|".join(map(re.escape, (*CONTROL, *form.control))) + ")")
    out = Rendered([IDS[BOS]], [False])
    said: list[tuple[str, bool]] = []  # text since the last control symbol, and whether it is learned

    def add(written: str, learn: bool) -> None:
        """What the format writes; its control symbols end the text before them."""
        for at, part in enumerate(names.split(written)):
            if at % 2:
                _add_text(tokenizer, out, said)
                out.ids.append(tokenizer.special_ids[part])
                out.mask.append(learn and part == form.end)
                said.clear()
            elif part:
                said.append((part, False))

    for message, learn in zip(messages, learned, strict=True):
        add(form.head.format(role=words[message["role"]]), False)
        said.append((message["content"], learn))
        add(form.tail if message["role"] == "assistant" else form.other_tail, learn)
    if more:
        add(form.head.format(role=words["assistant"]), False)
    _add_text(tokenizer, out, said)
    return out


def _add_text(tokenizer: Tokenizer, out: Rendered, said: list[tuple[str, bool]]) -> None:
    """Adds the ids of texts between two control symbols, encoded as one, as a template's text is.

    An id is learned when it begins inside a text that is.
    """
    if len(said) == 1:
        ids = tokenizer.encode(said[0][0])
        out.ids.extend(ids)
        out.mask.extend([said[0][1]] * len(ids))
        return
    learned = [flag for text, learn in said for flag in [learn] * len(text.encode("utf-8", "surrogatepass"))]
    at = 0
    for number in tokenizer.encode("".join(text for text, _ in said)):
        out.ids.append(number)
        out.mask.append(learned[at])
        at += len(tokenizer.token_bytes[number])


class _ForeignChat:
    """A foreign folder's template and the names that a person's text must not spell."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        template = find_template(tokenizer.folder) or PLAIN_TEMPLATE
        self.renderer = TemplateRenderer(template, special_names(tokenizer.folder), tokenizer.folder)
        names = sorted(tokenizer.special_ids, key=len, reverse=True)
        self.names = re.compile("|".join(map(re.escape, names)) or "(?!)")

    def guarded(self, text: str) -> str:
        """The text with a gap in every name of a control symbol, and in front of every literal gap."""
        text = text.replace(_GAP, _GAP + _GAP)
        return self.names.sub(lambda found: found[0][0] + _GAP + found[0][1:], text)


@lru_cache(maxsize=4)
def _foreign_chat(tokenizer: Tokenizer) -> _ForeignChat:
    return _ForeignChat(tokenizer)


def _foreign(tokenizer: Tokenizer, messages: Sequence[Message], learned: list[bool], more: bool) -> Rendered:
    chat = _foreign_chat(tokenizer)
    guarded = [{"role": message["role"], "content": chat.guarded(message["content"])} for message in messages]
    wanted: list[tuple[list[Message], bool]] = [(guarded, more)]
    for at, learn in enumerate(learned):
        if learn:
            wanted += [(guarded[:at], True), (guarded[: at + 1], False)]
    full, *parts = chat.renderer.render(wanted)
    tokens = _tokens(tokenizer, chat, full)
    ids = [number for number, _ in tokens]
    mask = [False] * len(ids)
    answers = [message["content"] for message, learn in zip(guarded, learned, strict=True) if learn]
    for answer, before, upto in zip(answers, parts[::2], parts[1::2], strict=True):
        start, stop = _span(full, before, upto, answer, tokenizer)
        inside = [at for at, (_, place) in enumerate(tokens) if start <= place < stop]
        ends = [at for at in inside if ids[at] in tokenizer.stop_ids]
        for at in inside:
            mask[at] = not ends or at <= ends[-1]
    return Rendered(ids, mask)


def _span(full: str, before: str, upto: str, answer: str, tokenizer: Tokenizer) -> tuple[int, int]:
    """Where an answer and its end stand in the whole text: found by rendering the messages before it and up to it.

    Some templates write earlier turns in another way once later ones follow; there the answer itself is looked for.
    """
    if full.startswith(before) and full.startswith(upto):
        return len(before), len(upto)
    start = _common(full, before)
    found = full.find(answer.strip(), start)
    if found < 0:
        raise DataError(
            "the chat template rewrites this answer, so it cannot be told which tokens are the assistant's",
            tokenizer.folder,
            "set data.train_on to last, or use another template",
        )
    stop = found + len(answer.strip())
    by_id = {number: name for name, number in tokenizer.special_ids.items()}
    names = [by_id[number] for number in tokenizer.stop_ids if number in by_id]
    ends = [len(name) for name in names if full.startswith(name, stop)]
    return found, stop + max(ends, default=0)


def _common(first: str, second: str) -> int:
    size = min(len(first), len(second))
    return next((at for at in range(size) if first[at] != second[at]), size)


def _tokens(tokenizer: Tokenizer, chat: _ForeignChat, text: str) -> list[tuple[int, int]]:
    """(id, place in the text) of a rendered conversation."""
    assert tokenizer.foreign is not None
    if _GAP not in text:
        return tokenizer.foreign.encode_offsets(text, names=True)
    # What a person typed must stay text: names that the template wrote are whole, typed ones have a gap.
    out, start = [], 0
    for found in chat.names.finditer(text):
        out += _plain(tokenizer.foreign, text[start : found.start()], start)
        out.append((tokenizer.special_ids[found[0]], found.start()))
        start = found.end()
    return out + _plain(tokenizer.foreign, text[start:], start)


def _plain(foreign: HuggingFaceBackend, text: str, offset: int) -> list[tuple[int, int]]:
    """(id, place) of a part without control symbols, its gaps taken out; places count from the whole text's begin."""
    clean, places = [], []
    at = 0
    while at < len(text):
        at += text[at] == _GAP
        clean.append(text[at : at + 1])
        places.append(offset + at)
        at += 1
    encoded = foreign.encode_offsets("".join(clean), names=False)
    return [(number, places[place] if place < len(places) else offset + len(text)) for number, place in encoded]
