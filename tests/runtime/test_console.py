"""Progress goes to stderr, data to stdout; a pipe gets plain lines; --quiet and --json are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from llmforge.errors import StopRequested
from llmforge.runtime import console as console_file
from llmforge.runtime.console import Console, duration, quantity
from llmforge.runtime.stop import StopSignals


def test_streams(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.say("working")
    console.detail("hidden")
    console.warn("careful")
    console.result("answer")
    out = capsys.readouterr()
    assert out.out == "answer\n"
    assert out.err == "working\nwarning: careful\n"


def test_quiet_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True, json=True)
    console.say("working")
    console.result("answer")
    console.warn("careful")
    with console.progress("x", total=3) as bar:
        bar.advance(3)
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "warning: careful\n")


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_file, "_PLAIN_EVERY_SECONDS", 0.0)
    with Console().progress("reading", total=2_000_000, unit="B") as bar:
        bar.advance(1_000_000, note="file a")
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("reading: 1.0 MB of 2.0 MB (50%)")
    assert first.endswith("left, file a")


def test_what_was_done_before_says_nothing_of_the_pace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_file, "_PLAIN_EVERY_SECONDS", 0.0)
    with Console().progress("training", 1000, "steps", done=900, paced=False):
        pass
    assert capsys.readouterr().err == ""
    with Console().progress("training", 1000, "steps", done=900, paced=False) as bar:
        bar._start -= 10  # type: ignore[attr-defined]
        bar.advance(50, "loss 3.2, 5.0 steps/s")
    line = capsys.readouterr().err.splitlines()[0]
    assert line == "training: 950 steps of 1,000 steps (95%), 10 s left, loss 3.2, 5.0 steps/s"


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3 s"), (60, "1:00"), (185, "3:05"), (3723, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "unit", "text"), [(999, "B", "999 B"), (1.5e6, "B", "1.5 MB"), (1234, "x", "1,234 x")]
)
def test_quantities(count: float, unit: str, text: str) -> None:
    assert quantity(count, unit) == text


def test_the_first_signal_asks(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(StopRequested, match="SIGTERM"):
            stop.check()
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_signal_ends_at_once() -> None:
    code = (
        "import os, signal, time\nfrom llmforge.runtime.stop import StopSignals\nme = os.getpid()\n"
        "with StopSignals():\n    os.kill(me, signal.SIGINT); os.kill(me, signal.SIGINT); time.sleep(30)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 130
