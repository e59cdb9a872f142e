"""Stop signals, really sent: the first is a question, the second the end; children and workers are left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmforge.errors import StopRequested
from llmforge.runtime.stop import SIGNALS, StopSignals, sheltered

LOOP = """
import sys, time
from llmforge.runtime.exits import guarded
from llmforge.runtime.stop import StopSignals
def work():
    with StopSignals() as stop:
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
            if "once" in sys.argv: stop.check()
sys.exit(guarded(work))
"""


def loop(*arguments: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", LOOP, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
def test_the_first_asks_and_the_second_ends(number: signal.Signals) -> None:
    child = loop("once")
    child.send_signal(number)
    errors = child.communicate(timeout=300)[1]
    assert child.returncode == 75 and f"stopped by {number.name}" in errors and "Traceback" not in errors
    child = loop()
    child.send_signal(number)
    assert child.stderr is not None and "once more stops at once" in child.stderr.readline()
    child.send_signal(signal.SIGTERM)
    errors = child.communicate(timeout=300)[1]
    assert child.returncode == 130 and errors == "stopped at once; what was saved last is whole\n"


LAST_WORDS = """
import sys, time
from llmforge.runtime.stop import StopSignals
from llmforge.runtime.run_folder import RunFolder
with RunFolder.open(sys.argv[1] + "/outer", "run", {}), RunFolder.open(sys.argv[1] + "/inner", "tokenize", {}):
    with StopSignals():
        print("ready", flush=True)
        time.sleep(60)
"""


def test_a_second_signal_leaves_a_record_that_says_stopped(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", LAST_WORDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for _ in range(2):
        child.send_signal(signal.SIGINT)
        time.sleep(0.5)
    child.communicate(timeout=60)
    assert child.returncode == 130
    for name in ("outer", "inner"):
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert (record["status"], record["exit_code"]) == ("stopped", 130) and record["end"] is not None


def test_last_words_that_fail_or_hang_do_not_keep_the_process() -> None:
    code = (
        "import os, signal, sys, time\nfrom llmforge.runtime.stop import StopSignals, last_words\n"
        "def hang(): print('hangs', flush=True); time.sleep(60)\ndef fail(): raise OSError('full')\n"
        "with StopSignals(), last_words(hang if 'hang' in sys.argv else fail):\n"
        "    print('ready', flush=True); time.sleep(60)\n"
    )
    for words, signals in (("fail", 2), ("hang", 3)):
        child = subprocess.Popen([sys.executable, "-c", code, words], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        for _ in range(signals):
            child.send_signal(signal.SIGTERM)
            time.sleep(0.5)
        child.communicate(timeout=30)
        assert child.returncode == 130


def test_a_signal_before_the_inner_one_counts_in_it() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignals() as outer:
        os.kill(os.getpid(), signal.SIGUSR1)
        with StopSignals() as inner:
            assert inner.requested and inner.signal_name == "SIGUSR1"
            with pytest.raises(StopRequested, match="SIGUSR1"):
                inner.check()
        assert outer.requested and signal.getsignal(signal.SIGTERM) == outer._handle
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_under_nohup_the_end_of_the_terminal_is_no_stop() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def blocked(pid: int) -> set[int]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            mask = int(line.split()[1], 16)
            return {number for number in range(1, 65) if mask >> (number - 1) & 1}
    raise AssertionError("no SigBlk")


def test_programs_that_are_started_in_the_shelter_do_not_get_the_signals() -> None:
    """A compiler in the same group goes on; this process still hears of the signal at once."""
    with StopSignals() as stop, sheltered():
        child = subprocess.Popen(["sleep", "30"])
        os.kill(child.pid, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        end = time.monotonic() + 20
        while not stop.requested and time.monotonic() < end:
            time.sleep(0.01)
        assert stop.requested and child.poll() is None
    if Path("/proc/self/status").exists():
        assert set(SIGNALS) <= blocked(child.pid) and not set(SIGNALS) & blocked(os.getpid())
    child.kill()
    child.wait()


WORKER = """
import multiprocessing, os, sys, time
from llmforge.runtime.worker_process import begin_worker, worker_context
def work(pipe):
    begin_worker()
    pipe.send(os.getpid())
    time.sleep(60)
if __name__ == "__main__":
    context = worker_context() if sys.argv[1] == "best" else multiprocessing.get_context(sys.argv[1])
    for _ in range(2):
        ours, theirs = context.Pipe()
        context.Process(target=work, args=(theirs,)).start()
        print(ours.recv(), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("way", ["spawn", "best"])
def test_workers_ignore_the_signals_and_go_with_their_parent(tmp_path: Path, way: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(WORKER)
    parent = subprocess.Popen([sys.executable, str(script), way], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    for number in SIGNALS:
        for worker in workers:
            os.kill(worker, number)
    time.sleep(0.1)
    for worker in workers:
        os.kill(worker, 0)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 30
    for worker in workers:
        while time.monotonic() < end and Path(f"/proc/{worker}").exists() and not zombie(worker):
            time.sleep(0.02)
        assert not Path(f"/proc/{worker}").exists() or zombie(worker)


CONTEXT = """
import os, threading
from llmforge.runtime.worker_process import load_with_one_thread, worker_context
before = dict(os.environ)
load_with_one_thread(["numpy"])
assert os.environ == before
print(worker_context().get_start_method())
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(worker_context().get_start_method())
"""


def test_only_a_process_of_one_thread_is_forked() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", CONTEXT], env=environment, capture_output=True, text=True, check=True)
    linux = Path("/proc/self/task").is_dir()
    assert done.stdout.split() == ["fork" if linux else "spawn", "spawn"]


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
