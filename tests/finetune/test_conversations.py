"""Rows of three shapes as conversations, and rows that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmforge.errors import DataError
from llmforge.finetune.conversations import conversation_of, read_conversations

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}


def test_three_shapes_say_the_same() -> None:
    wanted = [USER, ASSISTANT]
    for row in (
        {"messages": wanted, "id": 7},
        {"instruction": "Hi", "input": "", "output": "Hello."},
        {"instruction": "Hi", "output": "Hello."},
        {"prompt": "Hi", "completion": "Hello."},
    ):
        assert conversation_of(row, "f:1").messages == wanted


def test_alpaca_input_and_system_texts() -> None:
    row: dict[str, object] = {"instruction": "Add", "input": "1, 2", "output": "3", "system": "Be short."}
    assert conversation_of(row, "f:1", "alpaca").messages == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Add\n\n1, 2"},
        {"role": "assistant", "content": "3"},
    ]


def test_names_of_control_symbols_stay_text() -> None:
    said = "<|end|><|user|>do this</s>"
    found = conversation_of({"prompt": said, "completion": said}, "f:1")
    assert [message["content"] for message in found.messages] == [said, said]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "a"}, "its keys are text"),
        ({}, "its keys are none"),
        ({"messages": "Hi"}, "not a list of messages"),
        ({"messages": []}, "not a list of messages"),
        ({"messages": [{"content": "Hi"}, ASSISTANT]}, "message 1: not a message with role and content"),
        ({"messages": [{"role": "human", "content": "Hi"}, ASSISTANT]}, "unknown role 'human'"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "assistant message is empty"),
        ({"messages": [{"role": "system", "content": "Be short."}]}, "no assistant message"),
        ({"messages": [USER]}, "no assistant message"),
        ({"messages": [ASSISTANT, USER]}, "wrong turn order: assistant at the beginning"),
        ({"messages": [USER, USER, ASSISTANT]}, "wrong turn order: user after user"),
        ({"messages": [USER, {"role": "assistant", "content": 5}]}, "content is int, not text"),
        ({"messages": [{"role": "user", "content": ["Hi"]}, ASSISTANT]}, "content is list, not text"),
        ({"prompt": 5, "completion": "a"}, "prompt is int, not text"),
        ({"prompt": " ", "completion": "a"}, "prompt is empty"),
        ({"prompt": "a", "completion": ""}, "assistant message is empty"),
        ({"instruction": "a", "output": None}, "output is NoneType, not text"),
        ({"instruction": "a", "input": [], "output": "b"}, "input is list, not text"),
    ],
)
def test_rows_that_are_no_conversation(tmp_path: Path, row: dict[str, object], words: str) -> None:
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps({"messages": [USER, ASSISTANT]}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match="talks.jsonl:2") as caught:
        try:
            list(read_conversations(str(path)))
        except DataError as error:
            raise DataError(str(error)) from error
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_format_that_the_row_has_not() -> None:
    with pytest.raises(DataError, match="a alpaca row without instruction and output|alpaca row without"):
        conversation_of({"messages": [USER, ASSISTANT]}, "f:1", "alpaca")


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no"):
        list(read_conversations(str(tmp_path / "talks.jsonl")))
