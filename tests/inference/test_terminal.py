"""What a model says never steers the terminal."""

from __future__ import annotations

import io
import sys

import pytest

from llmforge.inference.terminal import harmless, show


def test_control_characters_become_pictures() -> None:
    assert harmless("a\x1b[2Jb\tc\nd\x07\x7f\x9b é日👍") == "a␛[2Jb\tc\nd␇␡� é日👍"


@pytest.mark.parametrize(("terminal", "shown"), [(True, "␛[2J"), (False, "\x1b[2J")])
def test_only_a_terminal_needs_it(monkeypatch: pytest.MonkeyPatch, terminal: bool, shown: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    show("\x1b[2J")
    stream.seek(0)
    assert stream.read() == shown


def test_an_encoding_without_the_character_gets_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    show("日a")
    stream.seek(0)
    assert stream.read() == "?a"
