"""`llmforge chat` through a pipe and in a real terminal (a pseudo-terminal with a real process and real Ctrl-C)."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmforge.errors import DataError
from llmforge.runtime.console import Console
from llmforge.stages.chat import ChatConfig, run

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "> "
CTRL_C, CTRL_D = "\x03", "\x04"
Chat = Callable[..., "Terminal"]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TERM": "dumb", "PYTHONUTF8": "1"}


def piped(folder: Path, model: Path, stdin: bytes, *words: str, code: int = 0) -> tuple[str, str]:
    command = [sys.executable, "-m", "llmforge", "chat", "-m", str(model), "--temperature", "0", *words]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, cwd=folder, env=environment())
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def talk(model: Path, stdin: bytes, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The stage in this process, with `stdin` as a pipe."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    config = ChatConfig.model_validate({"model": str(model), "sampling": {"temperature": 0, "max_new_tokens": 30}})
    return run(config, Console(quiet=True, json=True))


class Terminal:
    """A process whose terminal we hold the other end of."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.seen = ""
        self._from = 0
        self.pid, self.handle = pty.fork()
        if self.pid == 0:  # pragma: no cover  (the child)
            os.chdir(folder)
            os.execve(command[0], command, environment())

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C at the prompt. A signal in the moment before Python's wait for a key is heard with the end of the line
        only (CPython's readline), so that follows where nothing is heard: it cannot be heard as a second Ctrl-C."""
        time.sleep(0.5)
        self.type(CTRL_C)
        if not select.select([self.handle], [], [], 10)[0]:
            self.type("\n")

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Reads until `text` comes behind what was waited for before; returns all between."""
        end = time.monotonic() + seconds
        while text not in self.seen[self._from :]:
            assert self._read(end), f"no {text!r} in {self.seen[self._from :]!r}"
        start = self._from
        self._from = self.seen.index(text, start) + len(text)
        return self.seen[start : self._from]

    def end(self, seconds: float = 30) -> int:
        """The exit code."""
        limit = time.monotonic() + seconds
        while self._read(limit):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.handle)

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self.handle], [], [], max(0.0, end - time.monotonic()))
        try:
            data = os.read(self.handle, 65536) if ready else b""
        except OSError:  # the process has ended
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    opened: list[Terminal] = []

    def start(model: Path, *words: str) -> Terminal:
        command = [sys.executable, "-m", "llmforge", "chat", "-m", str(model), *words]
        opened.append(Terminal(command, tmp_path))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def test_a_pipe_is_one_message_a_line(talking_model: Path, taught: dict[str, str], tmp_path: Path) -> None:
    questions = "\n".join(f"/reset\n{question}" for question in taught) + "\n/save talk.jsonl\n"
    out, err = piped(tmp_path, talking_model, questions.encode())
    assert out == "".join(answer + "\n" for answer in taught.values())
    assert "saved to talk.jsonl" in err
    row = json.loads((tmp_path / "talk.jsonl").read_text())
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert row["messages"][1]["content"] == taught["Hello"]


def test_json_gives_the_conversation_at_the_end(
    talking_model: Path, taught: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = talk(talking_model, b"\xef\xbb\xbfHello\n\n//exit\n/exit\nnever read\n", monkeypatch)
    messages = result["messages"]
    assert isinstance(messages, list)
    assert [message["content"] for message in messages][:3] == ["Hello", taught["Hello"], "/exit"]
    assert capsys.readouterr().out == "", "with --json the command line writes the object"


@pytest.mark.parametrize(
    ("stdin", "reason"), [(b"\n\xff\xfe\n", "stdin:2: byte 1.*not UTF-8"), (b"word " * 400, "context holds 64")]
)
def test_a_bad_line_in_a_pipe_is_named(
    talking_model: Path, monkeypatch: pytest.MonkeyPatch, stdin: bytes, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        talk(talking_model, stdin, monkeypatch)


def test_a_terminal_conversation(chat: Chat, talking_model: Path, taught: dict[str, str], tmp_path: Path) -> None:
    terminal = chat(talking_model, "--temperature", "0")
    terminal.wait_for(PROMPT)
    terminal.type("What is a list?\n")
    assert taught["What is a list?"] in terminal.wait_for("\n" + PROMPT)
    terminal.type("/help\n")
    assert "/reset" in terminal.wait_for("\n" + PROMPT)
    terminal.type("/system be brief\n")
    assert "system message set" in terminal.wait_for("\n" + PROMPT)
    terminal.type("/nonsense\n")
    assert "no command /nonsense" in terminal.wait_for("\n" + PROMPT)
    terminal.type("word " * 200 + "\n")
    assert "context holds 64" in terminal.wait_for("\n" + PROMPT), "a message too long does not end the program"
    terminal.type("/reset\n")
    terminal.wait_for("\n" + PROMPT)
    terminal.type("/save talk.jsonl\n")
    assert "nothing to save" in terminal.wait_for("\n" + PROMPT)
    terminal.type(CTRL_D)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.seen


def test_ctrl_c_stops_an_answer_and_not_the_program(chat: Chat, endless_model: Path) -> None:
    terminal = chat(endless_model, "--max-new-tokens", "15000", "--temperature", "0")
    terminal.wait_for(PROMPT)
    terminal.type("go\n")
    terminal.wait_for("go")
    time.sleep(1.0)  # in the middle of the answer
    start = time.monotonic()
    terminal.type(CTRL_C)
    terminal.wait_for("(stopped)")
    assert time.monotonic() - start < 10
    terminal.wait_for(PROMPT)
    terminal.type("half a line")
    terminal.wait_for("half a line")
    terminal.interrupt()
    terminal.wait_for("Ctrl-C again")
    terminal.wait_for(PROMPT)
    terminal.type("/help\n")
    terminal.wait_for("/save")
    terminal.wait_for("\n" + PROMPT)
    terminal.interrupt()
    terminal.wait_for("Ctrl-C again")
    terminal.wait_for(PROMPT)
    terminal.interrupt()
    assert terminal.end() == 0
    assert "Traceback" not in terminal.seen
