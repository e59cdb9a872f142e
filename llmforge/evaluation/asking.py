"""How a question is put to a model: as a conversation in its own chat format, or as a text to go on with."""

from __future__ import annotations

from collections.abc import Sequence

from llmforge.evaluation.task import Examinee
from llmforge.tokenizer.chat import Message, render


def chat_turns(solved: Sequence[tuple[str, str]]) -> list[Message]:
    """Solved examples as earlier turns of the conversation."""
    pairs = (({"role": "user", "content": asked}, {"role": "assistant", "content": said}) for asked, said in solved)
    return [message for pair in pairs for message in pair]


def chat_prompt(
    examinee: Examinee, messages: Sequence[Message], answers: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """Ids up to where the assistant begins to speak, and the ids of each answer as it would say it.

    The token that ends an answer is left out: a choice may be the beginning of what the model would say.
    """
    tokenizer = examinee.tokenizer
    prompt = render(tokenizer, messages, add_generation_prompt=True).ids
    said = []
    for answer in answers:
        full = render(tokenizer, [*messages, {"role": "assistant", "content": answer}], train_on="last")
        spoken = [token for token, learned in zip(full.ids, full.mask, strict=True) if learned]
        ends = [at for at, token in enumerate(spoken) if token in tokenizer.stop_ids]
        said.append((spoken[: ends[-1]] if ends else spoken) or spoken)
    return prompt, said


def joined(query: str, answer: str) -> str:
    """Query and answer as one text, with a space between them unless one of them brings white space or is empty."""
    return query + answer if not query or query[-1:].isspace() or answer[:1].isspace() else f"{query} {answer}"
